"""Loads `lua/` from a folder and calls each file by its name.

Scripts are sent by their hash; a server that lost its script cache is given the text once more. A script's own flags
(`#!lua`) make a server that is out of memory refuse it before its first write.
"""

from pathlib import Path
from typing import Any

from redis.commands.core import AsyncScript

from gateway.hot.connect import Client, hot_errors


def find_lua_folder() -> Path:
    """Inside an installed wheel the scripts lie in the package, in a checkout beside it."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_lua"
    return inside if inside.is_dir() else package.parent / "lua"


class Scripts:
    """One callable a file of the folder; a missing or misspelled one fails when it is named, at start."""

    def __init__(self, client: Client, folder: Path | None = None) -> None:
        self._client = client
        self._folder = folder or find_lua_folder()

    def named(self, name: str) -> "Script":
        text = (self._folder / f"{name}.lua").read_text(encoding="utf-8")
        return Script(self._client.register_script(text))


class Script:
    __slots__ = ("_script",)

    def __init__(self, script: AsyncScript) -> None:
        self._script = script

    async def __call__(self, keys: list[str], args: list[str | bytes | int]) -> Any:
        with hot_errors():
            return await self._script(keys=keys, args=args)
