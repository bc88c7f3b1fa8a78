"""The light on a sale and its terms, on real stores: what the audit said, and where the units are while they move."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.clock import SystemClock
from gateway.domain.caller import Caller, Role
from gateway.domain.invariant import BrokenRule, HotMoment, ItemTerms, LedgerMoment, Verdict
from gateway.domain.sale import Sale
from gateway.errors import Forbidden, HotUnavailable, LedgerUnavailable, NotFound
from gateway.flows.invariant import HostInvariant, InvariantReading
from gateway.keeper.watchdog import UNCONFIRMED, UNMADE
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.pool import Ledger
from gateway.ledger.verdicts import NEVER, LedgerVerdicts
from tests.integration.test_watchdog import lose_a_unit, watchdog
from tests.support.audited import CUP, TIN, History
from tests.support.shop_floor import SHARD, ShopFloor, item, make_sale, shop_floor

HOST = Caller(shop="tins", sub="host", role=Role.HOST, expires_at_s=0)


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url, items=[item(stock=10_000, limit=100)]) as floor:
        yield floor


class Found:
    """In the place of `gateway.flows.sales.Sales`, whose rules are tested with it."""

    def __init__(self, sale: Sale) -> None:
        self._sale = sale

    async def find(self, caller: Caller, sale_id: str) -> Sale:
        if sale_id != self._sale.sale:
            raise NotFound
        return self._sale


class Away:
    async def moment(self, sale_no: int, item_nos: Sequence[int]) -> HotMoment:
        raise HotUnavailable("away")


class Counted(LedgerVerdicts):
    reads = 0

    async def moment(self, sale_no: int) -> LedgerMoment | None:
        self.reads += 1
        return await super().moment(sale_no)


def of(floor: ShopFloor, sale: Sale | None = None, **parts: object) -> HostInvariant:
    use = {"ledger": LedgerVerdicts(floor.ledger), "shards": {SHARD: floor.hot}, **parts}
    return HostInvariant(sales=Found(sale or floor.sale), clock=SystemClock(), **use)  # type: ignore[arg-type]


async def look(floor: ShopFloor, sale: Sale | None = None, **parts: object) -> InvariantReading:
    """Read just now, whenever it was read last."""
    return await of(floor, sale, **parts).look(HOST, (sale or floor.sale).sale)


def balanced(terms: ItemTerms) -> bool:
    assert terms.left is not None and terms.on_the_way is not None
    return terms.stock == terms.left + terms.held + terms.paid + terms.on_the_way and terms.on_the_way >= 0


async def test_what_is_on_the_way_is_what_the_audit_finds_waiting_and_releasing(history: History) -> None:
    await history.place(("late-1", "k", TIN, 2), ("late-2", "k", CUP, 5))
    reading, figures = await look(history.floor), (await history.audit()).figures
    assert figures.waiting > 0 and figures.releasing > 0
    assert sum(terms.on_the_way or 0 for terms in reading.items) == figures.waiting + figures.releasing
    assert sum(terms.held for terms in reading.items) == figures.held
    assert sum(terms.paid for terms in reading.items) == figures.sold
    assert all(map(balanced, reading.items))
    assert reading.behind is not None and reading.behind > 0


async def test_at_rest_nothing_is_on_the_way_and_both_stores_count_the_same(history: History) -> None:
    await history.drained()
    reading = await look(history.floor)
    assert reading.behind == 0
    assert [terms.on_the_way for terms in reading.items] == [0, 0]
    assert all(map(balanced, reading.items))
    hot = await history.floor.hot.counts(history.floor.sale)
    assert hot is not None
    assert [terms.held for terms in reading.items] == [hot[TIN].held, hot[CUP].held]


async def test_while_orders_are_placed_written_cancelled_and_released_no_reading_is_off(floor: ShopFloor) -> None:
    history = History(floor)
    done = asyncio.Event()

    async def shop(n: int) -> None:
        for turn in range(12):
            name = f"viewer-{n}", f"k{turn}"
            await history.place((*name, 1, 1 + n % 3))
            await floor.applied()
            if (n + turn) % 2:
                await history.cancel("|".join(name))
            else:
                await history.pay("|".join(name), amount=1900 * (1 + n % 3))

    async def release() -> None:
        while not done.is_set():
            await history.released()
            await asyncio.sleep(0.002)

    async def watch() -> list[InvariantReading]:
        readings = []
        while not done.is_set():
            readings.append(await look(floor))
        return readings

    async with floor.writing():
        watching, releasing = asyncio.create_task(watch()), asyncio.create_task(release())
        await asyncio.gather(*(shop(n) for n in range(6)))
        done.set()
        readings, _ = await watching, await releasing
    await history.drained()
    history.audited.close()
    exact = [reading for reading in readings if reading.behind is not None]
    assert len(exact) > len(readings) * 0.9, "a release between the two reads is rare"
    assert all(balanced(terms) for reading in exact for terms in reading.items)
    assert all(reading.items[0].on_the_way == 0 for reading in exact if reading.behind == 0)
    assert max(reading.items[0].on_the_way or 0 for reading in exact) > 0
    (last,) = (await look(floor)).items
    assert last == ItemTerms("tin", 10_000, 10_000 - 72, 0, 72, 0)


async def test_the_light_follows_the_audits_of_the_keeper(history: History) -> None:
    floor, dog = history.floor, watchdog(history)
    assert (await look(floor)).verdict == Verdict(holds=None, why_not=NEVER)
    await dog.look()
    reading = await look(floor)
    assert (reading.verdict.holds, reading.verdict.broken, reading.verdict.why_not) == (True, (), None)
    assert reading.verdict.audited_at_ms is not None and 0 <= reading.at_ms - reading.verdict.audited_at_ms < 20_000

    await lose_a_unit(history)
    await dog.look()
    found = (await look(floor)).verdict
    assert (found.holds, found.why_not) == (None, UNCONFIRMED)
    await dog.look()
    lost = (await look(floor)).verdict
    assert (lost.holds, lost.why_not, lost.broken) == (False, None, found.broken)
    (broken,) = lost.broken
    assert broken.rule == "conservation"
    sentence = (
        f"stock is left, live, waiting and releasing units; sale {floor.sale.sale} item 1 (tin): stock 205 is not"
    )
    assert broken.detail.startswith(f"{sentence} ")

    await lose_a_unit(history, by=1)
    await dog.look()
    assert (await look(floor)).verdict.holds is True


async def test_the_light_is_out_while_nobody_can_say(history: History) -> None:
    floor, dog = history.floor, watchdog(history)
    await dog.look()
    audited_at_ms = (await look(floor)).verdict.audited_at_ms
    await watchdog(history, auditor=history.auditor(ledger=LedgerAudit("postgresql://nobody@127.0.0.1:9/none"))).look()
    unmade = (await look(floor)).verdict
    assert unmade == Verdict(holds=None, audited_at_ms=audited_at_ms, why_not=UNMADE)
    await history.sql("UPDATE shards SET reopen = 'recount'")
    await dog.look()
    reading = await look(floor)
    assert (reading.verdict.holds, reading.verdict.broken) == (None, ())
    assert reading.verdict.why_not == "shard 0 is being rebuilt, the ledger is in epoch 2"
    # Nor are the two stores compared, and what each of them says is shown.
    assert reading.behind is None
    assert [terms.on_the_way for terms in reading.items] == [None, None]
    assert all(terms.left is not None for terms in reading.items)


async def test_what_is_broken_of_a_shard_is_told_of_its_sales(history: History) -> None:
    dog = watchdog(history)
    await history.floor.written()
    await history.floor.client.hincrby(history.floor.keys.shard, "epoch", 1)
    await dog.look()
    await dog.look()
    verdict = (await look(history.floor)).verdict
    assert verdict.holds is False
    assert BrokenRule(
        "epoch", "Valkey and the ledger are in one epoch; shard 0: epoch 3 in Valkey (open), 2 in the ledger"
    ) in (verdict.broken)


async def test_a_sale_is_told_nothing_of_another_one(history: History) -> None:
    floor, dog = history.floor, watchdog(history)
    other = await make_sale(floor, key="another")
    await lose_a_unit(history)
    await dog.look()
    await dog.look()
    assert (await look(floor)).verdict.holds is False
    assert (await look(floor, other)).verdict.holds is True
    late = await make_sale(floor, key="a third")
    assert (await look(floor, late)).verdict.why_not == NEVER


async def test_an_audit_that_began_earlier_does_not_overwrite_a_later_one(floor: ShopFloor) -> None:
    verdicts, sale_no = LedgerVerdicts(floor.ledger), floor.sale.sale_no
    await verdicts.write([], ago_s=0)
    await verdicts.write([(sale_no, Verdict(holds=True))], ago_s=1.0)
    await verdicts.write([(sale_no, Verdict(holds=False, broken=(BrokenRule("held", "x"),)))], ago_s=60.0)
    assert (await look(floor)).verdict.holds is True
    await verdicts.write([(sale_no, Verdict(holds=None, why_not="because"))], ago_s=0.0)
    assert (await look(floor)).verdict.why_not == "because"
    assert await floor.ledger.fetchval("SELECT count(*) FROM sale_verdicts") == 1


async def test_a_sale_that_left_valkey_is_the_ledgers_alone(history: History) -> None:
    await history.drained()
    before = await look(history.floor)
    await watchdog(history).look()
    await history.sql("UPDATE sales SET retired_at = now()")
    after = await look(history.floor, shards={SHARD: Away()})
    assert (after.items, after.behind) == (before.items, 0)
    # No audit looks at it any more, and what the last one said stays.
    dog = watchdog(history)
    await dog.look()
    await watchdog(history, auditor=history.auditor(ledger=LedgerAudit("postgresql://nobody@127.0.0.1:9/none"))).look()
    assert (await look(history.floor)).verdict.holds is True


async def test_without_valkey_the_ledgers_terms_are_shown(floor: ShopFloor) -> None:
    away = await look(floor, shards={SHARD: Away()})
    assert (away.items, away.behind) == ([ItemTerms("tin", 10_000, None, 0, 0, None)], None)
    await floor.client.delete(floor.keys.sale(floor.sale.sale_no))
    gone = await look(floor)
    assert (gone.items, gone.behind) == ([ItemTerms("tin", 10_000, None, 0, 0, None)], 0)


async def test_many_consoles_are_one_reading_and_only_hosts_have_one(floor: ShopFloor) -> None:
    ledger = Counted(floor.ledger)
    invariant = of(floor, ledger=ledger)
    readings = await asyncio.gather(*(invariant.look(HOST, floor.sale.sale) for _ in range(200)))
    assert ledger.reads == 1 and len({id(reading) for reading in readings}) == 1
    for role in (Role.VIEWER, Role.CLERK, Role.SERVICE):
        with pytest.raises(Forbidden):
            await invariant.look(Caller(shop="tins", sub="anna", role=role, expires_at_s=0), floor.sale.sale)
    with pytest.raises(NotFound):
        await invariant.look(HOST, "sale_none")


async def test_a_ledger_that_is_away_is_told_and_the_next_look_reads_again(floor: ShopFloor, database_url: str) -> None:
    ledger = await Ledger.connect(database_url, size=1)
    invariant = of(floor, ledger=LedgerVerdicts(ledger))
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await invariant.look(HOST, floor.sale.sale)
    assert (await look(floor)).behind == 0
