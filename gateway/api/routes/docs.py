"""The contract, served: as OpenAPI, as AsyncAPI and as a page for people. Made once, at start."""

import hashlib
from collections.abc import Iterable, Sequence

from aiohttp import hdrs, web

from gateway.api.asyncapi import asyncapi
from gateway.api.docs_page import POLICY, docs_page
from gateway.api.middleware import Audience, Handler
from gateway.api.openapi import encoded, openapi
from gateway.api.routes import Route

# A gateway of another version has another contract, so nobody keeps it for long.
_FRESH_S = 300


class DocsRoutes:
    """`write` is told of every route that is served, these among them, before the first request."""

    def __init__(self) -> None:
        self._bodies: dict[str, tuple[bytes, str]] = {}

    def write(self, routes: Sequence[Route], *, live_url: str) -> None:
        http, live = openapi(routes), asyncapi(live_url)
        self._bodies = {
            path: (body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')
            for path, body in (
                ("/openapi.json", encoded(http)),
                ("/asyncapi.json", encoded(live)),
                ("/docs", docs_page(http, live).encode()),
            )
        }

    def routes(self) -> Iterable[Route]:
        for path, content_type, about in (
            ("/openapi.json", "application/json", "This contract as OpenAPI 3.1."),
            ("/asyncapi.json", "application/json", "The live socket as AsyncAPI 3.0."),
            ("/docs", "text/html", "Both, for people."),
        ):
            yield Route(
                "GET",
                path,
                self._showing(path, content_type),
                Audience.ANY,
                about=about,
                gives={200: dict if content_type == "application/json" else content_type, 304: None},
                roles=(),
            )

    def _showing(self, path: str, content_type: str) -> Handler:
        async def show(request: web.Request) -> web.Response:
            body, tag = self._bodies[path]
            headers: dict[str, str] = {"ETag": tag, "Cache-Control": f"public, max-age={_FRESH_S}"}
            if content_type == "text/html":
                headers |= {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
            if tag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
                return web.Response(status=304, headers=headers)
            return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

        return show
