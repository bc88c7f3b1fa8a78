"""What the pages of the contract show is what the code does: every address, every close code, every frame."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from gateway.api.problems import KINDS
from gateway.api.routes.bookings import BookingRoutes
from gateway.api.routes.coupons import CouponRoutes
from gateway.api.routes.dev import DevRoutes
from gateway.api.routes.docs import DocsRoutes
from gateway.api.routes.export import ExportRoutes
from gateway.api.routes.figures import FigureRoutes
from gateway.api.routes.health import HealthRoutes
from gateway.api.routes.invariant import InvariantRoutes
from gateway.api.routes.links import LinkRoutes
from gateway.api.routes.moderation import ModerationRoutes
from gateway.api.routes.orders import OrderRoutes
from gateway.api.routes.pages import PageRoutes
from gateway.api.routes.payments import PaymentRoutes
from gateway.api.routes.pickups import PickupRoutes
from gateway.api.routes.preflight import PreflightRoutes
from gateway.api.routes.rooms import RoomRoutes
from gateway.api.routes.sales import SaleRoutes
from gateway.api.routes.sandbox import SandboxRoutes
from gateway.api.routes.webhooks import WebhookRoutes
from gateway.domain.comment import CommentOutcome
from gateway.domain.coupon import ClaimOutcome, ClaimState
from gateway.domain.order import OrderOutcome, OrderStatus
from gateway.wire import frames
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import JSON

ROOT: Final = Path(__file__).resolve().parent.parent.parent / "gateway"
API: Final = (ROOT / "api" / "README.md").read_text(encoding="utf-8")
WIRE: Final = (ROOT / "wire" / "README.md").read_text(encoding="utf-8")
PARTS: Final[tuple[Any, ...]] = (
    BookingRoutes,
    CouponRoutes,
    DevRoutes,
    DocsRoutes,
    ExportRoutes,
    FigureRoutes,
    HealthRoutes,
    InvariantRoutes,
    LinkRoutes,
    ModerationRoutes,
    OrderRoutes,
    PageRoutes,
    PaymentRoutes,
    PickupRoutes,
    PreflightRoutes,
    RoomRoutes,
    SaleRoutes,
    SandboxRoutes,
    WebhookRoutes,
)
SHOWN: Final = re.findall(r"^([<>]) (\{.*\})$", WIRE, re.MULTILINE)


def test_every_address_stands_in_its_page_once_and_none_that_is_not_there() -> None:
    # Made without what they stand on: which addresses there are needs none of it.
    served = [f"{route.method} {route.path}" for part in PARTS for route in part.routes(part.__new__(part))]
    assert sorted(re.findall(r"^\| `([A-Z]+ /[^`]*)`", API, re.MULTILINE)) == sorted(served)


def test_the_parts_looked_at_are_all_there_are() -> None:
    defined = {name for path in (ROOT / "api" / "routes").glob("*.py") for name in _classes(path)}
    assert {part.__name__ for part in PARTS} == defined


def _classes(path: Path) -> set[str]:
    return set(re.findall(r"^class (\w+Routes)\b", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_error_code_and_every_close_code_is_told() -> None:
    assert {code for code in KINDS if f"`{code}`" not in API} == set()
    told = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", WIRE, re.MULTILINE) for code in row.split(", ")}
    assert told == {int(code) for code in CloseCode} - {CloseCode.NO_STATUS, CloseCode.ABNORMAL}


@pytest.mark.parametrize("words", [CommentOutcome, OrderOutcome, OrderStatus, ClaimOutcome, ClaimState])
def test_every_outcome_and_state_is_told(words: type[StrEnum]) -> None:
    assert {word for word in words if f"`{word}`" not in WIRE} == set()


def test_every_frame_shown_of_a_viewer_is_one_that_is_taken() -> None:
    taken = {type(JSON.decode(frame.encode())) for side, frame in SHOWN if side == ">"}
    assert taken == set(frames.FromViewer.__args__)


def test_every_frame_shown_to_a_viewer_is_one_that_is_sent_with_no_field_that_is_not() -> None:
    kinds = {kind.__struct_config__.tag: kind for kind in frames.ToViewer.__args__}
    shown: set[Any] = set()
    for text in (frame for side, frame in SHOWN if side == "<"):
        told = msgspec.json.decode(text)
        kind = kinds[told["t"]]
        assert told.keys() - {"t"} <= set(kind.__struct_fields__), text
        required = kind.__struct_fields__[: len(kind.__struct_fields__) - len(kind.__struct_defaults__)]
        assert told.keys() >= set(required), text
        for event in told.get("ev", ()):
            if event["k"] == "comment":
                msgspec.convert(event, frames.ShownComment)
        shown.add(kind)
    assert shown == set(kinds.values())
