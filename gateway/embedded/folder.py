"""The data folder: private, held by one gateway at a time, and where other commands find the running one.

Here: permissions, the lock, secrets, the place of the sockets and `servers.json`. Not here: the servers themselves.
"""

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gateway.errors import DataFolderInUse, SettingsError

# The kernel's sockaddr_un holds 108 bytes with the closing zero.
MAX_SOCKET_PATH_BYTES: Final = 107
# The longest name a server makes in the socket folder.
_LONGEST_SOCKET_NAME: Final = ".s.PGSQL.5432.lock"
_TEMP_PREFIX: Final = "peakgate-"
# Someone who only asks whether the folder is in use holds a shared lock for an instant; that is not a second gateway.
_LOCK_PATIENCE_S: Final = 0.5
_LOCK_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """What `servers.json` says about the gateway that holds the folder."""

    pid: int
    valkey_url: str
    rooms_valkey_url: str
    database_url: str
    embedded: bool
    url: str | None = None
    live_url: str | None = None
    admin_url: str | None = None


class DataFolder:
    """A folder only its owner can read; after `acquire` no other gateway uses it until `release` or our death."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self._lock_fd: int | None = None
        self._sockets: Path | None = None

    @property
    def held(self) -> bool:
        return self._lock_fd is not None

    async def acquire(self) -> None:
        """Make the folder if needed and take its lock, or say which process has it. Changes nothing when refused."""
        self._make()
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = asyncio.get_running_loop().time() + _LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if asyncio.get_running_loop().time() < deadline:
                    await asyncio.sleep(_LOCK_POLL_S)
                    continue
                holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
                os.close(fd)
                raise DataFolderInUse(
                    f"another gateway (process {holder}) runs on {self.path}; stop it, or choose another --data"
                ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd
        self._servers_file.unlink(missing_ok=True)

    def release(self) -> None:
        if self._lock_fd is None:
            return
        self._servers_file.unlink(missing_ok=True)
        fd, self._lock_fd = self._lock_fd, None
        # The file stays: taking it away would let two processes lock two files of the same name.
        os.ftruncate(fd, 0)
        os.close(fd)

    def find_running(self) -> RunningGateway | None:
        """The gateway that holds the folder now; a `servers.json` left behind by a killed one does not count."""
        try:
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._read_servers()
        else:
            return None
        finally:
            os.close(fd)

    def announce(self, running: RunningGateway) -> None:
        self._write_private(self._servers_file, json.dumps(asdict(running), indent=1).encode() + b"\n")

    def secret(self, name: str) -> bytes:
        """32 random bytes, made at the first call and the same ever after; needs the lock only to be made."""
        path = self.path / f"{name}.secret"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            made = secrets.token_bytes(32)
            self._write_private(path, made)
            return made

    def socket_folder(self) -> Path:
        """Where the servers' sockets go: inside the folder, or in a short private one when the path is too long."""
        if self._sockets is None:
            self._sockets = self._make_socket_folder()
        return self._sockets

    def _make_socket_folder(self) -> Path:
        inside = self.path / "run"
        remembered = self.path / "run.path"
        _remove_remembered(remembered)
        if len(os.fsencode(inside / _LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES:
            inside.mkdir(mode=0o700, exist_ok=True)
            return inside
        elsewhere = Path(tempfile.mkdtemp(prefix=_TEMP_PREFIX))
        self._write_private(remembered, os.fsencode(elsewhere))
        return elsewhere

    def remove_socket_folder(self) -> None:
        """The short private one, if there is one; the one inside the folder stays."""
        _remove_remembered(self.path / "run.path")

    @property
    def _servers_file(self) -> Path:
        return self.path / "servers.json"

    def _read_servers(self) -> RunningGateway | None:
        try:
            return RunningGateway(**json.loads(self._servers_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            # It is starting, or of another version: there is nothing to reach yet.
            return None

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            self._check_existing()
        except OSError as error:
            raise _refused(self.path, f"cannot be made: {error.strerror}") from error

    def _check_existing(self) -> None:
        try:
            facts = self.path.stat()
            if not stat.S_ISDIR(facts.st_mode):
                raise _refused(self.path, "is not a folder")
            if facts.st_uid != os.geteuid():
                raise _refused(self.path, f"belongs to another user (uid {facts.st_uid}, we are {os.geteuid()})")
            # Never close a folder that is somebody's home or /tmp: only an empty one, or one that was ours before.
            if not (self.path / "lock").exists() and any(self.path.iterdir()):
                raise _refused(self.path, "is not empty and is no data folder of a gateway")
            if stat.S_IMODE(facts.st_mode) != 0o700:
                self.path.chmod(0o700)
        except OSError as error:
            raise _refused(self.path, f"cannot be used: {error.strerror}") from error

    def _write_private(self, path: Path, content: bytes) -> None:
        """Appears complete or not at all, readable by its owner only."""
        fd, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{path.name}.")
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        os.replace(temporary, path)


def _refused(path: Path, why: str) -> SettingsError:
    return SettingsError(f"PEAKGATE_DATA: the data folder {path} {why}", param="PEAKGATE_DATA")


def _remove_remembered(remembered: Path) -> None:
    try:
        folder = Path(os.fsdecode(remembered.read_bytes()))
    except FileNotFoundError:
        return
    # Only what we made ourselves: the name is ours and so is the folder.
    if folder.name.startswith(_TEMP_PREFIX) and folder.is_dir() and folder.stat().st_uid == os.geteuid():
        shutil.rmtree(folder, ignore_errors=True)
    remembered.unlink(missing_ok=True)
