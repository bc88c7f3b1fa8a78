"""Metrics and health of this process over HTTP. No token: the port is not for the outside."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

_KEEPALIVE_S: Final = 15.0


class AdminServer:
    """`/metrics`, `/livez`, `/readyz`, and `/` with what `health` says of this process."""

    def __init__(
        self,
        *,
        ready: Callable[[], bool],
        health: Callable[[], Mapping[str, object]],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._ready = ready
        self._health = health
        self._registry = registry
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/", self._root)
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=_KEEPALIVE_S, shutdown_timeout=1.0, handle_signals=False
        )

    async def start(self, host: str, port: int) -> int:
        """Listens, and says on which port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def start_on_socket(self, path: Path) -> None:
        """Listens on a Unix socket; one that a killed process left behind is replaced."""
        await self._runner.setup()
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at start
        await web.UnixSite(self._runner, path).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _livez(self, request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self._ready()
        return _json({"ready": ready}, status=200 if ready else 503)

    async def _root(self, request: web.Request) -> web.Response:
        return _json({"ready": self._ready(), **self._health()})


def _json(values: Mapping[str, object], *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(values), status=status, content_type="application/json")
