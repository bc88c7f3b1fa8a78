"""What stands in addresses, behind the `?` and in headers: by its name, which means the same everywhere."""

import re
from typing import Final

from gateway.api.bodies import DEFAULT_LIMIT, MAX_LIMIT
from gateway.api.figure_replies import PARTS
from gateway.api.routes import Route
from gateway.api.schemas import Schema
from gateway.domain.order import KEY_PATTERN, OrderStatus
from gateway.flows.preflight import MOST_EXPECTED

PLACE: Final = re.compile(r"\{(\w+)\}")
_WORD: Final = {"type": "string", "maxLength": 64}
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": MOST_EXPECTED}
_QUERY: Final[dict[str, tuple[Schema, str]]] = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "How many items a page has at most.",
    ),
    "after": ({"type": "string", "pattern": "^[0-9A-Za-z_~]{1,64}$"}, "The `next` of the page before."),
    "status": (
        {"type": "string", "enum": sorted(frozenset(OrderStatus) - {OrderStatus.RESERVED})},
        "Only orders of this status.",
    ),
    "state": ({"const": "refund_due"}, "Which payments."),
    "expected_viewers": (_COUNT, "Viewers at once, in all rooms; 10,000 without it."),
    "expected_orders": (_COUNT, "Orders of the sale; one of each unit without it."),
    "part": ({"type": "string", "enum": list(PARTS)}, "Which part of the report; the first without it."),
    "room": (_WORD, "The room's id."),
    "sale": (_WORD, "The sale's id."),
}
_PLACES: Final[dict[str, tuple[Schema, str]]] = {
    "key": ({"type": "string", "pattern": KEY_PATTERN}, "An idempotency key."),
    "viewer": ({"type": "string", "pattern": "^vw_[0-9a-f]{18}$"}, "The pseudonym that the room shows."),
    "code": ({"type": "string", "minLength": 1, "maxLength": 64}, "The code that the viewer shows."),
    "checkout": ({"type": "string", "pattern": "^chk_[A-Za-z0-9_-]{32}$"}, "The payment's name."),
    "id": ({"type": "string", "minLength": 1, "maxLength": 64}, "The event's id."),
    "word": ({"type": "string", "minLength": 1, "maxLength": 50}, "The word."),
    "sku": ({"type": "string", "minLength": 1, "maxLength": 64}, "The item's sku."),
    "provider": ({"type": "string", "pattern": "^[a-z0-9_-]{1,32}$"}, "The provider's name."),
    **{
        name: ({"type": "string", "minLength": 1, "maxLength": 64}, about)
        for name, about in (
            ("tag", "Of the files as they are; another one after any change."),
            ("folder", "The folder's name."),
            ("file", "The file's name."),
        )
    },
    "shop": ({"type": "string", "pattern": "^[a-z0-9-]{1,64}$"}, "The shop's name."),
}
_HEADERS: Final[dict[str, tuple[Schema, str]]] = {
    **{
        name: ({"type": "string", "maxLength": 256}, about)
        for name, about in (
            ("webhook-id", "Of Standard Webhooks: the notice's own, the same each time."),
            ("webhook-timestamp", "Of Standard Webhooks: when it was sent, in seconds since 1970."),
            ("webhook-signature", "Of Standard Webhooks: by the provider's secret."),
        )
    },
    "Prefer": (
        {"type": "string", "examples": ["wait=5"]},
        "`wait=N`: answer once the order is confirmed, within N seconds (30 at most).",
    ),
}
KEY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "pattern": KEY_PATTERN},
    "description": "Chosen by the client for this act. The same key with the same content does nothing twice; with "
    "other content it is `key_reused`.",
}
REQUEST_ID: Final = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    "description": "Echoed in the answer; one of our own otherwise.",
}
ANSWERED: Final[dict[str, Schema]] = {
    "X-Request-Id": {"description": "Names this request in our logs.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "`true` when the key had been used before: nothing new happened.",
        "schema": {"const": "true"},
    },
    "Retry-After": {
        "description": "Seconds after which to repeat.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "WWW-Authenticate": {"description": "How to show who calls.", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "The `wait` that was granted.", "schema": {"type": "string"}},
}


def parameters_of(route: Route) -> list[Schema]:
    found: list[Schema] = []
    for name in PLACE.findall(route.path):
        schema, about = _PLACES.get(name, ({"type": "string", "minLength": 1}, f"The {name}'s id."))
        found.append(parameter(name, "path", schema, about, required=True))
    for name in route.query:
        schema, about = _QUERY[name]
        found.append(parameter(name, "query", schema, about, required=name in route.needs))
    for name in route.headers:
        schema, about = _HEADERS[name]
        found.append(parameter(name, "header", schema, about, required=name != "Prefer"))
    if route.keyed:
        found.append({"$ref": "#/components/parameters/IdempotencyKey"})
    found.append({"$ref": "#/components/parameters/RequestId"})
    return found


def parameter(name: str, where: str, schema: Schema, about: str, *, required: bool) -> Schema:
    told = {"description": about} if about else {}
    return {"name": name, "in": where, "required": required, "schema": schema, **told}
