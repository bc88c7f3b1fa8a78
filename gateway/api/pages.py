"""The pages for people: their shells filled in, and under which policy a browser shows them."""

import base64
import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import structlog

from gateway.api.pages_bundle import Unbundled, bundle_name, bundles_of
from gateway.api.pages_files import STATIC, Source, Stamps, StaticFile, etag_of, file_of, packed, read_source, stamps_of
from gateway.api.pages_modules import import_map, needed_by

log = structlog.get_logger(__name__)

# In the shells: addresses of files have `-` for a tag, and this stands where the modules are told of.
_NO_TAG: Final = "/static/-/"
_MODULES: Final = "<!-- modules -->"
_ENTRY: Final = re.compile(r'<script type="module" src="/static/-/([^"]+)">')
_STYLE: Final = re.compile(r'<link rel="stylesheet" href="/static/-/([^"]+)">')
_STYLE_LINES: Final = re.compile(_STYLE.pattern + r"\n")
# In our stylesheets no text holds the sign of a remark.
_CSS_REMARK: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_CSS_INDENT: Final = re.compile(r"\s*\n\s*")
# In development the folder is looked at again, but not for each of the files of one page.
_LOOK_EVERY_S: Final = 0.2
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]")


class Shell(NamedTuple):
    html: bytes
    packed: bytes | None
    etag: str
    script: str | None
    """The source expression of the script that stands in it, its import map."""


class Edition(NamedTuple):
    """Everything as it is served, of one tag."""

    tag: str
    files: Mapping[str, StaticFile]
    shells: Mapping[str, Shell]


class Site:
    """`dev`: the files may change while we run, and the pages say that there is a sign-in of development. `live_url` is
    where the sockets are, with `{room}` in the place of a room's id: a page that is told need not ask first."""

    def __init__(self, root: Path = STATIC, *, live_url: str = "", dev: bool = False) -> None:
        self._root = root
        self._live_url = live_url
        self.dev = dev
        self._stamps: Stamps = stamps_of(root) if dev else ()
        self._looked_s = time.monotonic()
        self._edition = self._read()

    def now(self) -> Edition:
        if self.dev and time.monotonic() - self._looked_s >= _LOOK_EVERY_S:
            stamps = stamps_of(self._root)
            if stamps != self._stamps:
                self._edition = self._read()
                self._stamps = stamps
            self._looked_s = time.monotonic()
        return self._edition

    def _read(self) -> Edition:
        told = {"peakgate-live": self._live_url, "peakgate-dev": "1" if self.dev else ""}
        return edition_of(read_source(self._root), {name: value for name, value in told.items() if value})


def edition_of(source: Source, told: Mapping[str, str]) -> Edition:
    """`told` is what the pages are told, by name."""
    files = dict(source.files)
    shells = {name: _shell(name, html, source, files, told) for name, html in source.pages.items()}
    return Edition(source.tag, files, shells)


def _shell(name: str, html: str, source: Source, files: dict[str, StaticFile], told: Mapping[str, str]) -> Shell:
    """The page filled in. Files that are made for it are put beside the others."""
    names = import_map(source.tag)
    html, styles = _one_stylesheet(name, html, source)
    files |= styles
    entry = _ENTRY.search(html)
    lines = [f'<meta name="{each}" content="{escape(value)}">' for each, value in told.items()]
    if entry is not None:
        # The map first: a browser that has begun with a module takes none any more.
        lines.append(f'<script type="importmap">{names}</script>')
        bundled = _bundles(entry[1], source)
        files |= bundled
        if bundled:
            html = html.replace(f"{_NO_TAG}{entry[1]}", f"{_NO_TAG}{bundle_name(entry[1])}")
        else:
            lines += [
                f'<link rel="modulepreload" href="{_NO_TAG}{module}">'
                for module in needed_by(entry[1], lambda path: _text(source, path))
            ]
    body = html.replace(_MODULES, "\n".join(lines)).replace(_NO_TAG, f"/static/{source.tag}/").encode()
    digest = base64.b64encode(hashlib.sha256(names.encode()).digest()).decode()
    return Shell(body, packed(body), etag_of(body), None if entry is None else f"'sha256-{digest}'")


def _bundles(entry: str, source: Source) -> dict[str, StaticFile]:
    """The page's modules as one file, and what it may load later; nothing where one is written as we cannot read it.
    The page then asks for each by itself, as they stand in the folder."""
    try:
        made = bundles_of(entry, lambda path: _text(source, path))
    except Unbundled as error:
        log.warning("page_not_bundled", entry=entry, why=str(error))
        return {}
    return {each.name: file_of(each.name, each.text.encode()) for each in made}


def _one_stylesheet(name: str, html: str, source: Source) -> tuple[str, dict[str, StaticFile]]:
    """The page with its stylesheets as one file, without remarks; as they are where one is not there."""
    asked = _STYLE.findall(html)
    found = [text for each in asked if (text := _text(source, each)) is not None]
    if len(asked) < 2 or len(found) < len(asked):
        return html, {}
    file = f"{name}.bundle.css"
    whole = _CSS_INDENT.sub("\n", _CSS_REMARK.sub("", "\n".join(found))).strip()
    links = _STYLE_LINES.sub("", html, count=len(asked) - 1)
    return _STYLE.sub(f'<link rel="stylesheet" href="{_NO_TAG}{file}">', links), {file: file_of(file, whole.encode())}


def _text(source: Source, path: str) -> str | None:
    found = source.files.get(path)
    return None if found is None else found.body.decode()


def origin_of(url: str | None) -> str | None:
    """Scheme, host and port of an address, as a policy may name them; None of what is no plain address.

    Hosts say where their streams are, so nothing that could end a source and begin another gets through.
    """
    try:
        parts = urlsplit(url or "")
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    if parts.scheme not in ("http", "https", "ws", "wss") or _HOST.fullmatch(host) is None:
        return None
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


def policy(
    *,
    script: str | None = None,
    live: str | None = None,
    stream: str | None = None,
    framed_by: Iterable[str] | None = None,
    dev: bool = False,
) -> str:
    """The Content-Security-Policy of a page. `live` and `stream` are where its socket and its stream are, `framed_by`
    the pages it may be part of beside our own; None: of none."""
    around = ["'none'"] if framed_by is None else ["'self'", *_origins(framed_by)]
    streams = _origins([stream or ""])
    directives = {
        "default-src": ["'none'"],
        "script-src": ["'self'", *([] if script is None else [script])],
        "style-src": ["'self'"],
        "img-src": ["'self'", "https:", "data:", "blob:", *(["http:"] if dev else [])],
        "connect-src": ["'self'", *_origins([live or ""]), *streams],
        "media-src": ["'self'", "blob:", *streams],
        "worker-src": ["'self'"],
        "manifest-src": ["'self'"],
        "font-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": around,
        # No text becomes markup or code, whoever wrote it; what we show is made of elements.
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in directives.items())


def _origins(urls: Iterable[str]) -> list[str]:
    return sorted({origin for url in urls if (origin := origin_of(url)) is not None})
