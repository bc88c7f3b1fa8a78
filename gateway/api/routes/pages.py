"""The pages for people, and what they are made of."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from aiohttp import hdrs, web

from gateway.api.middleware import Audience
from gateway.api.pages import Shell, Site, policy
from gateway.api.pages_files import etag_of
from gateway.api.routes import Route
from gateway.domain.room import Room
from gateway.errors import GatewayError, NotFound

_YEAR: Final = "public, max-age=31536000, immutable"
# Others' pages take the client by its plain name; a newer one reaches them soon.
_SHORT: Final = "public, max-age=300"
_ASK_FIRST: Final = "no-cache"
_ON_EVERY_PAGE: Final = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), display-capture=()",
}
# As the page that says so does by itself.
_LATER_S: Final = "5"
_PAGE: Final = "text/html"
_ANY_FILE: Final = "*/*"


class Rooms(Protocol):
    """`gateway.flows.room_book.RoomBook`."""

    async def get(self, room_id: str) -> Room: ...


class PageRoutes:
    def __init__(
        self, *, site: Site, rooms: Rooms, origins_of: Callable[[str], Awaitable[Iterable[str]]], live_url: str
    ) -> None:
        self._site = site
        self._rooms = rooms
        self._origins_of = origins_of
        self._live_url = live_url

    def routes(self) -> Iterable[Route]:
        yield Route(
            "GET",
            "/r/{room}",
            self.room,
            Audience.VIEWERS,
            about="The viewer's room, for people; 404 is a page as well.",
            gives={200: _PAGE, 304: None, 404: _PAGE, 503: _PAGE},
            roles=(),
        )
        yield Route(
            "GET",
            "/host",
            self.host,
            Audience.HOSTS,
            about="The host's console, for people.",
            gives={200: _PAGE, 304: None},
            roles=(),
        )
        for path, about in (
            ("/static/{file}", "A file of the pages by its plain name, such as the client `peakgate.js`."),
            ("/static/{tag}/{file}", "A file of the pages; kept for a year when `tag` is the present one."),
            ("/static/{tag}/{folder}/{file}", "The same, of a folder."),
        ):
            yield Route(
                "GET",
                path,
                self.file,
                Audience.ANY,
                about=about,
                gives={200: _ANY_FILE, 304: None},
                roles=(),
            )

    async def room(self, request: web.Request) -> web.Response:
        edition = self._site.now()
        try:
            room = await self._rooms.get(request.match_info["room"])
        except NotFound:
            return _page(request, edition.shells["no-room"], policy(), status=404)
        except GatewayError:
            return _page(request, edition.shells["later"], policy(), status=503, more={hdrs.RETRY_AFTER: _LATER_S})
        shell = edition.shells["room"]
        allowed = policy(
            script=shell.script,
            live=self._live_url,
            stream=room.stream_url,
            framed_by=await self._origins_of(room.shop),
            dev=self._site.dev,
        )
        return _page(request, shell, allowed)

    async def host(self, request: web.Request) -> web.Response:
        shell = self._site.now().shells["host"]
        return _page(request, shell, policy(script=shell.script, live=self._live_url, dev=self._site.dev))

    async def file(self, request: web.Request) -> web.Response:
        edition = self._site.now()
        asked = request.match_info
        found = edition.files.get("/".join(asked[part] for part in ("folder", "file") if part in asked))
        if found is None:
            raise NotFound("There is no such file.")
        keep = _SHORT if "tag" not in asked else _YEAR if asked["tag"] == edition.tag else _ASK_FIRST
        headers = {
            hdrs.CACHE_CONTROL: keep,
            # Anybody's page may use them: they are the same for all and hold nothing of anybody.
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        return _answer(request, found.body, found.packed, found.etag, found.content_type, headers)


def _page(
    request: web.Request,
    shell: Shell,
    allowed: str,
    *,
    status: int = 200,
    more: Mapping[str, str] = MappingProxyType({}),
) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: _ASK_FIRST, "Content-Security-Policy": allowed, **_ON_EVERY_PAGE, **more}
    # Under another policy it is another page: a browser that keeps the one would go on with the other.
    etag = f"{shell.etag}-{etag_of(allowed.encode())}"
    return _answer(request, shell.html, shell.packed, etag, _PAGE, headers, status=status)


def _answer(
    request: web.Request,
    body: bytes,
    packed: bytes | None,
    etag: str,
    content_type: str,
    headers: dict[str, str],
    *,
    status: int = 200,
) -> web.Response:
    headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    if packed is not None and _takes_gzip(request):
        body, etag = packed, f"{etag}-gz"
        coding = {hdrs.CONTENT_ENCODING: "gzip"}
    else:
        coding = {}
    headers[hdrs.ETAG] = f'"{etag}"'
    if status == 200 and etag in _known_to(request):
        return web.Response(status=304, headers=headers)
    return web.Response(status=status, body=body, content_type=content_type, charset="utf-8", headers=headers | coding)


def _takes_gzip(request: web.Request) -> bool:
    for part in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "").rstrip("0.") != "q="
    return False


def _known_to(request: web.Request) -> set[str]:
    """The tags of what the browser still has, in either coding."""
    given = request.headers.get(hdrs.IF_NONE_MATCH, "").split(",")
    return {tag.strip().removeprefix("W/").strip('"') for tag in given}
