"""One admin port for all processes of `peakgate up`: asks each over its own socket, and marks whose figures are
whose."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_WITHIN_S = 2.0
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class AdminGather:
    """Serves `/metrics` (each sample with a label `process`), `/livez` and `/readyz` (200 when every process is
    ready)."""

    def __init__(self, sources: Mapping[str, Path]) -> None:
        self._sources = sources
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=15)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        texts = await self._ask_all("/metrics")
        families = _Merged({name: text for name, (status, text) in texts.items() if status == 200})
        registry = CollectorRegistry(auto_describe=False)
        registry.register(families)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": _CONTENT_TYPE})

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.Response:
        answers = await self._ask_all("/readyz")
        ready = all(status == 200 for status, _ in answers.values())
        processes = {name: "ready" if status == 200 else "not ready" for name, (status, _) in answers.items()}
        return web.json_response({"ready": ready, "processes": processes}, status=200 if ready else 503)

    async def _ask_all(self, path: str) -> dict[str, tuple[int, str]]:
        answers = await asyncio.gather(*(_ask(socket, path) for socket in self._sources.values()))
        return dict(zip(self._sources, answers, strict=True))


async def _ask(socket: Path, path: str) -> tuple[int, str]:
    """Status and text, or (0, '') from a process that does not answer."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(socket)), timeout=aiohttp.ClientTimeout(total=_WITHIN_S)
            ) as session,
            session.get(f"http://process{path}") as response,
        ):
            return response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0, ""


class _Merged(Collector):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for process, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                into.samples += [
                    sample._replace(labels={**sample.labels, "process": process}) for sample in family.samples
                ]
        yield from merged.values()
