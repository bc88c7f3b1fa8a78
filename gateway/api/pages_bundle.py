"""The modules of a page as one file: what it begins with is one request, and packs better than its parts.

Not a language's whole front end: it knows the forms in which our modules import and export, and says so of any other
(`Unbundled`). Each module becomes a function that gives what it exports; they stand in the order in which a browser
would run them. A module that is imported by a call is a file of its own, which begins with what the first one has.

Bundles name each other by where they stand and never by a tag: a page that is open while another edition takes the
place of its own goes on with its own first file, and does not begin a second time.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from gateway.api.pages_code import Code, read_code
from gateway.api.pages_modules import resolved

SUFFIX: Final = ".bundle.js"
# Both forms at once, because modules are run in the order in which they are named.
_FROM: Final = re.compile(
    r"^(?:import\b(?!\s*[(.])\s*(?P<taken>[^;\0]*?)\s*(?:\bfrom\s*)?|export\s*\{(?P<passed>[^}]*)\}\s*from\s*)"
    r"\0(?P<file>\d+)\0;?",
    re.MULTILINE,
)
_CALLED: Final = re.compile(r"\bimport\(\s*\0(\d+)\0\s*\)")
_EXPORT_NAMES: Final = re.compile(r"^export\s*\{([^}]*)\};?", re.MULTILINE)
_EXPORT_DECLARED: Final = re.compile(
    r"^export\s+(?=(?:async\s+)?function\s*\*?\s*(?P<function>[\w$]+)|class\s+(?P<class>[\w$]+)|(?P<const>const)\s)",
    re.MULTILINE,
)
_EXPORT_DEFAULT: Final = re.compile(r"^export\s+default\b", re.MULTILINE)
_LEFT_OVER: Final = re.compile(r"(?:^|(?<=[;}]))(?:export|import)\b(?!\s*[(:])|\bimport\.meta\b", re.MULTILINE)
_NAME: Final = re.compile(r"\s*([\w$]+)\s*=")
# Of what others wrote, mostly minified, only the first and the last statements are of interest.
_THEIR_IMPORT: Final = re.compile(r'(?:^|(?<=[;}\n]))import\s*\{([^}]*)\}\s*from\s*"([^"]+)";')
_THEIR_EXPORT: Final = re.compile(r'(?:^|(?<=[;}\n]))export\s*\{([^}]*)\}(?:\s*from\s*"([^"]+)")?;?')
_THEIR_DEFAULT: Final = re.compile(r"(?:^|(?<=[;}\n]))export default\b")
_THEIR_LEFT_OVER: Final = re.compile(r"(?:^|(?<=[;}\n]))(?:export|import)\b(?!\s*[(.:=])")
_SOURCE_MAP: Final = re.compile(r"//# sourceMappingURL=\S*\s*$")


class Unbundled(Exception):
    """A module is written in a way that is not known here; browsers may well know it."""


class Module(NamedTuple):
    name: str
    body: str
    """As the inside of a function."""
    imports: tuple[str, ...]
    """Files that have to be run before."""
    called: tuple[str, ...]
    """Files that it may load later."""


class Bundle(NamedTuple):
    name: str
    text: str
    modules: tuple[str, ...]


def bundle_name(entry: str) -> str:
    return entry.removesuffix(".js") + SUFFIX


def bundles_of(entry: str, sources: Callable[[str], str | None]) -> list[Bundle]:
    """That of the entry, then those that it may load later."""
    known: dict[str, Module] = {}
    first = _in_order(entry, sources, known, had=())
    found = [Bundle(bundle_name(entry), "", tuple(first))]
    texts = ["export const $modules = {};\n" + "".join(_defined(known[name], once=False) for name in first)]
    later = [name for module in first for name in known[module].called]
    done = set(first)
    for name in later:
        if name in done:
            continue
        done.add(name)
        own = _in_order(name, sources, known, had=first)
        later += [called for module in own for called in known[module].called]
        found.append(Bundle(bundle_name(name), "", tuple(own)))
        head = f'import {{ $modules }} from "{_way(bundle_name(name), bundle_name(entry))}";\n'
        texts.append(head + "".join(_defined(known[each], once=True) for each in own))
    return [
        bundle._replace(text=_with_calls(text, first, bundle.name)) for bundle, text in zip(found, texts, strict=True)
    ]


def _way(importer: str, file: str) -> str:
    way = posixpath.relpath(file, posixpath.dirname(importer))
    return way if way.startswith("../") else f"./{way}"


def _with_calls(text: str, first: Iterable[str], importer: str) -> str:
    """What is loaded later is in the file of its own; what is there already need not be loaded."""

    def call(match: re.Match[str]) -> str:
        name = match[1]
        if name in first:
            return f'Promise.resolve($modules["{name}"])'
        return f'import("{_way(importer, bundle_name(name))}").then(() => $modules["{name}"])'

    return re.sub(r"\0call ([^\0]+)\0", call, text)


def _in_order(
    entry: str, sources: Callable[[str], str | None], known: dict[str, Module], *, had: Iterable[str]
) -> list[str]:
    """A module after all that it imports; those of `had` were run before."""
    done: dict[str, bool] = dict.fromkeys(had, True)
    order: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            if not done[name]:
                raise Unbundled(f"{name} imports itself, by way of others")
            return
        done[name] = False
        if name not in known:
            source = sources(name)
            if source is None:
                raise Unbundled(f"there is no {name}")
            known[name] = _theirs(name, source) if name.startswith("vendor/") else _read(name, source)
        for each in known[name].imports:
            visit(each)
        done[name] = True
        order.append(name)

    visit(entry)
    return order


def _defined(module: Module, *, once: bool) -> str:
    return f'// {module.name}\n$modules["{module.name}"] {"??=" if once else "="} (() => {{\n{module.body}\n}})();\n'


def _read(name: str, source: str) -> Module:
    code = read_code(source)
    text = code.text
    imports: list[str] = []
    called: list[str] = []
    exports: dict[str, str] = {}

    def file_of(no: str) -> str:
        told = code.literals[int(no)][1:-1]
        file = resolved(told, importer=name)
        if file is None:
            raise Unbundled(f"{name} imports {told}")
        return file

    def imported(match: re.Match[str]) -> str:
        imports.append(file_of(match["file"]))
        if match["taken"] is not None:
            return _taken(match["taken"], imports[-1], name)
        return _passed_on(match["passed"], imports[-1], exports)

    def named(match: re.Match[str]) -> str:
        for inside, outside in _pairs(match[1]):
            if re.search(rf"\b(?:let|var)\b[^;()]*(?<![\w$.]){re.escape(inside)}(?![\w$])", text):
                raise Unbundled(f"{name} exports {inside}, which may change")
            exports[outside] = inside
        return ""

    def declared(match: re.Match[str]) -> str:
        names = [match["function"] or match["class"]] if not match["const"] else _declared(text, match.end(), name)
        exports.update({each: each for each in names})
        return ""

    def called_for(match: re.Match[str]) -> str:
        told = code.literals[int(match[1])][1:-1]
        if not told.startswith("."):
            return match[0]  # of others: a browser finds it by the import map
        called.append(file_of(match[1]))
        return f"\0call {called[-1]}\0"

    # The declarations first: they are looked at where they stand.
    text = _EXPORT_DECLARED.sub(declared, text)
    text = _FROM.sub(imported, text)
    text = _EXPORT_NAMES.sub(named, text)
    text = _EXPORT_DEFAULT.sub(lambda _: exports.setdefault("default", "$default") and "const $default =", text)
    text = _CALLED.sub(called_for, text)
    if (odd := _LEFT_OVER.search(text)) is not None:
        raise Unbundled(f"{name} has {text[odd.start() : odd.start() + 40]!r}")
    if code.awaits:
        raise Unbundled(f"{name} waits before it is there")
    body = f"{_filled(text, code)}\n{_given(exports)}"
    return Module(name, body, tuple(dict.fromkeys(imports)), tuple(dict.fromkeys(called)))


def _filled(text: str, code: Code) -> str:
    return re.sub(r"\0(\d+)\0", lambda match: code.literals[int(match[1])], text)


def _theirs(name: str, source: str) -> Module:
    imports: list[str] = []
    exports: dict[str, str] = {}

    def file_of(told: str) -> str:
        file = resolved(told, importer=name)
        if file is None:
            raise Unbundled(f"{name} imports {told}")
        return file

    def imported(match: re.Match[str]) -> str:
        imports.append(file_of(match[2]))
        return _taken(f"{{{match[1]}}}", imports[-1], name)

    def exported(match: re.Match[str]) -> str:
        if match[2] is not None:
            imports.append(file_of(match[2]))
            return _passed_on(match[1], imports[-1], exports)
        exports.update({outside: inside for inside, outside in _pairs(match[1])})
        return ""

    text = _THEIR_EXPORT.sub(exported, _THEIR_IMPORT.sub(imported, _SOURCE_MAP.sub("", source)))
    if _THEIR_DEFAULT.search(text):
        text = _THEIR_DEFAULT.sub("const $default =", text)
        exports["default"] = "$default"
    if (odd := _THEIR_LEFT_OVER.search(text)) is not None:
        raise Unbundled(f"{name} has {text[odd.start() : odd.start() + 40]!r}")
    return Module(name, f"{text.strip()};\n{_given(exports)}", tuple(dict.fromkeys(imports)), ())


def _taken(clause: str, file: str, importer: str) -> str:
    """What stands in the place of an import."""
    if not clause:
        return ""
    whole = re.fullmatch(r"\*\s*as\s+([\w$]+)", clause)
    if whole is not None:
        return f'const {whole[1]} = $modules["{file}"];'
    parts = re.fullmatch(r"(?:([\w$]+)\s*,?\s*)?(?:\{([^}]*)\})?", clause)
    if parts is None:
        raise Unbundled(f"{importer} imports {clause!r}")
    pairs = ([("default", parts[1])] if parts[1] else []) + _pairs(parts[2] or "")
    names = ", ".join(outside if outside == inside else f"{outside}: {inside}" for outside, inside in pairs)
    return f'const {{ {names} }} = $modules["{file}"];'


def _passed_on(clause: str, file: str, exports: dict[str, str]) -> str:
    exports.update({outside: f'$modules["{file}"].{inside}' for inside, outside in _pairs(clause)})
    return ""


def _pairs(names: str) -> list[tuple[str, str]]:
    """Of `a, b as c`: what it is called where it comes from, and where it goes."""
    found = []
    for each in filter(None, (part.strip() for part in names.split(","))):
        words = each.split()
        if len(words) not in (1, 3):
            raise Unbundled(f"{each!r} is no name")
        found.append((words[0], words[-1]))
    return found


def _declared(text: str, start: int, module: str) -> list[str]:
    """The names of `const a = …, b = …;`."""
    begin, depth = start + len("const "), 0
    names = []
    for at in range(begin, len(text)):
        sign = text[at]
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        elif depth == 0 and sign in ",;":
            name = _NAME.match(text, begin, at)
            if name is None:
                raise Unbundled(f"{module} exports {text[begin:at][:40]!r}")
            names.append(name[1])
            begin = at + 1
            if sign == ";":
                return names
    raise Unbundled(f"{module} has a declaration without an end")


def _given(exports: Mapping[str, str]) -> str:
    pairs = (outside if outside == inside else f"{outside}: {inside}" for outside, inside in exports.items())
    return f"return {{ {', '.join(pairs)} }};"
