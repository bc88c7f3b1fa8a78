"""Whether this process lives, and whether it serves; without a token."""

from collections.abc import Callable, Iterable

from aiohttp import web

from gateway.api.middleware import Audience
from gateway.api.replies import LifeReply, ReadinessReply, json_reply
from gateway.api.routes import Route


class HealthRoutes:
    def __init__(self, *, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def routes(self) -> Iterable[Route]:
        yield Route(
            "GET", "/livez", self.livez, Audience.HEALTH, about="Whether the process lives.", gives={200: LifeReply}
        )
        yield Route(
            "GET",
            "/readyz",
            self.readyz,
            Audience.HEALTH,
            about="Whether the process serves: 503 while it starts or drains.",
            gives={200: ReadinessReply, 503: ReadinessReply},
        )

    async def livez(self, request: web.Request) -> web.Response:
        return json_reply(LifeReply(alive=True))

    async def readyz(self, request: web.Request) -> web.Response:
        """503 while starting and while draining."""
        ready = self._ready()
        return json_reply(ReadinessReply(ready=ready), status=200 if ready else 503)
