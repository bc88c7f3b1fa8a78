"""Coupons of a shop floor: made, claimed, redeemed; and whether Valkey has of them what the ledger says."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway.domain.coupon import ClaimAnswer, ClaimOutcome, ClaimRequest, Coupon, CouponKind
from gateway.domain.drafts import CouponDraft, Effect
from gateway.domain.order import OrderRequest
from gateway.errors import GatewayError
from tests.support.rebuilding import hash_of
from tests.support.shop_floor import HOUR_MS, SHOP, ShopFloor

OFF = 500
_AMOUNTS = {
    CouponKind.AMOUNT: {"value_minor": OFF},
    CouponKind.PERCENT: {"percent": 10},
    CouponKind.RANDOM: {"min_minor": 100, "max_minor": 900, "budget_minor": 3_000},
}


async def make_coupon(
    floor: ShopFloor,
    kind: CouponKind = CouponKind.AMOUNT,
    *,
    key: str = "coupon_1",
    opens_in_ms: int | None = -60_000,
    valid_for_ms: int = HOUR_MS,
    load: bool = True,
    **more: Any,
) -> Coupon:
    """Ten copies, two a viewer, open; with `opens_in_ms` None only a drop opens it."""
    now_ms = await floor.now_ms()
    draft = CouponDraft(
        title="Off",
        kind=kind,
        copies=10,
        limit_per_viewer=2,
        claim_from_ms=None if opens_in_ms is None else now_ms + opens_in_ms,
        valid_until_ms=now_ms + valid_for_ms,
        **_AMOUNTS[kind],
    )
    coupon = (await floor.coupons.create(SHOP, replace(draft, **more), Effect("host_1", "coupon", key, "f"))).coupon
    if load:
        await floor.hot_coupons.load(coupon)
        await floor.coupons.mark_loaded(coupon.coupon_no, 1)
    return coupon


async def ask(floor: ShopFloor, coupon: Coupon, *wants: tuple[str, str]) -> Sequence[ClaimAnswer | GatewayError]:
    """`wants`: viewer and key."""
    now_s = floor.clock.monotonic()
    group = [
        ClaimRequest(viewer=viewer, key=key, coupon_no=coupon.coupon_no, arrived_s=now_s, answer=lambda given: None)
        for viewer, key in wants
    ]
    return await floor.hot_coupons.decide(coupon.coupon_no, group)


async def claim(floor: ShopFloor, coupon: Coupon, *viewers: str, key: str = "c1") -> list[str]:
    """The ids of the claims; all must be given."""
    ids = []
    for answer in await ask(floor, coupon, *((viewer, key) for viewer in viewers)):
        assert isinstance(answer, ClaimAnswer) and answer.outcome is ClaimOutcome.CLAIMED, answer
        ids.append(str(answer.claim))
    return ids


async def claimed(floor: ShopFloor, coupon: Coupon, *viewers: str, key: str = "c1") -> list[str]:
    """Claims that the ledger has confirmed."""
    ids = await claim(floor, coupon, *viewers, key=key)
    await floor.written()
    return ids


def redeeming(floor: ShopFloor, viewer: str, claim_id: str, key: str = "k1", **more: Any) -> OrderRequest:
    request = floor.request(viewer, key, **more)
    request.claim, request.currency = floor.mint.read_claim(claim_id), floor.sale.currency
    return request


async def claim_rows(floor: ShopFloor) -> list[tuple[int, str, str | None, str | None]]:
    """(seq, state, reason, key) of every claim of the ledger."""
    found = await floor.ledger.fetch("SELECT seq, state, reason, key FROM claims ORDER BY epoch, seq")
    return [(row["seq"], row["state"], row["reason"], row["key"]) for row in found]


async def claim_states(floor: ShopFloor) -> list[str]:
    return [row[1] for row in await claim_rows(floor)]


async def coupon_counts(floor: ShopFloor, coupon: Coupon) -> tuple[int, int, int]:
    """(claimed, redeemed, spent) in the ledger."""
    return tuple((await floor.coupons.counts([coupon.coupon_no]))[coupon.coupon_no])


async def left_in_valkey(floor: ShopFloor, coupon: Coupon) -> tuple[int, int]:
    """(copies, budget) left."""
    facts = await hash_of(floor, floor.keys.coupon(coupon.coupon_no))
    return int(facts["left"]), int(facts["budget_left"])


async def claims_in_valkey(floor: ShopFloor, coupon: Coupon) -> dict[str, str]:
    """Who redeems each claim, by its place in the stream."""
    found = await hash_of(floor, floor.keys.coupon_claims(coupon.coupon_no))
    return {place: value.split("|")[1] for place, value in found.items()}


async def coupon_stands_as_the_ledger(floor: ShopFloor, coupon: Coupon) -> None:
    """Every field of a coupon in Valkey is what the ledger says, none is missing and none is too many."""
    no = coupon.coupon_no
    row = await floor.ledger.fetchrow("SELECT * FROM coupons WHERE coupon_no = $1", no)
    now = await floor.coupons.find(no)
    assert now is not None
    facts = now.in_valkey(left=row["copies"] - row["claimed"], budget_left=row["budget_minor"] - row["spent_minor"])
    assert await hash_of(floor, floor.keys.coupon(no)) == facts
    rows = await floor.ledger.fetch(
        "SELECT c.*, o.epoch AS of_epoch, o.seq AS of_seq FROM claims c LEFT JOIN orders o USING (sale_no, order_id)"
        " WHERE c.coupon_no = $1 AND c.state <> 'refused'",
        no,
    )
    assert await hash_of(floor, floor.keys.coupon_answers(no)) == {
        f"{row['viewer']}|{row['key']}": f"{row['epoch']}|{row['seq']}|{row['at_ms']}|{row['value_minor']}"
        for row in rows
    }
    holders = ["" if row["of_seq"] is None else f"{row['of_epoch']}:{row['of_seq']}" for row in rows]
    assert await hash_of(floor, floor.keys.coupon_claims(no)) == {
        f"{row['epoch']}|{row['seq']}": f"{row['value_minor']}|{holder}|{row['viewer']}"
        for row, holder in zip(rows, holders, strict=True)
    }
    had = await floor.ledger.fetch("SELECT * FROM coupon_holdings WHERE coupon_no = $1 AND claims > 0", no)
    assert await hash_of(floor, floor.keys.coupon_viewers(no)) == {row["viewer"]: str(row["claims"]) for row in had}
