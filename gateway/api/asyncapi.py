"""The live socket as an AsyncAPI 3.0 document, made from the frames' own types and the close codes."""

import inspect
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.api.problems import KINDS
from gateway.api.schemas import Schema, Schemas
from gateway.wire import shown
from gateway.wire.close_codes import MEANINGS, CloseCode, may_return
from gateway.wire.codec import JSON_PROTOCOL, MSGPACK_PROTOCOL
from gateway.wire.frames import MAX_FRAME_BYTES, FromViewer, ToViewer

ADDRESS: Final = "/v1/rooms/{room}/live"
ABOUT: Final = f"""\
One WebSocket a viewer and room, at the `live_url` of the room's HTTP object. The first frame is `hello`, within 5 s;
nothing else may follow before the `welcome`. Subprotocol `{JSON_PROTOCOL}` (text frames; also without one) or
`{MSGPACK_PROTOCOL}` (the same maps in binary frames). The token stands in the `Authorization` header of the upgrade or
in the hello, never in the address. Ignore fields, frames (`t`) and events (`k`) you do not know, and read an outcome
you do not know as a refusal.

Close codes 4000 to 4499 come back, with `retry_after_ms` of the `bye` or a random pause; 4500 to 4999 stay away."""

# What frames carry as maps, since it is told on as it was stored.
_INSIDE: Final[dict[tuple[str, str], Any]] = {
    ("Snapshot", "room"): shown.ShownRoom,
    ("Snapshot", "sales"): list[shown.ShownSale],
    ("Snapshot", "coupons"): list[shown.ShownCoupon],
    ("Snapshot", "pin"): shown.PinnedItem | shown.PinnedComment | None,
    ("Snapshot", "chat"): shown.ShownChat,
}
_UPGRADE: Final = {
    "401": "The token of the header is not good.",
    "403": "It is not for this room, or no shop lists the page's Origin.",
    "404": "There is no such room.",
    "429": "Too many from one address, or of one viewer; with Retry-After.",
    "503": "Full, or going away; with Retry-After.",
}


def asyncapi(live_url: str) -> Schema:
    """`live_url` is where the sockets are, with or without a path."""
    place = urlsplit(live_url)
    schemas = Schemas()
    from_viewer, to_viewer = FromViewer.__args__, ToViewer.__args__
    messages = {kind.__name__: _message(kind, schemas) for kind in (*from_viewer, *to_viewer)}
    _fill(schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Peakgate: the live socket",
            "version": version("peakgate"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "live": {"host": place.netloc, "protocol": place.scheme, "security": [_ref("securitySchemes", "token")]}
        },
        "channels": {
            "room": {
                "address": ADDRESS,
                "servers": [{"$ref": "#/servers/live"}],
                "parameters": {"room": {"description": "The room's id."}},
                "messages": {name: _ref("messages", name) for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
                "x-subprotocols": [JSON_PROTOCOL, MSGPACK_PROTOCOL],
                "x-upgrade-refusals": _UPGRADE,
                "x-close-codes": [
                    {"code": int(code), "name": code.name.lower(), "why": MEANINGS[code], "come_back": may_return(code)}
                    for code in CloseCode
                    if code in MEANINGS
                ],
            }
        },
        "operations": {
            "fromViewer": {
                "action": "receive",
                "summary": f"Frames of a viewer, {MAX_FRAME_BYTES} bytes at most.",
                "channel": {"$ref": "#/channels/room"},
                "messages": [{"$ref": f"#/channels/room/messages/{kind.__name__}"} for kind in from_viewer],
            },
            "toViewer": {
                "action": "send",
                "summary": "Frames of the gateway.",
                "channel": {"$ref": "#/channels/room"},
                "messages": [{"$ref": f"#/channels/room/messages/{kind.__name__}"} for kind in to_viewer],
            },
        },
        "components": {
            "messages": messages,
            "schemas": dict(sorted(schemas.components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _message(kind: Any, schemas: Schemas) -> Schema:
    about = kind.__dict__.get("__doc__")
    return {
        "name": kind.__struct_config__.tag,
        "title": kind.__name__,
        **({"summary": " ".join(inspect.cleandoc(about).split())} if about else {}),
        "payload": schemas.of(kind),
    }


def _fill(schemas: Schemas) -> None:
    """What the types of frames leave open, with what is known of it."""
    for (name, field), kind in _INSIDE.items():
        schemas.components[name]["properties"][field] = schemas.of(kind)
    events = [schemas.of(kind) for kind in shown.EVENTS]
    # A later version's event is one that clients ignore.
    schemas.components["Tick"]["properties"]["ev"] = {
        "type": "array",
        "items": {"anyOf": [*events, {"type": "object"}]},
    }
    schemas.components["Error"]["properties"]["code"] = {"type": "string", "enum": list(KINDS)}


def _ref(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
