"""A history of coupons for the audit: claims and orders that redeem them in every state, some of it in the stream and
in the outbox. Made once, copied a test, as the one of `audited.py`."""

from msgspec.structs import replace

from gateway.domain.acts import Act
from gateway.domain.coupon import CouponKind
from tests.support.audited import CUP, CUP_PRICE, TIN, TIN_PRICE, History, MadeHistory
from tests.support.couponing import ask, claim, make_coupon, redeeming
from tests.support.servers import SessionServers, flush
from tests.support.shop_floor import HOUR_MS, SHARD, ShopFloor, item, shop_floor

FIXED, RANDOM, DROPPED = 1, 2, 3
"""Numbers of the coupons."""
OFF = 30
ITEMS = [
    replace(item("tin", price=TIN_PRICE, stock=200, limit=9), floor_minor=10),
    item("cup", price=CUP_PRICE, stock=100_000, limit=1000),
]
DAY_MS = 24 * HOUR_MS


async def redeem(history: History, viewer: str, claim_id: str, *, key: str = "with", item_no: int = TIN) -> None:
    request = redeeming(history.floor, viewer, claim_id, key, item_no=item_no)
    (history.orders[f"{viewer}|{key}"],) = await history.floor.reserve(request)


async def claims_of(floor: ShopFloor, number: int, *viewers: str, key: str = "c1") -> dict[str, str]:
    """Claim ids by viewer."""
    coupon = await floor.coupons.find(number)
    assert coupon is not None
    return dict(zip(viewers, await claim(floor, coupon, *viewers, key=key), strict=True))


def make_coupon_history(servers: SessionServers) -> MadeHistory:
    database_url, valkey_url = servers.fresh_database(), servers.urls.valkey_url
    flush(valkey_url)
    keys = servers.run(_make(database_url, valkey_url))
    flush(valkey_url)
    return MadeHistory(database_url, keys)


async def _make(database_url: str, valkey_url: str) -> dict[bytes, bytes]:
    async with shop_floor(database_url, valkey_url, items=ITEMS, closes_in_ms=DAY_MS) as floor:
        history = History(floor)
        more = {"copies": 40, "valid_for_ms": DAY_MS}
        await make_coupon(floor, value_minor=OFF, **more)
        random = {"min_minor": 5, "max_minor": 50, "budget_minor": 900}
        await make_coupon(floor, CouponKind.RANDOM, key="random", threshold_minor=90, **random, **more)
        await make_coupon(floor, CouponKind.PERCENT, key="drop", opens_in_ms=None, sales=(floor.sale.sale,), **more)
        kept = await _first_epoch(history)
        await floor.shards.want_recount(SHARD, "test")
        await floor.keeper.step()
        assert (await floor.shards.cursor(SHARD))[0] == 2
        await _second_epoch(history, kept)
        history.audited.close()
        return {key: await floor.client.dump(key) for key in await floor.client.keys()}


async def _first_epoch(history: History) -> dict[str, str]:
    """Claims in every state, and orders with them; all of it applied and told. Answers claims that are free."""
    floor = history.floor
    fixed = await claims_of(floor, FIXED, *(f"a{at}" for at in range(12)))
    drawn = await claims_of(floor, RANDOM, *(f"r{at}" for at in range(6)))
    await floor.hot_coupons.drop(DROPPED, room_no=0, for_ms=0, actor="host", key="d1", fingerprint="f")
    dropped = await claims_of(floor, DROPPED, "d0", "d1", "d2")
    await floor.written()
    # Late money brings one of these back with its claim, and one without one.
    for viewer in ("a0", "a1", "a2"):
        await redeem(history, viewer, fixed[viewer])
    await floor.written()
    await history.expire()
    await history.released()
    await history.pay("a0|with", amount=TIN_PRICE - OFF)
    await redeem(history, "a1", fixed["a1"], key="again")
    await history.pay("a1|with", amount=TIN_PRICE - OFF)
    await history.drained()
    for viewer in ("a3", "a4", "a5"):
        await redeem(history, viewer, fixed[viewer])
    await floor.written()
    await history.pay("a3|with", amount=TIN_PRICE - OFF)
    await history.cancel("a4|with")
    await history.refund("a5|with", await history.pay("a5|with", amount=TIN_PRICE - OFF), amount=TIN_PRICE - OFF)
    # What Valkey gave and the ledger refused.
    await floor.client.hset(floor.keys.coupon(FIXED), "limit", "9")
    await claims_of(floor, FIXED, "a7", key="c2")
    await claims_of(floor, FIXED, "a7", key="c3")
    await floor.written()
    # A plan, and a price that ends another one.
    at_ms = await floor.now_ms()
    plan = f"{at_ms - 1_000}:220;{at_ms + DAY_MS}:200"
    await floor.control.act(history.sale_no, Act.PLAN, actor="host", item_no=CUP, text=plan)
    await history.sold(("v1", "cup", CUP, 1))
    await floor.control.act(history.sale_no, Act.PRICE, actor="host", item_no=CUP, value=240)
    await history.sold(("v2", "cup", CUP, 1))
    await floor.control.act(history.sale_no, Act.PLAN, actor="host", item_no=CUP, text=plan)
    await history.drained()
    return {**fixed, **drawn, **dropped}


async def _second_epoch(history: History, kept: dict[str, str]) -> None:
    """What waits: rows of every kind with a claim in the outbox, entries of every kind in the stream."""
    floor = history.floor
    new = await claims_of(floor, FIXED, "b0", "b1", "b2", "b3", "b4", "b5")
    drawn = await claims_of(floor, RANDOM, "s0", "s1")
    for viewer in ("b0", "b1", "b2"):
        await redeem(history, viewer, new[viewer])
    await floor.written()
    await history.expire()
    await history.released()
    await history.pay("b0|with", amount=TIN_PRICE - OFF)
    await floor.late.settle(SHARD)  # its entry waits, with the claim
    for viewer, claim_id in (
        ("b3", new["b3"]),
        ("b4", new["b4"]),
        *((each, kept[each]) for each in ("a6", "r0", "d0")),
    ):
        await redeem(history, viewer, claim_id)
    await redeem(history, "r1", kept["r1"], item_no=CUP)
    await history.sold(("v0", "tin", TIN, 2))
    await history.pay("b2|with", amount=TIN_PRICE - OFF)  # Valkey was not asked
    await history.cancel("b3|with")
    await history.refund("b4|with", await history.pay("b4|with", amount=TIN_PRICE - OFF), amount=TIN_PRICE - OFF)
    await history.pay("a6|with", amount=TIN_PRICE - OFF)
    await history.sql("UPDATE sale_items SET price_minor = price_minor + 1")
    await redeem(history, "b5", new["b5"])
    await floor.written()
    await history.sql("UPDATE sale_items SET price_minor = price_minor - 1")
    random = await floor.coupons.find(RANDOM)
    assert random is not None
    await history.sql("UPDATE coupons SET limit_per_viewer = 1 WHERE coupon_no = 2")
    await history.sql("UPDATE coupon_holdings SET limit_claims = 1 WHERE coupon_no = 2")
    await ask(floor, random, ("s0", "c2"), ("s1", "c2"))
    await floor.written()
    await history.sql("UPDATE coupons SET limit_per_viewer = 2 WHERE coupon_no = 2")
    await history.sql("UPDATE coupon_holdings SET limit_claims = 2 WHERE coupon_no = 2")
    # From here on nothing is applied.
    waiting = await claims_of(floor, FIXED, "x0", "x1")
    await redeem(history, "s0", drawn["s0"])
    await redeem(history, "x0", waiting["x0"])
    await claims_of(floor, RANDOM, "x2", "x3")
    await floor.hot_coupons.drop(DROPPED, room_no=0, for_ms=HOUR_MS, actor="host")
    sale = floor.sale
    await floor.control.act(
        sale.sale_no, Act.WINDOW, actor="host", value=sale.opens_at_ms, text=str(sale.closes_at_ms - 1)
    )
    at_ms = await floor.now_ms()
    await floor.control.act(sale.sale_no, Act.PLAN, actor="host", item_no=TIN, text=f"{at_ms + HOUR_MS}:50")
