"""A bad disk under a server: `bad_disk.c` compiled on the spot, and the file through which it is told what to do."""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("bad_disk.c")
_FORM = struct.Struct("4i")


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


class BadDisk:
    """`None` from `make` where this machine has no C compiler; the caller says so aloud."""

    def __init__(self, library: Path, orders: Path) -> None:
        self.environment = {"LD_PRELOAD": str(library), "PEAKGATE_BAD_DISK": str(orders)}
        with orders.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FORM.size)

    @classmethod
    def make(cls, folder: Path, server: str) -> "BadDisk | None":
        found = compiler()
        if found is None:
            return None
        library, orders = folder / f"bad_disk_{server}.so", folder / f"bad_disk_{server}"
        subprocess.run([found, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        orders.write_bytes(bytes(_FORM.size))
        return cls(library, orders)

    def tell(self, *, sync_ms: int = 0, failing_syncs: int = 0, full: bool = False) -> None:
        _FORM.pack_into(self._map, 0, sync_ms, failing_syncs, int(full), 0)

    def be_good(self) -> None:
        _FORM.pack_into(self._map, 0, 0, 0, 0, self.struck)

    @property
    def struck(self) -> int:
        """How often it was bad since it was told to be."""
        return int(_FORM.unpack_from(self._map, 0)[3])
