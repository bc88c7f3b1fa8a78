"""What the pages are made of: read at start, compressed once, and named by a tag that changes when any of it does.

Who asks for a file names one of a fixed list; nothing a client sends is ever made into a path.
"""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from gateway.errors import GatewayError

STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ts": "application/typescript",
    ".txt": "text/plain",
}
PAGE_SUFFIX: Final = ".html"
# Less would not fit into fewer packets.
_WORTH_PACKING: Final = 1000
_PACKED: Final = frozenset({".js", ".css", ".json", ".svg", ".ts", ".txt"})


class StaticFile(NamedTuple):
    body: bytes
    packed: bytes | None
    """The same with gzip, where that is less."""
    content_type: str
    etag: str
    """Of what it says, without the quotation marks."""


class Source(NamedTuple):
    """What the folder held at one moment."""

    tag: str
    files: Mapping[str, StaticFile]
    pages: Mapping[str, str]
    """The shells, not yet filled in, by their name without `.html`."""


Stamps = tuple[tuple[str, int, int], ...]


def stamps_of(root: Path) -> Stamps:
    """Other ones when anything under the folder was changed."""
    found = []
    for path in _paths(root):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue  # since it was listed
        found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def read_source(root: Path) -> Source:
    files: dict[str, StaticFile] = {}
    pages: dict[str, str] = {}
    whole = hashlib.sha256()
    for path in _paths(root):
        name = path.relative_to(root).as_posix()
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            continue
        whole.update(f"{name}\0{len(body)}\0".encode() + body)
        if path.suffix == PAGE_SUFFIX:
            pages[path.stem] = body.decode()
        else:
            files[name] = file_of(name, body)
    if not pages:
        raise GatewayError(f"The pages are not there: {root} is empty")
    return Source(whole.hexdigest()[:12], files, pages)


def file_of(name: str, body: bytes) -> StaticFile:
    suffix = PurePosixPath(name).suffix
    return StaticFile(
        body=body,
        packed=packed(body) if suffix in _PACKED else None,
        content_type=_TYPES[suffix],
        etag=etag_of(body),
    )


def packed(body: bytes) -> bytes | None:
    if len(body) < _WORTH_PACKING:
        return None
    # Without a time, so that every process packs the same.
    small = gzip.compress(body, 9, mtime=0)
    return small if len(small) < len(body) else None


def etag_of(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def _paths(root: Path) -> list[Path]:
    known = {*_TYPES, PAGE_SUFFIX}
    return sorted(path for path in root.rglob("*") if path.suffix in known and path.is_file())
