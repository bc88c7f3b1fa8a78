"""The parts of the pages that others wrote, fetched anew: `python -m tests.support.vendored`.

Versions are raised in `vendored.json` by hand. Then this asks npm for each package, copies the files that are named,
and writes checksums and licences. What it changes is to be read before it is committed.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

VENDOR: Final = Path(__file__).resolve().parents[2] / "gateway" / "api" / "static" / "vendor"
LIST: Final = VENDOR / "vendored.json"
LICENCES: Final = VENDOR / "LICENSES.txt"


def packages() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(LIST.read_text(encoding="utf-8"))["packages"]
    return found


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def refresh() -> None:
    texts = []
    listed = packages()
    for package in listed:
        with tempfile.TemporaryDirectory() as folder:
            source = _unpacked(f"{package['name']}@{package['version']}", Path(folder))
            told = json.loads((source / "package.json").read_text(encoding="utf-8"))
            package["licence"] = told["license"]
            for each in package["files"]:
                body = (source / each["from"]).read_bytes()
                (VENDOR / each["file"]).write_bytes(body)
                each["sha256"] = sha256_of(body)
            licence = (source / "LICENSE").read_text(encoding="utf-8").strip("\n")
            files = ", ".join(each["file"] for each in package["files"])
            head = f"{package['name']} {package['version']} ({package['licence']}): {files}"
            texts.append(f"{head}\n{'=' * len(head)}\n\n{licence}\n")
    LIST.write_text(json.dumps({"packages": listed}, indent=2) + "\n", encoding="utf-8")
    LICENCES.write_text("\n\n".join(texts), encoding="utf-8")


def _unpacked(package: str, folder: Path) -> Path:
    subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "package"


if __name__ == "__main__":
    refresh()
