"""A small HTTP server on a real socket that answers what a test tells it, for clients of the gateway's HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http_server(answer: Answer) -> AsyncIterator[str]:
    """The URL of a server that gives every request to `answer`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def problem(status: int, code: str, **fields: object) -> web.Response:
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": f"about {code}", **fields}
    return web.json_response(body, status=status, content_type="application/problem+json")
