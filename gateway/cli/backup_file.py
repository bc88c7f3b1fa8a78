"""A backup on disk: a block that says what it is, then the ledger's dump as `pg_dump --format=custom` writes it.

The block has a fixed length, so that it can be written last: a file that is complete says so. The dump by itself is
`tail -c +8193 FILE`, for whoever has only PostgreSQL's own tools.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from gateway.errors import BackupUnusable

BLOCK_BYTES: Final = 8192
FORMAT: Final = 1
_KIND: Final = "peakgate ledger backup"
_CHUNK_BYTES: Final = 1 << 20


class BackupWriter:
    """Takes the dump in pieces; `finish` makes it a backup."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0
        file.write(b"\0" * BLOCK_BYTES)

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._digest.update(piece)
        self._bytes += len(piece)

    def finish(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Writes what it is a backup of, and returns all that stands in the block."""
        manifest = {
            "kind": _KIND,
            "format": FORMAT,
            **facts,
            "dump_bytes": self._bytes,
            "dump_sha256": self._digest.hexdigest(),
        }
        block = json.dumps(manifest, separators=(",", ":")).encode()
        if len(block) >= BLOCK_BYTES:
            raise BackupUnusable(f"the facts about the backup take {len(block)} bytes, more than {BLOCK_BYTES}")
        self._file.seek(0)
        self._file.write(block.ljust(BLOCK_BYTES - 1) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return manifest


@contextmanager
def new_backup(path: Path) -> Iterator[BackupWriter]:
    """A file that appears complete or not at all, readable by its owner only: it holds the shops' keys. An existing one
    is never written over."""
    if path.exists():
        raise BackupUnusable(f"{path} exists already; choose another name")
    partial = path.with_name(f"{path.name}.partial")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupUnusable(f"{partial} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield BackupWriter(file)
        os.link(partial, path)
    except FileExistsError:
        raise BackupUnusable(f"{path} exists already; choose another name") from None
    except OSError as error:
        raise BackupUnusable(f"{path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def read_manifest(path: Path) -> dict[str, Any]:
    """Raises BackupUnusable for what is no backup of ours, or of a newer format."""
    try:
        with path.open("rb") as file:
            block = file.read(BLOCK_BYTES)
    except OSError as error:
        raise BackupUnusable(f"{path} cannot be read: {error.strerror}") from error
    try:
        manifest: dict[str, Any] = json.loads(block)
    except ValueError:
        manifest = {}
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        raise BackupUnusable(f"{path} is no backup made by `peakgate backup`, or one that was never finished")
    if manifest["format"] > FORMAT:
        raise BackupUnusable(f"{path} was written by a newer version (format {manifest['format']})")
    return manifest


def check_dump(path: Path, manifest: dict[str, Any]) -> None:
    """Reads all of it: a backup that was cut off or changed is found before anything is replaced by it."""
    digest, size = hashlib.sha256(), 0
    for piece in dump_of(path):
        digest.update(piece)
        size += len(piece)
    if size != manifest["dump_bytes"]:
        raise BackupUnusable(f"{path} was cut off: {size} of {manifest['dump_bytes']} bytes are there")
    if digest.hexdigest() != manifest["dump_sha256"]:
        raise BackupUnusable(f"{path} was changed since it was written: its checksum is another one")


def dump_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(BLOCK_BYTES)
        while piece := file.read(_CHUNK_BYTES):
            yield piece


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
