"""The HTTP contract as an OpenAPI 3.1 document, made from the routes and the types that they decode and encode.

A pure function: what the document says of an address is what its route says, what the middleware does around it, and
the table of errors.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.api.middleware import Audience
from gateway.api.parameters import ANSWERED, KEY_HEADER, PLACE, REQUEST_ID, parameter, parameters_of
from gateway.api.problems import KINDS, SAFE_METHODS, Problem
from gateway.api.routes import Route
from gateway.api.schemas import Schema, Schemas
from gateway.domain.caller import Role
from gateway.domain.webhook import EventType
from gateway.wire.objects import OrderReply, RoomReply, SaleReply
from gateway.wire.told import Moment

ABOUT: Final = """\
Money is integers in the smallest unit (`*_minor`), times are RFC 3339 with an offset. Ids are opaque strings.

Errors are `application/problem+json`. All but `outcome_unknown` promise that nothing happened; after that one repeat
with the same `Idempotency-Key`. What is expected at the peak (sold out, not started, too fast) is an outcome with 2xx,
not an error. Ignore fields you do not know, and read an outcome you do not know as a refusal.

The live socket of a room is described by `/asyncapi.json`."""

_ROLES: Final[dict[Audience, tuple[Role, ...]]] = {
    Audience.VIEWERS: (Role.VIEWER,),
    Audience.HOSTS: (Role.HOST,),
    Audience.ANY: tuple(Role),
    Audience.PROVIDERS: (),
    Audience.HEALTH: (),
}
_GIVEN: Final = {
    200: "Done, or found.",
    201: "Made.",
    202: "Taken up.",
    204: "Done; nothing to show.",
    303: "See the page.",
    304: "Not changed since.",
}


def openapi(routes: Iterable[Route]) -> Schema:
    schemas, refused = Schemas(), _Refusals()
    problem = schemas.of(Problem)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, refused)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Peakgate",
            "version": version("peakgate"),
            "summary": "The gateway a shop puts in front of its live-stream sales.",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": {str(kind): {"post": _event(kind, schemas)} for kind in EventType},
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {name: _refusal(codes, problem) for name, codes in sorted(refused.codes.items())},
            "parameters": {"IdempotencyKey": KEY_HEADER, "RequestId": REQUEST_ID},
            "headers": ANSWERED,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of the shop (HS256 or ES256, named by `kid`): `sub`, `shop`, `role`, `aud` "
                    "(`peakgate`), `exp` (24 h at most), optional `rooms`, `name`, `ref`. Its `role` is one of those "
                    "that an address lists.",
                }
            },
        },
    }


class BookingDueReply(Struct):
    """A booking whose show has started."""

    room: str
    sub: str
    booked_at: Moment


_EVENT_DATA: Final = {"order": OrderReply, "room": RoomReply, "sale": SaleReply, "booking": BookingDueReply}


def _event(kind: EventType, schemas: Schemas) -> Schema:
    """What the gateway sends to the shop's webhook."""
    return {
        "operationId": f"event_{kind.replace('.', '_')}",
        "tags": ["events"],
        "summary": f"Sent to the shop's webhook until it is taken: `{kind}`.",
        "parameters": [
            parameter("webhook-id", "header", {"type": "string"}, "The event's; the same each time.", required=True),
            parameter("webhook-timestamp", "header", {"type": "string"}, "Of this attempt, in s.", required=True),
            parameter("webhook-signature", "header", {"type": "string"}, "Of Standard Webhooks.", required=True),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "type": {"const": str(kind)},
                            "timestamp": {"type": "string", "format": "date-time"},
                            "data": schemas.of(_EVENT_DATA[kind.partition(".")[0]]),
                        },
                        "required": ["type", "timestamp", "data"],
                    }
                }
            },
        },
        "responses": {
            "2XX": {"description": "It is taken."},
            "default": {"description": "It is sent again, for a day."},
        },
    }


def roles_of(route: Route) -> tuple[Role, ...]:
    """Who may ask; nobody in particular where there is no token."""
    return _ROLES[route.audience] if route.roles is None else route.roles


def refusals(route: Route) -> list[str]:
    """Codes of every error an address may answer with, in the order of the contract's table."""
    codes = {"internal"}
    if route.audience is not Audience.HEALTH:
        codes |= {"overloaded", "unavailable"}
        if route.method not in SAFE_METHODS:
            codes.add("outcome_unknown")
    if roles_of(route):
        codes |= {"unauthorized", "forbidden", "rate_limited"}
    if route.takes is not None:
        codes |= {"bad_request", "too_large", "invalid"}
        if route.takes_as == "application/json":
            codes.add("unsupported")
    if route.keyed:
        codes |= {"bad_request", "key_reused"}
    if PLACE.search(route.path):
        # A name in an address may hold what no store takes.
        codes |= {"not_found", "invalid"}
    if route.query:
        codes.add("invalid")
    return sorted(codes | set(route.refuses), key=list(KINDS).index)


class _Refusals:
    """Answers that refuse: one for each set of codes of a status, for all addresses that share it."""

    def __init__(self) -> None:
        self.codes: dict[str, list[str]] = {}

    def of(self, codes: list[str]) -> Schema:
        name = ".".join(codes)
        self.codes[name] = codes
        return {"$ref": f"#/components/responses/{name}"}


def _operation(route: Route, schemas: Schemas, refused: _Refusals) -> Schema:
    roles = roles_of(route)
    operation: Schema = {
        "operationId": _operation_id(route),
        "tags": [group_of(route)],
        "summary": route.about,
        "security": [{"token": [str(role)]} for role in roles],
        "parameters": parameters_of(route),
        "responses": _responses(route, schemas, refused),
    }
    if route.takes is not None:
        kind, is_required = _body(route.takes)
        operation["requestBody"] = {
            "required": is_required,
            "content": {route.takes_as: {"schema": schemas.of(kind)}},
        }
    return operation


def group_of(route: Route) -> str:
    words = [word for word in route.path.split("/") if word and word != "v1"]
    return words[0] if route.path.startswith("/v1/") else "about"


def _operation_id(route: Route) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", route.path.removeprefix("/v1")).strip("_")
    return f"{route.method.lower()}_{words}"


def _body(takes: Any) -> tuple[Any, bool]:
    """The type of a body, and whether there must be one."""
    kinds = getattr(takes, "__args__", None)
    if kinds is None or type(None) not in kinds:
        return takes, True
    return next(kind for kind in kinds if kind is not type(None)), False


def _responses(route: Route, schemas: Schemas, refused: _Refusals) -> Schema:
    responses: dict[str, Schema] = {}
    for status, kind in route.gives.items():
        headers = ["X-Request-Id"]
        if route.keyed:
            headers.append("Idempotent-Replayed")
        if "Prefer" in route.headers:
            headers.append("Preference-Applied")
        responses[str(status)] = {
            "description": _GIVEN.get(status, "See the body."),
            "headers": _headers(headers),
            **_content(kind, schemas),
        }
    for status, codes in _by_status(refusals(route)).items():
        # The readiness of a process is told by its own body.
        told = responses.setdefault(str(status), refused.of(codes))
        if isinstance(route.gives.get(status), str):
            # A page of its own, and what stands around every address may refuse as it does elsewhere.
            told["content"] |= _refusal(codes, schemas.of(Problem))["content"]
    return dict(sorted(responses.items()))


def _refusal(codes: Sequence[str], problem: Schema) -> Schema:
    status = KINDS[codes[0]][0].value
    headers = ["X-Request-Id"]
    if status in (429, 503):
        headers.append("Retry-After")
    if status == 401:
        headers.append("WWW-Authenticate")
    told = {"properties": {"code": {"enum": list(codes)}, "status": {"const": status}}}
    return {
        "description": "; ".join(f"`{code}`: {KINDS[code][1]}" for code in codes) + ".",
        "headers": _headers(headers),
        "content": {"application/problem+json": {"schema": {"allOf": [problem, told]}}},
    }


def _content(kind: Any, schemas: Schemas) -> Schema:
    if kind is None:
        return {}
    if isinstance(kind, str):
        # Of bytes a schema says nothing.
        is_text = kind.startswith("text/")
        return {"content": {kind: {"schema": {"type": "string"} if is_text else {}}}}
    return {"content": {"application/json": {"schema": schemas.of(kind)}}}


def _headers(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _by_status(codes: Sequence[str]) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = {}
    for code in codes:
        found.setdefault(KINDS[code][0].value, []).append(code)
    return found


def encoded(document: Schema) -> bytes:
    return msgspec.json.encode(document)
