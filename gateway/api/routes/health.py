"""Whether this process lives, and whether it serves; without a token."""

from collections.abc import Callable, Iterable

from aiohttp import web

from gateway.api.middleware import Audience
from gateway.api.replies import plain
from gateway.api.routes import Route


class HealthRoutes:
    def __init__(self, *, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/livez", self.livez, Audience.HEALTH)
        yield Route("GET", "/readyz", self.readyz, Audience.HEALTH)

    async def livez(self, request: web.Request) -> web.Response:
        return plain({"alive": True})

    async def readyz(self, request: web.Request) -> web.Response:
        """503 while starting and while draining."""
        ready = self._ready()
        return plain({"ready": ready}, status=200 if ready else 503)
