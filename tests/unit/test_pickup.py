"""Pickup codes: what people make of them, their pictures, and how slow guessing is."""

import io
from typing import Any

import pytest
import segno

from gateway.admission.limiter import Limiter
from gateway.api.people_replies import pickup_png, pickup_svg
from gateway.app.people import (
    FAILED_OF_SHOP_BURST,
    FAILED_OF_SHOP_PER_S,
    FAILED_REDEEMS_BURST,
    FAILED_REDEEMS_PER_S,
    REDEEMS_BURST,
    REDEEMS_PER_S,
)
from gateway.domain.caller import Caller, Role
from gateway.domain.drafts import Effect
from gateway.domain.ids import OrderId
from gateway.domain.order import Order, OrderStatus
from gateway.domain.pickup import read_code, shown_code
from gateway.errors import Forbidden, LedgerUnavailable, NotFound, OutcomeUnknown, RateLimited
from gateway.flows.pickups import RedeemPickup
from tests.support.fake_clock import FakeClock

CODE = "0123456789"
CLERK = Caller(shop="tins", sub="clerk", role=Role.CLERK, expires_at_s=2**31)


@pytest.mark.parametrize(
    "text", ["ABCDE-FGHJK", "abcdefghjk", "ABCDE FGHJK", " a-b-c-d-e-f-g-h-j-k ", "ABCDE--FGHJK", "AbCdE-fGhJk\t"]
)
def test_a_code_is_read_however_it_was_typed(text: str) -> None:
    assert read_code(text) == "ABCDEFGHJK"


def test_what_is_taken_for_a_digit_is_that_digit() -> None:
    assert read_code("oOiIl-L0101") == "0011110101"


@pytest.mark.parametrize(
    "text", ["", "-", "ABCDE-FGHJ", "ABCDE-FGHJKM", "ABCDE-FGHJU", "ABCDE_FGHJK", "ABCDE-FGHJ\u00c9", "0" * 99]
)
def test_what_can_be_no_code_is_none(text: str) -> None:
    assert read_code(text) is None


def test_the_picture_holds_the_code_as_it_is_read() -> None:
    expected = segno.make_qr("01234-56789", error="q", boost_error=False)
    drawn = io.BytesIO()
    expected.save(drawn, kind="png", scale=8, light="#fff")
    assert pickup_png(CODE) == drawn.getvalue()
    assert pickup_png("9" * 10) != drawn.getvalue()
    svg = pickup_svg(CODE).decode()
    assert svg.startswith("<?xml") and 'fill="#fff"' in svg and "<script" not in svg
    assert shown_code(CODE) == "01234-56789"


# Redeeming.


class Place:
    order = "ord_1"
    room = None


class Ledger:
    """Knows one code."""

    def __init__(self) -> None:
        self.asked = 0
        self.redeemed: list[Effect] = []
        self.is_away = False

    async def find(self, shop: str, code: str) -> Place | None:
        self.asked += 1
        if self.is_away:
            raise LedgerUnavailable("away")
        return Place() if (shop, code) == ("tins", CODE) else None

    async def redeem(self, shop: str, code: str, order_id: str, effect: Effect) -> bool:
        self.redeemed.append(effect)
        return len(self.redeemed) > 1


class Reader:
    async def by_id(self, caller: Caller, order_id: str) -> Order:
        values: dict[str, Any] = dict.fromkeys(
            ("sale_no", "item_no", "quantity", "price_minor", "discount_minor", "amount_minor", "created_at_ms"), 1
        )
        status = OrderStatus.PAID
        return Order(
            order=OrderId(order_id), viewer="ann", key="k", status=status, reason=None, pay_by_ms=1, extra="", **values
        )


class Desk:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger()
        self.flow = RedeemPickup(
            ledger=self.ledger,
            reader=Reader(),
            attempts=Limiter(rate=REDEEMS_PER_S, burst=REDEEMS_BURST),
            failures=Limiter(rate=FAILED_REDEEMS_PER_S, burst=FAILED_REDEEMS_BURST),
            shop_failures=Limiter(rate=FAILED_OF_SHOP_PER_S, burst=FAILED_OF_SHOP_BURST),
            clock=self.clock,
        )

    async def outcome(self, text: str = "ABCDE-FGHJK", **caller: Any) -> str:
        who = Caller(**{"shop": "tins", "sub": "clerk", "role": Role.CLERK, "expires_at_s": 0, **caller})
        try:
            return "replayed" if (await self.flow.redeem(who, text, "k1"))[1] else "redeemed"
        except (NotFound, RateLimited, Forbidden) as error:
            return error.code


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_code_is_redeemed_and_told_so_again(desk: Desk) -> None:
    assert [await desk.outcome("o1234-56789"), await desk.outcome("0123456789")] == ["redeemed", "replayed"]
    assert len(set(desk.ledger.redeemed)) == 1, "however it is typed, it is the same content"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.SERVICE])
async def test_only_hosts_and_clerks_redeem(desk: Desk, role: Role) -> None:
    assert await desk.outcome(CODE, role=role) == "forbidden"
    assert await desk.outcome(CODE, role=Role.HOST) == "redeemed"


async def test_a_token_of_other_rooms_redeems_nothing(desk: Desk) -> None:
    assert await desk.outcome(CODE, rooms=frozenset({"room_1"})) == "forbidden"
    assert desk.ledger.redeemed == []


async def test_one_who_guesses_has_a_guess_every_five_seconds(desk: Desk) -> None:
    for _ in range(3600):
        await desk.outcome()
        desk.clock.advance(1.0)
    assert desk.ledger.asked <= FAILED_REDEEMS_BURST + 3600 * FAILED_REDEEMS_PER_S + 1


async def test_guessers_in_turns_share_what_the_shop_has(desk: Desk) -> None:
    for second in range(600):
        for number in range(20):
            await desk.outcome(sub=f"clerk-{second}-{number}")
        desk.clock.advance(1.0)
    assert desk.ledger.asked <= FAILED_OF_SHOP_BURST + 600 * FAILED_OF_SHOP_PER_S + 1
    assert await desk.outcome(sub="another", shop="cups") == "not_found", "other shops are not kept waiting"


async def test_while_nobody_may_guess_a_right_code_is_not_told_from_a_wrong_one(desk: Desk) -> None:
    while await desk.outcome() == "not_found":
        pass
    assert await desk.outcome(CODE) == "rate_limited"
    assert desk.ledger.redeemed == []
    # One clerk that guesses keeps no other from working.
    assert await desk.outcome(CODE, sub="another") == "redeemed"
    desk.clock.advance(1 / FAILED_REDEEMS_PER_S)
    assert await desk.outcome(CODE) == "replayed"


async def test_what_can_be_no_code_is_a_failed_guess_that_asks_nobody(desk: Desk) -> None:
    outcomes = [await desk.outcome("U") for _ in range(FAILED_REDEEMS_BURST + 1)]
    assert outcomes == ["not_found"] * FAILED_REDEEMS_BURST + ["rate_limited"]
    assert desk.ledger.asked == 0


async def test_a_till_may_redeem_many_good_codes(desk: Desk) -> None:
    outcomes = [await desk.outcome(CODE) for _ in range(REDEEMS_BURST + 1)]
    assert outcomes.count("rate_limited") == 1 and outcomes[-1] == "rate_limited"


async def test_a_ledger_that_is_away_leaves_the_outcome_unknown_and_counts_no_failure(desk: Desk) -> None:
    desk.ledger.is_away = True
    for _ in range(FAILED_REDEEMS_BURST + 1):
        with pytest.raises(OutcomeUnknown):
            await desk.flow.redeem(CLERK, CODE, "k1")
    desk.ledger.is_away = False
    assert await desk.outcome(CODE) == "redeemed"
