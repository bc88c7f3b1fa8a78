"""The audit is itself tested: a real history holds, and each seeded violation is caught by the right check."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from gateway.clock import SystemClock
from gateway.domain.acts import Act
from gateway.domain.drafts import Effect, ItemDraft, SaleDraft
from gateway.domain.ids import IdMint
from gateway.domain.order import OrderAnswer, OrderRequest
from gateway.domain.sale import Sale
from gateway.errors import GatewayError, NotFound
from gateway.hot.audit import HotAudit
from gateway.hot.connect import Client, connect
from gateway.hot.control import HotControl
from gateway.hot.keys import ShardKeys
from gateway.hot.orders import HotOrders
from gateway.hot.releases import HotReleases
from gateway.hot.scripts import Scripts, find_lua_folder
from gateway.hot.shard import HotShard
from gateway.hot.stream import OrderStream, RawEntry
from gateway.keeper.audit import Auditor
from gateway.keeper.audit_report import AuditReport, Rule
from gateway.keeper.shards import ShardKeeper
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.batches import LedgerBatches
from gateway.ledger.outbox import LedgerOutbox
from gateway.ledger.pool import Ledger
from gateway.ledger.sales import LedgerSales
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops
from gateway.writer.writer import OrderWriter

TIN, CUP = 1, 2
KEYS = ShardKeys(0)


class NoWaiting(OrderStream):
    """A stream whose reader is told at once that there is nothing more."""

    async def read(self, epoch: int, after_seq: int, *, count: int, wait_ms: int) -> list[RawEntry]:
        return await super().read(epoch, after_seq, count=count, wait_ms=0)


class Nobody:
    async def publish(self, message: bytes) -> None:
        """Nobody listens."""


@dataclass(slots=True)
class History:
    """A shop with one sale of two items, and the real parts that sell it."""

    database_url: str
    valkey: Client
    ledger: Ledger
    sale: Sale
    shard: HotShard
    scripts: Scripts
    mint: IdMint
    keeper: ShardKeeper
    audited: LedgerAudit

    async def place(self, *orders: tuple[str, str, int, int]) -> list[OrderAnswer | GatewayError]:
        """One group of (viewer, key, item number, quantity)."""
        now_s = time.monotonic()
        decider = HotOrders(
            shard=self.shard, scripts=self.scripts, mint=self.mint, clock=SystemClock(), backlog_max=10**6
        )
        return await decider.decide(
            self.sale.sale_no,
            [
                OrderRequest(
                    sale_no=self.sale.sale_no,
                    item_no=item_no,
                    viewer=viewer,
                    key=key,
                    fingerprint=f"{item_no}.{quantity}",
                    quantity=quantity,
                    expect_amount_minor=-1,
                    extra="",
                    arrived_s=now_s,
                    answer=lambda _: None,
                )
                for viewer, key, item_no, quantity in orders
            ],
        )

    def writer(self, stream: OrderStream) -> OrderWriter:
        return OrderWriter(
            shard=0,
            holder="test",
            stream=stream,
            ledger=LedgerBatches(self.database_url),
            publisher=Nobody(),
            mint=self.mint,
            clock=SystemClock(),
            batch_max=500,
        )

    async def drain(self) -> None:
        writer = self.writer(NoWaiting(client=self.valkey, shard=0))
        writer.stop()
        await writer.run()
        await writer.close()

    async def refuse(self, *orders: tuple[str, str, int, int]) -> None:
        """Orders that Valkey accepts and the ledger refuses; their release waits for the keeper."""
        await self.sql("UPDATE sale_items SET price_minor = price_minor + 1")
        await self.place(*orders)
        await self.drain()
        await self.sql("UPDATE sale_items SET price_minor = price_minor - 1")

    async def act(self, act: Act, *, value: int = 0) -> None:
        control = HotControl(shard=self.shard, scripts=self.scripts, clock=SystemClock())
        await control.act(self.sale.sale_no, act, actor="host", item_no=TIN, value=value)

    async def sql(self, statement: str) -> None:
        await self.ledger.execute(statement)

    async def without_constraints(self, table: str, statement: str) -> None:
        """A ledger whose constraints do not stand in the way of the violation."""
        for row in await self.ledger.fetch(
            "SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype IN ('c', 'u')", table
        ):
            await self.sql(f'ALTER TABLE {table} DROP CONSTRAINT "{row["conname"]}"')
        await self.sql(statement)

    async def audit(self, *, sale: str | None = None, final: bool = False, most_behind: int = 10_000) -> AuditReport:
        hot = HotAudit(client=self.valkey, scripts=self.scripts)
        auditor = Auditor(ledger=self.audited, hot=hot, most_behind=most_behind, pause_s=0.01)
        return await auditor.run(sale=sale, final=final)

    @property
    def sale_key(self) -> str:
        return KEYS.sale(self.sale.sale_no)

    @property
    def answers_key(self) -> str:
        return KEYS.answers(self.sale.sale_no)

    @property
    def units_key(self) -> str:
        return KEYS.units(self.sale.sale_no)


@pytest.fixture
async def history(database_url: str, valkey_url: str) -> AsyncIterator[History]:
    """Twenty viewers with two orders each, acts between them, one order refused and released; all of it applied."""
    ledger = await Ledger.connect(database_url, size=3)
    valkey = connect(valkey_url, max_connections=8)
    try:
        shards = LedgerShards(ledger)
        await shards.ensure(1)
        async with Shops.connect(database_url) as shops:
            await shops.create("tins")
        mint = IdMint(await shards.id_key())
        now_ms = time.time_ns() // 1_000_000
        draft = SaleDraft(
            title="Tins and cups",
            currency="CNY",
            opens_at_ms=now_ms - 60_000,
            closes_at_ms=now_ms + 86_400_000,
            items=[
                ItemDraft(sku="tin", title="Tin", price_minor=100, stock=100, limit_per_viewer=3),
                ItemDraft(sku="cup", title="Cup", price_minor=250, stock=100_000, limit_per_viewer=1000),
            ],
        )
        sales = LedgerSales(ledger, mint=mint)
        sale = (await sales.create("tins", draft, Effect("host", "sale", "k", "f"))).sale
        scripts = Scripts(valkey)
        shard = HotShard(shard=0, client=valkey, scripts=scripts)
        keeper = ShardKeeper(
            shards=shards,
            sales=sales,
            releases=LedgerOutbox(ledger),
            hot={0: shard},
            hot_releases={0: HotReleases(shard=shard, scripts=scripts)},
        )
        await keeper.step()
        async with LedgerAudit.connect(database_url) as audited:
            made = History(database_url, valkey, ledger, sale, shard, scripts, mint, keeper, audited)
            await made.place(*((f"v{at}", "tin", TIN, 2) for at in range(20)))
            await made.act(Act.PAUSE)
            await made.act(Act.RESUME)
            await made.act(Act.STOCK, value=5)
            await made.place(*((f"v{at}", "cup", CUP, 1) for at in range(20)))
            await made.drain()
            await made.refuse(("v0", "refused", CUP, 3))
            await keeper.step()
            yield made
    finally:
        await valkey.aclose()
        await ledger.close()


def caught(report: AuditReport) -> set[str]:
    return {check.name for check in report.checks if check.violations}


def not_auditable(report: AuditReport) -> set[str]:
    return {check.name for check in report.checks if not check.holds and not check.violations}


async def test_a_drained_history_holds_to_the_unit(history: History) -> None:
    report = await history.audit(final=True)
    assert report.holds, [check for check in report.checks if not check.holds]
    assert [check.name for check in report.checks] == [rule.value for rule in Rule]
    figures = report.figures
    assert figures.orders == {"confirmed": 40, "refused": 1}
    assert figures.units == {"confirmed": 60, "refused": 3}
    assert (figures.stock, figures.left, figures.held, figures.sold) == (100_105, 100_045, 60, 0)
    assert (figures.waiting, figures.releasing, figures.backlog, figures.parked) == (0, 0, 0, 0)
    assert report.as_json()["checks"][0].keys() == {"name", "holds", "detail", "violations"}


async def test_one_sale_is_audited_by_its_id_and_an_unknown_one_is_not_found(history: History) -> None:
    assert (await history.audit(sale=history.sale.sale)).figures.sales == 1
    with pytest.raises(NotFound):
        await history.audit(sale="sale_none")


async def test_a_shard_that_nobody_has_opened_holds(history: History) -> None:
    await LedgerShards(history.ledger).ensure(3)
    assert (await history.audit(final=True)).holds


async def test_entries_behind_the_cursor_are_folded_and_only_a_final_audit_minds_them(history: History) -> None:
    await history.place(("v0", "more", CUP, 4), ("v30", "first", TIN, 3))
    await history.act(Act.STOCK, value=-7)
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    assert (report.figures.backlog, report.figures.waiting) == (3, 7)
    assert report.figures.stock == report.figures.left + report.figures.held + report.figures.waiting
    assert caught(await history.audit(final=True)) == {Rule.DRAINED}


async def test_the_cursor_may_stand_inside_a_group(history: History) -> None:
    await history.place(("v0", "more", CUP, 4), ("v30", "first", TIN, 3))
    stands = await history.ledger.fetchval("SELECT last_seq FROM shards")
    await history.sql("UPDATE sale_items SET held = held + 4 WHERE item_no = 2")
    await history.sql("UPDATE holdings SET units = units + 4 WHERE viewer = 'v0' AND item_no = 2")
    answer = (await history.valkey.hget(history.answers_key, "v0|more")).decode()
    fingerprint, epoch, seq, at_ms, price = answer.split("|")
    assert int(seq) == stands + 1
    await history.sql(
        "INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status,"
        " epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint)"
        f" VALUES ({history.sale.sale_no}, 'ord_x', 'v0', 'more', 2, 4, {price}, {int(price) * 4}, 'confirmed',"
        f" {epoch}, {seq}, {at_ms}, now(), now() + interval '1 hour', '{fingerprint}')"
    )
    await history.sql("UPDATE shards SET last_seq = last_seq + 1")
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    assert (report.figures.backlog, report.figures.waiting) == (1, 3)


async def test_a_pending_release_is_counted_until_valkey_is_told(history: History) -> None:
    await history.refuse(("v1", "again", CUP, 5), ("v1", "third", TIN, 1))
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    assert report.figures.releasing == 6
    assert caught(await history.audit(final=True)) == {Rule.DRAINED}
    await history.keeper.step()
    assert (await history.audit(final=True)).figures.releasing == 0


async def test_a_paid_order_stays_sold(history: History) -> None:
    await history.sql("UPDATE orders SET status = 'paid' WHERE viewer = 'v3' AND item_no = 1")
    await history.sql("UPDATE sale_items SET held = held - 2, sold = sold + 2 WHERE item_no = 1")
    await history.valkey.hincrby(history.sale_key, "1:held", -2)
    report = await history.audit(final=True)
    assert report.holds, [check for check in report.checks if not check.holds]
    assert (report.figures.held, report.figures.sold) == (58, 2)


async def test_a_backlog_too_large_for_a_cut_is_not_auditable_and_does_not_hold(history: History) -> None:
    await history.place(*((f"w{at}", "k", CUP, 1) for at in range(11)))
    report = await history.audit(most_behind=10)
    assert not report.holds
    assert not caught(report)
    assert {Rule.CONSERVATION, Rule.STOCK, Rule.HELD, Rule.UNITS, Rule.ANSWERED, Rule.ANSWERS} <= not_auditable(report)
    assert any("backlog too large for one cut (11" in check.detail for check in report.checks)
    assert (await history.audit(most_behind=11)).holds


async def test_a_parked_order_is_listed_and_accounts_for_its_number(history: History) -> None:
    await history.sql(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = '22000'; END $$"
    )
    await history.sql(
        "CREATE TRIGGER poison BEFORE INSERT ON orders FOR EACH ROW WHEN"
        " (NEW.viewer = 'poison' AND NEW.status <> 'refused')"
        " EXECUTE FUNCTION poison()"
    )
    await history.place(("w1", "k", CUP, 1), ("poison", "k", CUP, 2), ("w2", "k", CUP, 1))
    await history.drain()
    for releasing in (2, 0):
        report = await history.audit()
        assert report.holds, [check for check in report.checks if not check.holds]
        assert (report.figures.parked, report.figures.releasing) == (1, releasing)
        assert "22000" in report.figures.parked_entries[0]
        await history.keeper.step()


async def test_an_audit_holds_in_the_middle_of_a_running_sale(history: History) -> None:
    writer = history.writer(OrderStream(client=history.valkey, shard=0))
    closing = asyncio.Event()
    placed = 0

    async def shop(name: str) -> None:
        nonlocal placed
        while not closing.is_set():
            viewers = range(placed, placed + 20)
            answers = await history.place(*((f"{name}{at % 90}", f"{name}{at}", CUP, 1 + at % 2) for at in viewers))
            placed += len(answers)
            assert all(isinstance(each, OrderAnswer) for each in answers)

    async def host() -> None:
        while not closing.is_set():
            await history.act(Act.STOCK, value=1)
            await history.keeper.step()
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b"):
            tasks.create_task(shop(name))
        tasks.create_task(host())
        running = tasks.create_task(writer.run())
        try:
            backlogs = []
            for _ in range(6):
                report = await history.audit()
                assert report.holds, [check for check in report.checks if not check.holds]
                backlogs.append(report.figures.backlog)
        finally:
            closing.set()
            writer.stop()
        await running
    await writer.close()
    assert placed > 500
    assert max(backlogs) > 0, "every audit met an idle writer"
    final = await history.audit(final=True)
    assert final.holds
    assert final.figures.orders["confirmed"] == placed + 40


Seed = Callable[[History], Awaitable[object]]


async def _behind(history: History) -> list[bytes]:
    """Three groups behind the cursor; their entries' ids."""
    for at in range(3):
        await history.place((f"w{at}", "k", CUP, 1), (f"x{at}", "k", CUP, 1))
    return [id for id, _ in (await history.valkey.xrevrange(KEYS.stream, count=3))][::-1]


async def _trim(history: History) -> None:
    await history.valkey.xdel(KEYS.stream, (await _behind(history))[0])


async def _cut_out(history: History) -> None:
    await history.valkey.xdel(KEYS.stream, (await _behind(history))[1])


async def _cut_off(history: History) -> None:
    await history.valkey.xdel(KEYS.stream, (await _behind(history))[2])


async def _unreadable(history: History) -> None:
    seq = await history.valkey.hincrby(KEYS.shard, "seq", 1)
    await history.valkey.xadd(KEYS.stream, {"o": b"\xc1"}, id=f"1-{seq}")


async def _lost_release(history: History) -> None:
    await history.refuse(("w1", "k", CUP, 2))
    await history.sql("DELETE FROM outbox")


async def _double_release(history: History) -> None:
    await history.refuse(("w1", "k", CUP, 2))
    await history.valkey.hincrby(history.sale_key, "2:left", 2)


async def _answer_moved(history: History) -> None:
    answer = await history.valkey.hget(history.answers_key, "v1|tin")
    await history.valkey.hset(history.answers_key, "v2|tin", answer)


VALKEY_SEEDS: dict[str, tuple[Seed, set[Rule]]] = {
    "units left from nowhere": (lambda h: h.valkey.hincrby(h.sale_key, "1:left", 1), {Rule.CONSERVATION}),
    "units left lost": (lambda h: h.valkey.hincrby(h.sale_key, "2:left", -1), {Rule.CONSERVATION}),
    "a counter under zero": (
        lambda h: h.valkey.hset(h.sale_key, "1:left", "-1"),
        {Rule.CONSERVATION, Rule.NEGATIVE},
    ),
    "held units from nowhere": (lambda h: h.valkey.hincrby(h.sale_key, "1:held", 1), {Rule.HELD}),
    "another stock": (lambda h: h.valkey.hincrby(h.sale_key, "1:stock", 1), {Rule.STOCK}),
    "a running sale gone": (lambda h: h.valkey.delete(h.sale_key), {Rule.STOCK}),
    "an item gone": (
        lambda h: h.valkey.hdel(h.sale_key, "1:stock", "1:left", "1:held", "1:price", "1:limit"),
        {Rule.STOCK},
    ),
    "an answer gone": (lambda h: h.valkey.hdel(h.answers_key, "v1|tin"), {Rule.ANSWERS}),
    "all answers gone": (lambda h: h.valkey.delete(h.answers_key), {Rule.ANSWERS}),
    "an answer of another order": (_answer_moved, {Rule.ANSWERS}),
    "an answer without an order": (
        lambda h: h.valkey.hset(h.answers_key, "v1|never", "f|1|7|1000|100"),
        {Rule.ANSWERED},
    ),
    "an answer of a number to come": (
        lambda h: h.valkey.hset(h.answers_key, "v1|never", "f|1|9999|1000|100"),
        {Rule.ANSWERED},
    ),
    "an unreadable answer": (lambda h: h.valkey.hset(h.answers_key, b"\xff|\x00", b"\xff"), {Rule.ANSWERED}),
    "more units by viewer": (lambda h: h.valkey.hincrby(h.units_key, "v1|1", 1), {Rule.UNITS}),
    "units by viewer gone": (lambda h: h.valkey.hdel(h.units_key, "v1|1"), {Rule.UNITS}),
    "units of a viewer without orders": (lambda h: h.valkey.hset(h.units_key, "ghost|1", 1), {Rule.UNITS}),
    "another epoch": (lambda h: h.valkey.hset(KEYS.shard, "epoch", 2), {Rule.EPOCH}),
    "the whole shard gone": (lambda h: h.valkey.flushall(), {Rule.EPOCH, Rule.STOCK}),
    "Valkey behind the ledger": (lambda h: h.valkey.hincrby(KEYS.shard, "seq", -3), {Rule.AHEAD}),
    "releases nobody wrote": (lambda h: h.valkey.hset(KEYS.shard, "released", 99), {Rule.AHEAD}),
    "told of more than there is": (lambda h: h.valkey.hset(KEYS.shard, "applied", 9999), {Rule.AHEAD}),
    "trimmed past the cursor": (_trim, {Rule.TRIM}),
    "an entry gone": (_cut_out, {Rule.STREAM}),
    "the last entry gone": (_cut_off, {Rule.STREAM}),
    "an unreadable entry": (_unreadable, {Rule.STREAM}),
    "a release lost": (
        _lost_release,
        {Rule.CONSERVATION, Rule.HELD, Rule.UNITS, Rule.ANSWERED},
    ),
    "a release applied beside its number": (_double_release, {Rule.CONSERVATION}),
}

_V1 = "WHERE viewer = 'v1' AND item_no = 1"
_SUMS = {Rule.COUNTERS, Rule.CONSERVATION, Rule.HELD, Rule.HOLDINGS}
LEDGER_SEEDS: dict[str, tuple[str, str, set[Rule]]] = {
    "held off": ("sale_items", "UPDATE sale_items SET held = held + 1 WHERE item_no = 1", {Rule.COUNTERS}),
    "sold off": ("sale_items", "UPDATE sale_items SET sold = sold + 1 WHERE item_no = 1", {Rule.COUNTERS}),
    "held under zero": (
        "sale_items",
        "UPDATE sale_items SET held = -1 WHERE item_no = 1",
        {Rule.COUNTERS, Rule.NEGATIVE},
    ),
    "oversold": (
        "sale_items",
        "UPDATE sale_items SET stock = 39 WHERE item_no = 1",
        {Rule.WITHIN_STOCK, Rule.STOCK, Rule.CONSERVATION},
    ),
    "an order of more units": (
        "orders",
        f"UPDATE orders SET quantity = 3, amount_minor = 300 {_V1}",
        _SUMS,
    ),
    "an order gone": ("orders", f"DELETE FROM orders {_V1}", {*_SUMS, Rule.NUMBERS, Rule.ANSWERED}),
    "an order ended without release": ("orders", f"UPDATE orders SET status = 'expired' {_V1}", _SUMS),
    "an order of an item that is not there": ("orders", f"UPDATE orders SET item_no = 9 {_V1}", _SUMS),
    "a holding off": (
        "holdings",
        "UPDATE holdings SET units = 3 WHERE viewer = 'v1' AND item_no = 1",
        {Rule.HOLDINGS, Rule.UNITS},
    ),
    "a holding gone": (
        "holdings",
        "DELETE FROM holdings WHERE viewer = 'v1' AND item_no = 1",
        {Rule.HOLDINGS, Rule.UNITS},
    ),
    "past the limit": ("sale_items", "UPDATE sale_items SET limit_per_viewer = 1 WHERE item_no = 1", {Rule.LIMITS}),
    "two orders of a key": (
        "orders",
        "UPDATE orders SET key = 'tin' WHERE viewer = 'v1' AND item_no = 2",
        {Rule.KEYS, Rule.ANSWERED},
    ),
    "an order of another key": ("orders", f"UPDATE orders SET key = 'other' {_V1}", {Rule.ANSWERED, Rule.ANSWERS}),
    "another fingerprint": ("orders", f"UPDATE orders SET fingerprint = 'other' {_V1}", {Rule.ANSWERS}),
    "an amount off": ("orders", f"UPDATE orders SET amount_minor = amount_minor - 1 {_V1}", {Rule.AMOUNTS}),
    "another price": ("sale_items", "UPDATE sale_items SET price_minor = 99 WHERE item_no = 1", {Rule.PRICES}),
    "the cursor ahead": ("shards", "UPDATE shards SET last_seq = last_seq + 5", {Rule.AHEAD, Rule.NUMBERS}),
    "a number missing": ("acts", "DELETE FROM acts WHERE act = 'pause'", {Rule.NUMBERS}),
    "a number twice": (
        "parked",
        "INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry) VALUES (0, 1, 3, 4, 'twice', '')",
        {Rule.NUMBERS},
    ),
    "a number behind the cursor": (
        "parked",
        "INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry) VALUES (0, 1, 900, 900, 'early', '')",
        {Rule.NUMBERS},
    ),
    "another epoch": ("shards", "UPDATE shards SET epoch = 2", {Rule.EPOCH, Rule.NUMBERS}),
}


@pytest.mark.parametrize("name", VALKEY_SEEDS)
async def test_a_violation_in_valkey_is_caught_by_the_right_check(history: History, name: str) -> None:
    seed, expected = VALKEY_SEEDS[name]
    await seed(history)
    report = await history.audit()
    assert caught(report) == expected, report
    assert not report.holds


@pytest.mark.parametrize("name", LEDGER_SEEDS)
async def test_a_violation_in_the_ledger_is_caught_by_the_right_check(history: History, name: str) -> None:
    table, statement, expected = LEDGER_SEEDS[name]
    await history.without_constraints(table, statement)
    report = await history.audit()
    assert caught(report) == expected, report
    assert not report.holds


async def test_a_long_list_of_violations_is_cut_and_counted(history: History) -> None:
    await history.without_constraints("orders", "UPDATE orders SET discount_minor = 1")
    report = await history.audit()
    check = next(check for check in report.checks if check.name == Rule.AMOUNTS)
    assert len(check.violations) == 20
    assert check.detail.startswith("41 broken")


def test_the_script_of_the_cut_may_not_write() -> None:
    assert (find_lua_folder() / "audit_cut.lua").read_text(encoding="utf-8").startswith("#!lua flags=no-writes\n")


async def test_a_cut_has_entries_of_its_epoch_up_to_its_bound(history: History) -> None:
    hot = HotAudit(client=history.valkey, scripts=history.scripts)
    whole = await hot.cut(0, epoch=1, after=0, most=1000)
    assert whole.entries is not None
    assert whole.entries[-1].last == whole.seq
    assert (await hot.cut(0, epoch=1, after=0, most=1)).entries is None
    assert (await hot.cut(0, epoch=2, after=0, most=1000)).entries is None
    assert (await hot.cut(9, epoch=1, after=0, most=1000)).epoch == 0


async def test_a_snapshot_stays_of_its_moment(history: History) -> None:
    async with history.audited.snapshot() as snapshot:
        before = await snapshot.shards()
        await history.sql("UPDATE shards SET last_seq = last_seq + 1")
        assert await snapshot.shards() == before
    async with history.audited.snapshot() as snapshot:
        assert await snapshot.shards() != before
