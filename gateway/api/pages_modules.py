"""Which modules a page needs before it can begin: followed through their imports, so that a browser asks for all of
them at once and not for one after the other."""

import json
import posixpath
import re
from collections.abc import Callable
from typing import Final

# Names that modules import by; what each is called under the static folder.
IMPORTS: Final = {
    "preact": "vendor/preact.js",
    "preact/hooks": "vendor/preact-hooks.js",
    "htm": "vendor/htm.js",
    "@preact/signals": "vendor/signals.js",
    "@preact/signals-core": "vendor/signals-core.js",
    "uplot": "vendor/uplot.js",
    "hls": "vendor/hls.js",
    "peakgate": "peakgate.js",
}
# `import … from "x"`, `import "x"`, `export … from "x"`; what is imported by a call is asked for when it is needed.
_STATIC_IMPORT: Final = re.compile(
    r"""(?:^|[;}\n])\s*(?:import|export)\b(?:[\w\s{},*$]*?\bfrom|(?<=import))?\s*["']([^"'$\n]+)["']"""
)


def import_map(tag: str) -> str:
    names = {name: f"/static/{tag}/{path}" for name, path in IMPORTS.items()}
    return json.dumps({"imports": names}, separators=(",", ":"))


def imports_of(source: str) -> list[str]:
    """What a module names, in its order."""
    return list(dict.fromkeys(_STATIC_IMPORT.findall(source)))


def resolved(name: str, *, importer: str) -> str | None:
    """The file that a name stands for; None for one that is not of ours."""
    if name.startswith(("./", "../")):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(importer), name))
        return None if path.startswith("..") else path
    return IMPORTS.get(name)


def needed_by(entry: str, read: Callable[[str], str | None]) -> list[str]:
    """The entry and all that it imports, nearest first."""
    found = [entry]
    for module in found:
        source = read(module)
        for name in imports_of(source) if source is not None else ():
            path = resolved(name, importer=module)
            if path is not None and path not in found and read(path) is not None:
                found.append(path)
    return found
