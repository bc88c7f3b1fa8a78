"""The documents of the contract are good ones, and say of every address what its route says."""

import json
from collections.abc import Iterator
from typing import Any, Final, get_origin

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import validate

from gateway.api.asyncapi import asyncapi
from gateway.api.contract import all_routes
from gateway.api.docs_page import docs_page
from gateway.api.middleware import Audience
from gateway.api.openapi import openapi, refusals, roles_of
from gateway.api.problems import KINDS, Problem
from gateway.api.replies import PageReply
from gateway.api.schemas import Schemas
from gateway.domain.webhook import EventType
from gateway.webhooks.events import event_body
from gateway.webhooks.ping import sample
from gateway.wire import frames
from gateway.wire.close_codes import CloseCode
from tests.unit.test_contract_pages import SHOWN

ROUTES: Final = all_routes()
HTTP: Final = openapi(ROUTES)
LIVE: Final = asyncapi("wss://live.example.com/v1/rooms/{room}/live")


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for part in node.values():
            yield from references(part)
    elif isinstance(node, list):
        for part in node:
            yield from references(part)


def found(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for word in reference[2:].split("/"):
        document = document[word.replace("~1", "/").replace("~0", "~")]
    return document


def test_the_http_contract_is_valid_openapi() -> None:
    validate(json.loads(msgspec.json.encode(HTTP)))


def test_every_address_says_what_it_does_and_what_it_answers() -> None:
    silent = [
        f"{route.method} {route.path}"
        for route in ROUTES
        if not route.about or (route.gives == {200: None} and route.method != "DELETE")
    ]
    assert silent == []


def test_every_list_goes_on_behind_a_cursor() -> None:
    for route in ROUTES:
        if get_origin(route.gives.get(200)) is PageReply:
            assert {"limit", "after"} <= set(route.query), route.path


def test_every_body_can_be_decoded_with_its_type() -> None:
    for route in ROUTES:
        if route.takes is not None:
            with pytest.raises(msgspec.DecodeError):
                msgspec.json.Decoder(route.takes).decode(b"[")


def test_every_code_an_address_may_refuse_with_is_one_of_the_table() -> None:
    assert {code for route in ROUTES for code in route.refuses} <= set(KINDS)
    assert all(code in KINDS for route in ROUTES for code in refusals(route))


def test_whoever_needs_a_token_is_told_so_and_which_roles_are_let_in() -> None:
    for route in ROUTES:
        operation = HTTP["paths"][route.path][route.method.lower()]
        assert [need["token"][0] for need in operation["security"]] == list(roles_of(route))
        assert ("401" in operation["responses"]) is ("unauthorized" in refusals(route))
    assert all(
        roles_of(route)
        for route in ROUTES
        if route.audience in (Audience.VIEWERS, Audience.HOSTS) and "/v1/" in route.path
    )


def test_a_keyed_act_asks_for_its_key_and_says_when_it_is_replayed() -> None:
    for route in ROUTES:
        operation = HTTP["paths"][route.path][route.method.lower()]
        asks = {"$ref": "#/components/parameters/IdempotencyKey"} in operation["parameters"]
        assert asks is route.keyed
        if route.keyed:
            good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            assert all("Idempotent-Replayed" in answer["headers"] for answer in good)


@pytest.mark.parametrize("document", [HTTP, LIVE], ids=["openapi", "asyncapi"])
def test_every_reference_leads_somewhere_and_nothing_is_left_over(document: Any) -> None:
    named = set(references(document))
    for reference in named:
        assert found(document, reference) is not None
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert schemas <= named


def test_the_bounds_of_a_body_are_those_it_is_decoded_with() -> None:
    item = HTTP["components"]["schemas"]["NewItem"]["properties"]
    assert item["sku"]["maxLength"] == 64 and item["limit_per_viewer"]["minimum"] == 1
    sale = HTTP["components"]["schemas"]["NewSale"]
    assert (sale["properties"]["items"]["minItems"], sale["properties"]["items"]["maxItems"]) == (1, 200)
    assert sale["properties"]["stock_display"]["enum"] == ["exact", "hidden", "low"]
    assert set(sale["required"]) == {"title", "currency", "opens_at", "closes_at", "items"}
    assert HTTP["components"]["schemas"]["ChangedSale"]["additionalProperties"] is False


class Leaf(msgspec.Struct, omit_defaults=True):
    name: str
    note: str | None = None
    count: int = 3


class Other(msgspec.Struct, tag="other"):
    leaf: Leaf | None


def test_what_is_left_out_by_default_is_not_required_and_what_may_be_null_says_so() -> None:
    schemas = Schemas()
    assert schemas.of(Leaf | Other) == {
        "anyOf": [{"$ref": "#/components/schemas/Leaf"}, {"$ref": "#/components/schemas/Other"}]
    }
    leaf, other = schemas.components["Leaf"], schemas.components["Other"]
    assert leaf["required"] == ["name"]
    assert leaf["properties"] == {
        "name": {"type": "string"},
        "note": {"type": "string"},
        "count": {"type": "integer", "default": 3},
    }
    assert other["required"] == ["type", "leaf"]
    assert other["properties"]["leaf"]["anyOf"][1] == {"type": "null"}


def test_a_page_is_called_by_what_is_in_it_and_two_types_never_share_a_name() -> None:
    schemas = Schemas()
    schemas.of(PageReply[Leaf])
    assert schemas.components["LeafPage"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Leaf"}

    class Twin(msgspec.Struct):
        pass

    Twin.__name__ = "Leaf"
    with pytest.raises(ValueError, match="two types are called Leaf"):
        schemas.of(Twin)


def test_every_event_of_a_webhook_is_told_with_what_it_carries() -> None:
    assert set(HTTP["webhooks"]) == set(EventType)
    for kind, told in HTTP["webhooks"].items():
        schema = told["post"]["requestBody"]["content"]["application/json"]["schema"]
        sent = json.loads(event_body(kind, sample(kind, now_ms=1_800_000_000_000), at_ms=1_800_000_000_000))
        jsonschema.validate(sent, {**schema, "components": HTTP["components"]})


def test_a_problem_is_described_as_it_is_sent() -> None:
    schema = HTTP["components"]["schemas"]["Problem"]
    assert set(schema["properties"]) == set(Problem.__struct_fields__)
    assert {"type", "title", "status", "detail", "code", "request_id", "retryable"} == set(schema["required"])


# The live socket.


def test_the_live_socket_has_the_shape_that_asyncapi_asks_for() -> None:
    assert LIVE["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= LIVE["info"].keys()
    assert LIVE["servers"]["live"]["host"] == "live.example.com" and LIVE["servers"]["live"]["protocol"] == "wss"
    channel = LIVE["channels"]["room"]
    assert set(channel["parameters"]) == {"room"} and "{room}" in channel["address"]
    for operation in LIVE["operations"].values():
        assert operation["action"] in ("send", "receive")
        # Messages of an operation are those of its channel, by reference.
        assert all(each["$ref"].startswith("#/channels/room/messages/") for each in operation["messages"])


def test_every_frame_is_a_message_of_its_side_and_every_close_code_is_told() -> None:
    for side, kinds in (("fromViewer", frames.FromViewer), ("toViewer", frames.ToViewer)):
        named = [each["$ref"].rsplit("/", 1)[1] for each in LIVE["operations"][side]["messages"]]
        assert named == [kind.__name__ for kind in kinds.__args__]
    told = {each["code"]: each["come_back"] for each in LIVE["channels"]["room"]["x-close-codes"]}
    assert set(told) == {int(code) for code in CloseCode} - {CloseCode.NO_STATUS, CloseCode.ABNORMAL}
    assert told[4029] and not told[4503]


@pytest.mark.parametrize(("side", "text"), SHOWN)
def test_every_recorded_frame_fits_the_schema_of_its_message(side: str, text: str) -> None:
    frame = json.loads(text)
    operation = "fromViewer" if side == ">" else "toViewer"
    fitting = [
        message
        for each in LIVE["operations"][operation]["messages"]
        if (message := found(LIVE, found(LIVE, each["$ref"])["$ref"]))["name"] == frame["t"]
    ]
    assert len(fitting) == 1
    jsonschema.validate(frame, {**fitting[0]["payload"], "components": LIVE["components"]})
    # An event that is none of those told would pass as one of a later version.
    kinds = {
        schema["properties"]["k"]["const"]: schema
        for schema in LIVE["components"]["schemas"].values()
        if "k" in schema.get("properties", {})
    }
    for event in frame.get("ev", ()):
        jsonschema.validate(event, {**kinds[event["k"]], "components": LIVE["components"]})


# The page.


def test_the_page_tells_every_address_frame_and_close_code_and_runs_nothing() -> None:
    page = docs_page(HTTP, LIVE)
    for route in ROUTES:
        assert f"<code>{route.method} {route.path}</code>" in page
    for kind in (*frames.FromViewer.__args__, *frames.ToViewer.__args__):
        assert f'id="{kind.__name__}"' in page
    assert "<script" not in page and "src=" not in page and "style=" not in page


def test_no_text_of_the_contract_becomes_markup_of_the_page() -> None:
    route = ROUTES[0]._replace(path="/v1/<b>", about="<script>alert(1)</script>")
    page = docs_page(openapi([route]), LIVE)
    assert "<script" not in page and "<b>" not in page
