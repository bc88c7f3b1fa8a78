"""The whole API against its own document: generated requests of every role, and what answers them.

Whatever is sent, the answer is one that the document tells: its status, its content type, its headers, the schema of
its body; and no fault of ours. Examples are drawn from the document itself, good ones and broken ones, always the same.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import hypothesis
import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode

from tests.support.api import ITEM, api_of
from tests.support.gateway import Gateway
from tests.support.room import showing
from tests.support.seat import MSGPACK

ROLES: Final = ("viewer", "host", "clerk", "service")
GOOD: Final = int(os.environ.get("CONTRACT_EXAMPLES", "4"))
BROKEN: Final = max(2, GOOD // 3)
"""Examples of each address; more are for a night."""
INSIST_TIMES: Final = 10
WITHIN_S: Final = 30
NOBODY: Final = "http://127.0.0.1:1025/nobody"
# Acts after which others find nothing to do any more.
FINAL: Final = ("/end", "/close")
JUDGED: Final = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@dataclass
class World:
    """A shop in which there is something of everything, and the tokens of its people."""

    url: str
    shop: str
    tokens: dict[str, str]
    session: requests.Session = field(default_factory=requests.Session)
    names: dict[str, list[str]] = field(default_factory=dict)
    """By what a path calls them."""

    def call(self, method: str, path: str, body: Any = None, *, role: str = "host") -> Any:
        for _ in range(INSIST_TIMES):
            answer = self.session.request(
                method,
                self.url + path,
                json=body,
                headers={"Authorization": f"Bearer {self.tokens[role]}", "Idempotency-Key": uuid.uuid4().hex},
                timeout=WITHIN_S,
            )
            if answer.status_code != 503:
                break
            time.sleep(0.2)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def fill(self) -> None:
        now = datetime.now(UTC)
        names: dict[str, list[str]] = {}
        for n in range(3):
            room = self.call("POST", "/v1/rooms", {"title": f"Show {n}"})["room"]
            self.call("POST", f"/v1/rooms/{room}/start")
            sale = self.call(
                "POST",
                "/v1/sales",
                {
                    "title": "Drop",
                    "room": room,
                    "currency": "CNY",
                    "opens_at": now.isoformat(),
                    "closes_at": (now + timedelta(hours=1)).isoformat(),
                    "items": [{**ITEM, "limit_per_viewer": 10, "stock": 1000}],
                },
            )["sale"]
            names.setdefault("room", []).append(room)
            names.setdefault("sale", []).append(sale)
            for _ in range(3):
                order = {"sale": sale, "sku": "tin", "quantity": 1}
                placed = self.call("POST", "/v1/orders", order, role="viewer")
                names.setdefault("order", []).append(placed["order"]["order"])
        coupon = {
            "title": "Off",
            "kind": "amount",
            "value_minor": 100,
            "copies": 1000,
            "limit_per_viewer": 100,
            "currency": "CNY",
            "claim_from": now.isoformat(),
            "valid_until": (now + timedelta(hours=2)).isoformat(),
        }
        paths = self.document["paths"]
        if "/v1/coupons" in paths:
            names["coupon"] = [self.call("POST", "/v1/coupons", coupon)["coupon"]]
        if "/v1/webhook" in paths:
            self.call("PUT", "/v1/webhook", {"url": NOBODY, "events": ["sale.closed"]}, role="service")
        names |= {"sku": ["tin"], "viewer": ["vw_" + "0" * 18], "word": ["foo"], "shop": [self.shop], "key": ["k"]}
        self.names = names

    @property
    def document(self) -> Any:
        return json.loads(self.session.get(f"{self.url}/openapi.json", timeout=WITHIN_S).content)


@pytest.fixture(scope="module")
def world(gateway: Gateway) -> Iterator[World]:
    shop = f"fuzz-{uuid.uuid4().hex[:8]}"
    tokens = {role: gateway.token(f"some-{role}", role, shop=shop) for role in ROLES}
    world = World(gateway.url, shop, tokens)
    try:
        world.fill()
        yield world
    finally:
        world.session.close()


def tried(world: World, operation: Any, mode: GenerationMode, most: int) -> dict[str, int]:
    """How often each status was answered. Raises what a check found wrong."""
    seen: dict[str, int] = {}
    roles = [need["token"][0] for need in operation.definition.raw.get("security", ())]

    @hypothesis.seed(1)
    @hypothesis.settings(
        max_examples=most,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def one(case: Any, data: st.DataObject) -> None:
        for name in case.path_parameters or {}:
            known = world.names.get(name)
            # Mostly things that are there: of the others every address says the same.
            if known and data.draw(st.integers(0, 4)):
                case.path_parameters[name] = data.draw(st.sampled_from(known))
        if isinstance(case.query, dict):
            for name in ("room", "sale"):
                if name in case.query and data.draw(st.booleans()):
                    case.query[name] = data.draw(st.sampled_from(world.names[name]))
        if isinstance(case.body, dict):
            for name in ("room", "sale", "coupon"):
                if isinstance(case.body.get(name), str) and data.draw(st.booleans()):
                    case.body[name] = data.draw(st.sampled_from(world.names.get(name, [""])))
            if "url" in case.body and operation.path.startswith("/v1/webhook"):
                case.body["url"] = NOBODY  # whatever is generated, nobody else is called
        role = data.draw(st.sampled_from([*roles * 4, *ROLES]))
        headers = {"Authorization": f"Bearer {world.tokens[role]}"}
        for _ in range(INSIST_TIMES):
            answer = case.call(base_url=world.url, headers=headers, session=world.session, timeout=WITHIN_S)
            # Told with 503 what is to be asked again is no fault; that it stays so would be one.
            if answer.status_code != 503 or operation.path == "/readyz":
                break
            case.validate_response(answer, checks=judged)
            time.sleep(0.2)
        case.validate_response(answer, checks=judged)
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        seen[str(answer.status_code)] = seen.get(str(answer.status_code), 0) + 1

    judged = CHECKS.get_by_names(JUDGED)
    one()
    return seen


def test_every_answer_to_generated_requests_is_one_that_the_document_tells(world: World) -> None:
    schema = schemathesis.openapi.from_dict(world.document)
    operations = sorted(
        (found.ok() for found in schema.get_all_operations()), key=lambda each: each.path.endswith(FINAL)
    )
    seen: dict[str, dict[str, int]] = {}
    wrong: dict[str, str] = {}
    for operation in operations:
        for mode, most in ((GenerationMode.POSITIVE, GOOD), (GenerationMode.NEGATIVE, BROKEN)):
            try:
                counted = tried(world, operation, mode, most)
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing about it can be broken
            except (AssertionError, FailureGroup) as error:
                wrong[f"{operation.label} {mode.value}"] = str(error)
                continue
            statuses = seen.setdefault(operation.label, {})
            for status, count in counted.items():
                statuses[status] = statuses.get(status, 0) + count
    assert not wrong, "\n\n".join(f"{label}: {what}" for label, what in wrong.items())
    # A token that nobody lets in would pass everything above.
    served = [label for label, statuses in seen.items() if any(status < "400" for status in statuses)]
    assert len(served) > len(seen) // 2, seen
    assert len(seen) == len(operations)


def test_every_role_that_the_document_lets_in_is_let_in_and_no_other(world: World) -> None:
    wrong = []
    for path, methods in world.document["paths"].items():
        place = path
        for name, known in world.names.items():
            place = place.replace("{" + name + "}", known[0])
        place = place.replace("{", "").replace("}", "")
        for method, operation in methods.items():
            allowed = {need["token"][0] for need in operation["security"]}
            if not allowed or path.endswith(FINAL):
                continue
            for role in ROLES:
                # Without a body or a key nothing is done: who is let in is told what is missing, or not there.
                answer = world.session.request(
                    method,
                    world.url + place,
                    headers={"Authorization": f"Bearer {world.tokens[role]}"},
                    timeout=WITHIN_S,
                    data=b"[" if "requestBody" in operation else None,
                )
                said = "" if answer.status_code < 400 else answer.json()["code"]
                if (said == "forbidden") is (role in allowed):
                    wrong.append((method, path, role, said))
    assert wrong == []


async def test_every_frame_of_a_show_fits_what_the_document_says_of_it(gateway: Gateway) -> None:
    async with api_of(gateway) as api, showing(api, stock=20) as show:
        document = (await api.call("GET", "/asyncapi.json")).json
        host, viewer = await show.enter("host", host=True), await show.enter(codec=MSGPACK)
        said = await viewer.comment("Good evening")
        await viewer.say({"t": "like", "n": 3})
        await show.act("POST", "announcements", {"text": "Ten more"})
        await show.act("PUT", "pin", {"sale": show.sale, "sku": "tin"})
        await show.act("PUT", "pin", {"comment": said["comment"]})
        await show.act("DELETE", "pin")
        await show.act("PATCH", "chat", {"slow_mode_s": 5})
        order = await viewer.order(show.sale)
        assert order["outcome"] == "reserved"
        await viewer.hear("order", order=order["order"], status="confirmed")
        await viewer.order(show.sale, key="k2", quantity=999)
        await viewer.order("sale_none", key="k3")
        await viewer.ask({"t": "claim", "id": "c", "coupon": "cpn_none"})
        priced = await api.call("PATCH", f"/v1/sales/{show.sale}", {"items": [{"sku": "tin", "price_minor": 1800}]})
        assert priced.status == 200, priced.text
        await show.steer("pause")
        await viewer.event("sale", state="paused")
        await show.act("DELETE", f"comments/{said['comment']}")
        back = await show.enter(viewer.sub, pending=[{"sale": show.sale, "key": "k1"}])
        await show.act("POST", "end")
        for seat in (host, viewer, back):
            await seat.bye()
        heard = [frame for seat in (host, viewer, back) for frame in seat.frames]
    messages = [
        document["components"]["messages"][_last(each)] for each in document["operations"]["toViewer"]["messages"]
    ]
    payloads = {message["name"]: message["payload"] for message in messages}
    events = {
        schema["properties"]["k"]["const"]: schema
        for schema in document["components"]["schemas"].values()
        if "k" in schema.get("properties", {})
    }
    for frame in heard:
        jsonschema.validate(frame, {**payloads[frame["t"]], "components": document["components"]})
        for event in frame.get("ev", ()):
            jsonschema.validate(event, {**events[event["k"]], "components": document["components"]})
    told = {event["k"] for frame in heard for event in frame.get("ev", ())}
    assert told >= {"comment", "comment_gone", "announce", "pin", "chat", "price", "sale", "stock", "room"}
    assert {frame["t"] for frame in heard} >= {"welcome", "snapshot", "tick", "reply", "order", "error", "bye"}


def _last(reference: dict[str, str]) -> str:
    return reference["$ref"].rsplit("/", 1)[1]
