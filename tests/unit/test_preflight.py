"""What a pre-flight says: each fact on both sides of its line."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.domain.coupon import Coupon, CouponKind
from gateway.domain.ids import CouponId, RoomId, SaleId, Sku
from gateway.domain.limits import ShopLimits
from gateway.domain.preflight import (
    Expected,
    Level,
    Line,
    judge_coupon,
    judge_prices,
    judge_room,
    judge_stock,
    judge_window,
    worst,
)
from gateway.domain.preflight_servers import (
    GB,
    MB,
    LedgerFacts,
    MachineFacts,
    ShardFacts,
    ValkeyFacts,
    judge_clocks,
    judge_ledger,
    judge_machine,
    judge_valkey,
    judge_writer,
)
from gateway.domain.room import Room, RoomState
from gateway.domain.sale import Item, ItemCounts, PriceStep, Sale, SaleHold, StockDisplay
from gateway.errors import HotUnavailable, Overloaded
from gateway.flows.preflight import Preflight
from tests.support.fake_clock import FakeClock

NOW_MS, HOUR_MS = 1_800_000_000_000, 3_600_000
ITEM = Item(1, Sku("tin"), "A tin", price_minor=1900, stock=100, limit_per_viewer=2, list_price_minor=2500)
SALE = Sale(
    SaleId("sale_1"),
    1,
    "tins",
    0,
    RoomId("room_1"),
    "Drop",
    "CNY",
    SaleHold.ACTIVE,
    NOW_MS + HOUR_MS,
    NOW_MS + 2 * HOUR_MS,
    300,
    StockDisplay.EXACT,
    NOW_MS,
    (ITEM,),
)
ROOM = Room(RoomId("room_1"), 1, "tins", "Show", RoomState.SCHEDULED, NOW_MS)
COUPON = Coupon(
    coupon=CouponId("cpn_1"),
    coupon_no=1,
    shop="tins",
    shard=0,
    title="Off",
    kind=CouponKind.RANDOM,
    currency="CNY",
    min_minor=1,
    max_minor=9,
    budget_minor=1000,
    copies=100,
    limit_per_viewer=1,
    claim_from_ms=None,
    claim_until_ms=SALE.closes_at_ms,
    valid_until_ms=SALE.closes_at_ms,
    created_at_ms=NOW_MS,
)
EXPECTED = Expected(viewers=10_000, orders=1_000_000)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, Level.OK),
        ({"opens_at_ms": NOW_MS - HOUR_MS}, Level.OK),
        ({"hold": SaleHold.PAUSED}, Level.WARN),
        ({"hold": SaleHold.CLOSED}, Level.FAIL),
        ({"opens_at_ms": NOW_MS - 2 * HOUR_MS, "closes_at_ms": NOW_MS - HOUR_MS}, Level.FAIL),
        ({"closes_at_ms": NOW_MS + HOUR_MS + 59_000}, Level.WARN),
        ({"closes_at_ms": NOW_MS + 30 * 24 * HOUR_MS}, Level.WARN),
        ({"opens_at_ms": NOW_MS + 61 * 24 * HOUR_MS, "closes_at_ms": NOW_MS + 62 * 24 * HOUR_MS}, Level.WARN),
    ],
)
def test_a_window_is_looked_at_by_what_hosts_get_wrong(changes: dict[str, Any], level: Level) -> None:
    line = judge_window(replace(SALE, **changes), NOW_MS)
    assert line.level is level
    assert bool(line.todo) is (level is not Level.OK)


def test_stock_is_what_the_ledger_has_and_something_is_left() -> None:
    whole = {1: ItemCounts(1, 100, 100, 0)}
    assert [line.level for line in judge_stock(SALE, whole, {1: (100, 0, 0)})] == [Level.OK]
    assert [line.level for line in judge_stock(SALE, whole, {1: (90, 0, 0)})] == [Level.FAIL]
    assert [line.level for line in judge_stock(SALE, None, {1: (100, 0, 0)})] == [Level.FAIL]
    gone = judge_stock(SALE, {1: ItemCounts(1, 100, 0, 100)}, {1: (100, 100, 0)})
    assert [line.level for line in gone] == [Level.OK, Level.WARN]


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({}, [Level.OK]),
        ({"price_minor": 0}, [Level.FAIL]),
        ({"floor_minor": 1900}, [Level.OK]),
        ({"floor_minor": 1901}, [Level.FAIL]),
        ({"floor_minor": 1000, "prices": (PriceStep(NOW_MS, 999),)}, [Level.FAIL]),
        ({"floor_minor": 1000, "prices": (PriceStep(NOW_MS, 1000),)}, [Level.OK]),
        ({"list_price_minor": 1900}, [Level.WARN]),
        ({"list_price_minor": None}, [Level.OK]),
        ({"prices": (PriceStep(NOW_MS, 2500),)}, [Level.WARN]),
        ({"price_minor": 0, "floor_minor": 1}, [Level.FAIL, Level.FAIL]),
    ],
)
def test_prices_are_above_nothing_and_their_floor_and_under_what_is_struck_through(
    changes: dict[str, Any], levels: list[Level]
) -> None:
    assert [line.level for line in judge_prices([replace(ITEM, **changes)])] == levels


@pytest.mark.parametrize(
    ("changes", "claimed", "in_valkey", "level"),
    [
        ({}, 0, True, Level.OK),
        ({}, 100, True, Level.WARN),
        ({}, 0, False, Level.FAIL),
        ({"currency": "EUR"}, 0, True, Level.FAIL),
        ({"valid_until_ms": SALE.opens_at_ms}, 0, True, Level.FAIL),
        ({"valid_until_ms": SALE.closes_at_ms - 1}, 0, True, Level.WARN),
        ({"claim_until_ms": NOW_MS}, 0, True, Level.WARN),
    ],
)
def test_a_coupon_is_good_while_the_sale_sells(
    changes: dict[str, Any], claimed: int, in_valkey: bool, level: Level
) -> None:
    line = judge_coupon(replace(COUPON, **changes), SALE, NOW_MS, claimed=claimed, spent_minor=40, in_valkey=in_valkey)
    assert line.level is level
    if level is Level.OK:
        assert "960 of 1,000 CNY" in line.message


@pytest.mark.parametrize(
    ("room", "at_ms", "level"),
    [
        (None, NOW_MS, Level.OK),
        (ROOM, NOW_MS, Level.OK),
        (ROOM, SALE.opens_at_ms - 60_000, Level.WARN),
        (replace(ROOM, starts_at_ms=SALE.opens_at_ms + 1), NOW_MS, Level.WARN),
        (replace(ROOM, state=RoomState.LIVE), SALE.opens_at_ms, Level.OK),
        (replace(ROOM, state=RoomState.ENDED), NOW_MS, Level.FAIL),
    ],
)
def test_a_room_is_there_when_its_sale_opens(room: Room | None, at_ms: int, level: Level) -> None:
    assert judge_room(room, SALE, at_ms).level is level


@pytest.mark.parametrize(
    ("valkey_s", "ledger_s", "own_s", "paused", "level"),
    [
        (100.0, 101.9, 100.0, False, Level.OK),
        (100.0, 102.1, 100.0, False, Level.FAIL),
        (100.0, 97.9, 100.0, False, Level.FAIL),
        (100.0, 100.0, 102.1, False, Level.WARN),
        (100.0, 100.0, 100.0, True, Level.FAIL),
    ],
)
def test_clocks_are_judged_by_the_keepers_rule(
    valkey_s: float, ledger_s: float, own_s: float, paused: bool, level: Level
) -> None:
    assert judge_clocks(valkey_s, ledger_s, own_s, tolerance_s=2.0, paused=paused).level is level


SHARD = ShardFacts(epoch=3, seq=5000, applied=5000, opens_up_to=False)
LEDGER = LedgerFacts(
    epoch=3,
    last_seq=5000,
    has_writer=True,
    wants=None,
    log_bytes=10 * MB,
    log_most_bytes=4 * GB,
    checkpoint_s=60.0,
    disk_free_bytes=100 * GB,
)


@pytest.mark.parametrize(
    ("shard", "ledger", "level"),
    [
        (SHARD, {}, Level.OK),
        (SHARD._replace(seq=6000), {}, Level.OK),
        (SHARD._replace(seq=6001), {}, Level.WARN),
        (SHARD._replace(seq=26_000), {}, Level.FAIL),
        (SHARD, {"has_writer": False}, Level.FAIL),
        (SHARD, {"wants": "behind"}, Level.FAIL),
        (SHARD._replace(epoch=2), {}, Level.FAIL),
        (None, {}, Level.FAIL),
    ],
)
def test_a_writer_is_at_work_and_close_behind(shard: ShardFacts | None, ledger: dict[str, Any], level: Level) -> None:
    assert judge_writer(shard, LEDGER._replace(**ledger)).level is level


VALKEY = ValkeyFacts(
    used_bytes=100 * MB,
    most_bytes=4 * GB,
    is_bounded=True,
    file_bytes=100 * MB,
    file_base_bytes=60 * MB,
    rewriting=False,
    last_failed=False,
    disk_free_bytes=100 * GB,
    loaded=[],
)


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({}, "valkey memory", Level.OK),
        ({"most_bytes": 100 * MB + 2 * 91 * 1_000_000}, "valkey memory", Level.WARN),
        ({"most_bytes": 100 * MB + 2 * 91 * 1_000_000 - 1}, "valkey memory", Level.FAIL),
        ({"most_bytes": 200 * MB, "is_bounded": False}, "valkey memory", Level.FAIL),
        ({}, "valkey file", Level.OK),
        ({"file_bytes": 121 * MB}, "valkey file", Level.WARN),
        ({"rewriting": True}, "valkey file", Level.WARN),
        ({"last_failed": True}, "valkey file", Level.FAIL),
        ({"file_bytes": None}, "valkey file", Level.WARN),
        ({}, "valkey disk", Level.OK),
        ({"disk_free_bytes": None}, "valkey disk", Level.WARN),
        ({"disk_free_bytes": 300 * MB}, "valkey disk", Level.FAIL),
        ({"loaded": ["place_orders"]}, "scripts", Level.OK),
    ],
)
def test_valkey_has_room_for_the_orders_that_are_expected(changes: dict[str, Any], check: str, level: Level) -> None:
    lines = {line.check: line for line in judge_valkey(VALKEY._replace(**changes), EXPECTED)}
    assert lines[check].level is level
    assert bool(lines[check].todo) is (level is not Level.OK)


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({}, [Level.OK, Level.OK]),
        ({"log_bytes": 2 * GB}, [Level.WARN, Level.OK]),
        ({"log_most_bytes": 900 * MB}, [Level.OK, Level.WARN, Level.OK]),
        ({"log_bytes": None}, [Level.WARN, Level.OK]),
        ({"disk_free_bytes": GB}, [Level.OK, Level.FAIL]),
        ({"disk_free_bytes": None}, [Level.OK, Level.WARN]),
    ],
)
def test_postgresql_has_room_and_no_checkpoint_ahead(changes: dict[str, Any], levels: list[Level]) -> None:
    assert [line.level for line in judge_ledger(LEDGER._replace(**changes), EXPECTED)] == levels


MACHINE = MachineFacts(descriptors=65_536, memory_bytes=8 * GB, live_processes=2, sockets_most=50_000)


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({}, "live processes", Level.OK),
        ({"live_processes": 0}, "live processes", Level.FAIL),
        ({"sockets_most": 4_999}, "live processes", Level.FAIL),
        ({"descriptors": 5_200}, "file descriptors", Level.OK),
        ({"descriptors": 5_199}, "file descriptors", Level.FAIL),
        ({}, "memory", Level.OK),
        ({"memory_bytes": 200 * MB}, "memory", Level.WARN),
        ({"memory_bytes": 100 * MB}, "memory", Level.FAIL),
    ],
)
def test_the_machine_takes_the_viewers_that_are_expected(changes: dict[str, Any], check: str, level: Level) -> None:
    lines = {line.check: line for line in judge_machine(MACHINE._replace(**changes), EXPECTED)}
    assert lines[check].level is level


def test_the_worst_line_is_the_level_of_all() -> None:
    assert worst([]) is Level.OK
    assert worst([Line("a", Level.OK, ""), Line("b", Level.WARN, "")]) is Level.WARN
    assert worst([Line("a", Level.FAIL, ""), Line("b", Level.WARN, "")]) is Level.FAIL


class Servers:
    """Hot, ledger and everything else a pre-flight asks, in good order unless a test changes it."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.valkey_away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def time_s(self) -> float:
        return self.clock.now_ms() / 1000

    async def shard(self, shard: int) -> ShardFacts | None:
        await self.answers.wait()
        if self.valkey_away:
            raise HotUnavailable("Valkey: refused by 10.1.2.3")
        return SHARD

    async def server(self, *shard: int) -> Any:
        if self.valkey_away and not shard:
            raise HotUnavailable("Valkey: refused by 10.1.2.3")
        return LEDGER if shard else VALKEY

    async def live_processes(self) -> int:
        return 2

    async def coupons(self, sale_no: int) -> list[Any]:
        return []


def preflight(servers: Servers, **changes: Any) -> Preflight:
    async def counts(sale: Sale) -> dict[int, ItemCounts]:
        return {1: ItemCounts(1, 100, 100, 0)}

    async def ledger_counts(sale_no: int) -> dict[int, tuple[int, int, int]]:
        return {1: (100, 0, 0)}

    async def room(room_id: str) -> Room | None:
        return ROOM

    async def nothing(*asked: Any) -> list[Any]:
        return []

    async def limits() -> dict[str, ShopLimits]:
        return {}

    async def no_webhook(shop: str) -> str | None:
        return ""

    parts: Any = {
        "hot": servers,
        "ledger": servers,
        "counts": counts,
        "ledger_counts": ledger_counts,
        "room": room,
        "coupons": nothing,
        "limits": limits,
        "audit": nothing,
        "ping": no_webhook,
        "machine": lambda: (65_536, 8 * GB, 50_000),
        "clock": servers.clock,
        "tolerance_s": 2.0,
        **changes,
    }
    return Preflight(**parts)


async def test_a_server_that_is_away_hides_nothing_of_the_others_and_is_not_named() -> None:
    servers = Servers(FakeClock())
    sale = replace(
        SALE, opens_at_ms=servers.clock.now_ms() + HOUR_MS, closes_at_ms=servers.clock.now_ms() + 2 * HOUR_MS
    )
    good = await preflight(servers).look(sale)
    assert good.level is Level.OK, [line for line in good.lines if line.level is not Level.OK]
    assert good.expected == (10_000, 100)
    servers.valkey_away = True
    report = await preflight(servers).look(sale)
    assert report.level is Level.FAIL
    assert {line.check for line in report.lines if line.level is Level.FAIL} == {"clocks", "writer", "valkey"}
    assert not any("10.1.2.3" in line.message for line in report.lines)


async def test_a_webhook_is_asked_and_what_was_wrong_is_told() -> None:
    async def wrong(shop: str) -> str | None:
        return {"tins": "503", "cups": None, "mugs": ""}[shop]

    servers = Servers(FakeClock())
    levels = {
        shop: next(
            line.level
            for line in (await preflight(servers, ping=wrong).look(replace(SALE, shop=shop))).lines
            if line.check == "webhook"
        )
        for shop in ("tins", "cups", "mugs")
    }
    assert levels == {"tins": Level.FAIL, "cups": Level.OK, "mugs": Level.OK}


async def test_what_an_audit_finds_broken_and_a_limit_that_is_too_low_stand_in_the_way() -> None:
    async def broken(sale: str) -> list[str]:
        return ["1 no counter is negative (1)"]

    async def limits() -> dict[str, ShopLimits]:
        return {"tins": ShopLimits(viewers=500)}

    report = await preflight(Servers(FakeClock()), audit=broken, limits=limits).look(SALE, viewers=501)
    failed = {line.check: line.message for line in report.lines if line.level is Level.FAIL}
    assert "1 no counter is negative" in failed["audit"]
    assert "500" in failed["limits"]


async def test_looks_come_one_after_the_other_and_not_too_many_wait() -> None:
    servers = Servers(FakeClock())
    servers.answers.clear()
    look = preflight(servers).look
    waiting = [asyncio.create_task(look(SALE)) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await look(SALE)
    servers.answers.set()
    assert len(await asyncio.gather(*waiting)) == 8
