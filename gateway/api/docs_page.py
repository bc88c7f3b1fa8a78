"""The contract as a page for people: one HTML document without a script, made from the two documents."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from gateway.api.schemas import Schema

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd; }
nav a { margin-right: .8rem; } a { color: #0b5394; }
details { border-bottom: 1px solid #eee; padding: .25rem 0; } summary { cursor: pointer; }
summary code { font-weight: 600; } .who { color: #666; float: right; margin-left: 1rem; }
.note code { font-weight: 400; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td, th { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #f2f2f2; }
code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
.note { color: #555; }
@media (prefers-color-scheme: dark) { body { background: #16181a; color: #ddd; } a { color: #8ab4f8; }
  td, th, details, h2 { border-color: #333; } .who, .note { color: #999; } }
"""
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
_CODE: Final = re.compile(r"`([^`]*)`")
_METHODS: Final = ("get", "put", "post", "patch", "delete")


def docs_page(http: Schema, live: Schema) -> str:
    paths: Mapping[str, Mapping[str, Schema]] = http["paths"]
    groups: dict[str, list[str]] = {}
    for path, operations in sorted(paths.items()):
        for method in _METHODS:
            if method in operations:
                group = operations[method]["tags"][0]
                groups.setdefault(group, []).append(_operation(http, method, path, operations[method]))
    groups["about"] = groups.pop("about", [])
    groups["events"] = [_event(kind, told["post"]) for kind, told in http["webhooks"].items()]
    anchors = [*groups, "live", "closing", "objects"]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Peakgate: the contract</title><style>{_STYLE}</style></head><body>",
            f"<h1>Peakgate {escape(http['info']['version'])}: the contract</h1>",
            '<p><a href="/openapi.json">openapi.json</a> (HTTP, OpenAPI 3.1) · ',
            '<a href="/asyncapi.json">asyncapi.json</a> (the live socket, AsyncAPI 3.0)</p>',
            "<nav>" + "".join(f'<a href="#{escape(each)}">{escape(each)}</a>' for each in anchors) + "</nav>",
            _text(http["info"]["description"]),
            *(f'<h2 id="{escape(group)}">{escape(group)}</h2>{"".join(rows)}' for group, rows in groups.items()),
            '<h2 id="live">live</h2>',
            _text(live["info"]["description"]),
            *_frames(live),
            '<h2 id="closing">closing</h2>',
            _close_codes(live),
            '<h2 id="objects">objects</h2>',
            *_objects({**live["components"]["schemas"], **http["components"]["schemas"]}),
            "</body></html>",
        )
    )


def _operation(http: Schema, method: str, path: str, operation: Schema) -> str:
    who = " · ".join(role for need in operation["security"] for role in need["token"]) or "no token"
    if len(operation["security"]) > 3:
        who = "any"
    asks: list[tuple[str, str]] = []
    for parameter in operation["parameters"]:
        if "$ref" in parameter:
            parameter = http["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
        name = parameter["name"] + ("" if parameter["required"] else "?")
        about = _inline(parameter.get("description", ""))
        asks.append(
            (
                f"<code>{escape(name)}</code> <span class=note>{parameter['in']}</span>",
                f"{about} {_kind(parameter['schema'])}",
            )
        )
    body = operation.get("requestBody")
    if body is not None:
        for content_type, content in body["content"].items():
            optional = "" if body["required"] else ", or none"
            asks.append((f"body <span class=note>{escape(content_type)}{optional}</span>", _kind(content["schema"])))
    answers: list[tuple[str, str]] = []
    for status, response in operation["responses"].items():
        if "$ref" in response:
            response = http["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        kinds = "".join(
            f" {_kind(content['schema'])}" if name != "application/problem+json" else ""
            for name, content in response.get("content", {}).items()
        )
        answers.append((f"<code>{status}</code>", _inline(response["description"]) + kinds))
    return (
        f"<details><summary><code>{method.upper()} {escape(path)}</code> <span class=who>{escape(who)}</span> "
        f"<span class=note>{_inline(operation['summary'])}</span></summary>{_table(asks)}{_table(answers)}</details>"
    )


def _event(kind: str, told: Schema) -> str:
    schema = told["requestBody"]["content"]["application/json"]["schema"]
    rows = [(f"<code>{escape(name)}</code>", _kind(part)) for name, part in schema["properties"].items()]
    head = f"<code>{escape(kind)}</code> <span class=note>{_inline(told['summary'])}</span>"
    return f"<details><summary>{head}</summary>{_table(rows)}</details>"


def _frames(live: Schema) -> Iterable[str]:
    sides = {"fromViewer": "from the viewer", "toViewer": "to the viewer"}
    for name, side in sides.items():
        rows = []
        for each in live["operations"][name]["messages"]:
            message = live["components"]["messages"][each["$ref"].rsplit("/", 1)[1]]
            rows.append(
                (
                    f"<code>{escape(message['name'])}</code>",
                    f"{_kind(message['payload'])} <span class=note>{_inline(message.get('summary', ''))}</span>",
                )
            )
        yield f"<h3>{side}</h3><p class=note>{_inline(live['operations'][name]['summary'])}</p>{_table(rows)}"


def _close_codes(live: Schema) -> str:
    room = live["channels"]["room"]
    codes = [
        (
            f"<code>{each['code']}</code>",
            f"{_inline(each['why'])} {'Come back.' if each['come_back'] else 'Stay away.'}",
        )
        for each in room["x-close-codes"]
    ]
    refusals = [(f"<code>{status}</code>", _inline(why)) for status, why in room["x-upgrade-refusals"].items()]
    return f"{_table(codes)}<p>Before the upgrade the answer is HTTP:</p>{_table(refusals)}"


def _objects(schemas: Mapping[str, Schema]) -> Iterable[str]:
    for name, schema in sorted(schemas.items()):
        required = schema.get("required", ())
        rows = [
            (f"<code>{escape(field)}{'' if field in required else '?'}</code>", _kind(kind))
            for field, kind in schema.get("properties", {}).items()
        ]
        about = _inline(schema.get("description", ""))
        head = f"<summary><code>{escape(name)}</code> <span class=note>{about}</span></summary>"
        yield f'<details id="{escape(name)}">{head}{_table(rows)}</details>'


def _kind(schema: Any) -> str:
    """A schema in a few words; an object by its name, with a link to it."""
    if not schema:
        return "any"
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " · ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items'))}{_bounds(schema, 'minItems', 'maxItems')}"
    words = str(schema.get("type", "any"))
    if "format" in schema:
        words += f" ({escape(schema['format'])})"
    words += _bounds(schema, "minimum", "maximum") + _bounds(schema, "minLength", "maxLength")
    if "pattern" in schema:
        words += f" <code>{escape(schema['pattern'])}</code>"
    return words


def _bounds(schema: Schema, least: str, most: str) -> str:
    if least in schema and most in schema:
        return f", {schema[least]:,} to {schema[most]:,}"
    if most in schema:
        return f", {schema[most]:,} at most"
    return f", {schema[least]:,} at least" if least in schema else ""


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td>{left}</td><td>{right}</td></tr>" for left, right in rows)
    return f"<table>{lines}</table>" if lines else ""


def _text(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n"))


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
