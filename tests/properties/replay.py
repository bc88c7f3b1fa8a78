"""The steps of a small world, taken by the real parts: scripts on Valkey, functions of the ledger, and what the writer,
the keeper and a rebuild call them with. Each way has a shard of its own."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.clock import SystemClock
from gateway.domain.batch import LateColumns, Lease, OrderColumns, Place
from gateway.domain.ids import IdMint
from gateway.domain.order import OrderAnswer, OrderRequest
from gateway.domain.sale import Item, Sale, SaleHold, StockDisplay
from gateway.domain.settle import LatePayment, SettleAct
from gateway.hot.connect import Client
from gateway.hot.orders import HotOrders
from gateway.hot.releases import HotReleases
from gateway.hot.revivals import HotRevivals
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from gateway.hot.stream import OrderStream, RawEntry
from gateway.ledger.batches import LedgerBatches
from gateway.ledger.outbox import LedgerOutbox
from gateway.ledger.pool import Ledger
from gateway.ledger.settlement import LedgerSettlement
from gateway.wire import entries
from gateway.writer.batch import LateStep, OrdersStep, fold
from tests.properties.replay_rebuild import Stepped
from tests.properties.small_steps import take
from tests.properties.small_world import LOADING, MONEY, STATUS, THERE, WAITING, Step, World

AMOUNT = 100
_FAR = datetime(9999, 1, 1, tzinfo=UTC)
_NO = {"sold_out": "stock", "limit_reached": "limit"}

_SETUP = """
WITH made AS (INSERT INTO shards (shard, opened, run_id) VALUES ($1, true, 'run-0')),
shop AS (INSERT INTO shops (shop, shard) VALUES ('shop-' || $1::int, $1) RETURNING shop_no),
sale AS (
    INSERT INTO sales (sale, shop_no, title, currency, opens_at_ms, closes_at_ms, pay_within_s, created_at_ms,
                       loaded_epoch)
    SELECT 'sale_' || $1::int, shop_no, 'tins', 'EUR', $2, $3, 3600, $2, 1 FROM shop RETURNING sale_no, shop_no
), item AS (
    INSERT INTO sale_items (sale_no, item_no, sku, title, price_minor, stock, limit_per_viewer)
    SELECT sale_no, 1, 'tin', 'tin', 100, $4, $5 FROM sale
)
SELECT sale_no, shop_no FROM sale
"""
_STANDS = """
SELECT json_build_object(
    'shard', (SELECT row_to_json(d) FROM shards d WHERE d.shard = $1),
    'orders', (SELECT coalesce(json_agg(json_build_array(o.key, o.status)), '[]') FROM orders o WHERE o.sale_no = $2),
    'payments', (SELECT coalesce(json_agg(json_build_array(p.txn, p.state)), '[]')
                   FROM payments p WHERE p.sale_no = $2),
    'outbox', (SELECT coalesce(json_agg(json_build_array(x.no, x.kind, x.viewer) ORDER BY x.no), '[]')
                 FROM outbox x WHERE x.shard = $1),
    'item', (SELECT json_build_array(held, sold) FROM sale_items WHERE sale_no = $2),
    'holdings', (SELECT coalesce(json_agg(json_build_array(h.viewer, h.units)), '[]')
                   FROM holdings h WHERE h.sale_no = $2 AND h.units > 0))
"""
# A batch's orders share their deadline; here time passes for one order alone.
_ONE_DEADLINE_EACH = """
WITH gone AS (DELETE FROM deadlines WHERE shard = $1 RETURNING 1),
passed AS (
    UPDATE orders SET confirmed_at = confirmed_at - interval '2 hours', pay_by = pay_by - interval '2 hours'
     WHERE order_id = $3 RETURNING order_id
)
INSERT INTO deadlines (shard, pay_by, sale_no, first_id, last_id, orders)
SELECT $1, o.pay_by + interval '1 millisecond' - CASE o.order_id WHEN $3 THEN interval '2 hours' ELSE interval '0' END,
       o.sale_no, o.order_id, o.order_id, 1
  FROM orders o WHERE o.sale_no = $2 AND o.status = 'confirmed' AND (SELECT count(*) FROM gone) >= 0
   AND (SELECT count(*) FROM passed) = 1
"""


class Floor:
    """What all ways share: the servers."""

    def __init__(self, *, ledger: Ledger, database_url: str, client: Client, mint: IdMint) -> None:
        self.ledger = ledger
        self.client = client
        self.scripts = Scripts(client)
        self.mint = mint
        self.batches = LedgerBatches(database_url)
        self.outbox = LedgerOutbox(ledger)
        self.settlement = LedgerSettlement(ledger)
        self.database_url = database_url
        self.clock = SystemClock()
        self.compared = 0


class Real:
    """One shard, moved step by step beside a world that says what must become of it."""

    def __init__(self, floor: Floor, number: int, world: World) -> None:
        self.floor = floor
        self.number = number
        self.world = world
        self.hot = HotShard(shard=number, client=floor.client, scripts=floor.scripts)
        self.keys = self.hot.keys
        self.orders = HotOrders(
            shard=self.hot, scripts=floor.scripts, mint=floor.mint, clock=floor.clock, backlog_max=50_000
        )
        self.releases = HotReleases(shard=self.hot, scripts=floor.scripts)
        self.revivals = HotRevivals(shard=self.hot, scripts=floor.scripts)
        self.stream = OrderStream(client=floor.client, shard=number)
        self.rebuilders = [Stepped(self, slot) for slot in range(len(world.slots))]
        self.sale_no = self.shop_no = 0
        self.lease: Lease
        self.read: list[RawEntry] = []
        """What the writer has read and not applied."""
        self.ids: dict[int, str] = {}
        self.places: dict[int, tuple[int, int]] = {}
        self.waiting: dict[int, LatePayment] = {}
        self.saved: dict[bytes, bytes] = {}

    async def begin(self) -> None:
        floor, plan = self.floor, self.world.plan
        now_ms = int(floor.clock.now_ms())
        window = (now_ms - 60_000, now_ms + 3_600_000)
        row = await floor.ledger.fetchrow(_SETUP, self.number, *window, plan.stock, plan.limit)
        self.sale_no, self.shop_no = row["sale_no"], row["shop_no"]
        lease = await floor.batches.take_lease(self.number, holder="writer", for_s=3600)
        assert lease is not None
        self.lease = lease
        assert await self.hot.open(epoch=1) == "created"
        await self.hot.load_sale(self._sale(*window))

    def _sale(self, opens_at_ms: int, closes_at_ms: int) -> Any:
        item = Item(1, "tin", "tin", AMOUNT, self.world.plan.stock, self.world.plan.limit)  # type: ignore[arg-type]
        fields: dict[str, Any] = dict.fromkeys(Sale.__struct_fields__)
        fields |= {
            "sale_no": self.sale_no,
            "hold": SaleHold.ACTIVE,
            "stock_display": StockDisplay.EXACT,
            "items": [item],
        }
        return Sale(**{**fields, "opens_at_ms": opens_at_ms, "closes_at_ms": closes_at_ms})

    def _viewer(self, tap: int) -> str:
        return f"vw_{self.world.plan.taps[tap]}"

    async def take(self, step: Step) -> None:
        """The step in the world and by the real part; both say the same and stand alike afterwards."""
        name, *where = step
        before = self.world.copy()
        word = take(self.world, step)
        said = await getattr(self, f"_{name}")(before, *where)
        assert said == word, f"{step}: the real part says {said}, the world {word}"
        await self.compare(step)

    # The steps, each as the process that takes it calls it.

    async def _ask(self, before: World, tap: int) -> str:
        self.hot.enter_epoch(before.v_epoch, before.v_seq)
        request = OrderRequest(
            sale_no=self.sale_no,
            item_no=1,
            viewer=self._viewer(tap),
            key=f"k{tap}",
            fingerprint="f",
            quantity=1,
            expect_amount_minor=-1,
            extra="",
            arrived_s=self.floor.clock.monotonic(),
            answer=lambda given: None,
        )
        for replayed in (False, True):  # the reply was lost, and it was asked again
            [answer] = await self.orders.decide(self.sale_no, [request])
            assert isinstance(answer, OrderAnswer) and answer.order is not None and answer.replayed is replayed
        self.ids[tap], self.places[tap] = str(answer.order), (before.v_epoch, before.v_seq + 1)
        self.read += await self.stream.read(before.v_epoch, before.v_seq, count=9, wait_ms=0)
        return str(answer.outcome)

    async def _commit(self, before: World) -> str:
        # What it has read of an epoch that ended is of no use any more.
        self.read = [each for each in self.read if each.epoch == before.epoch]
        entry = self.read.pop(0)
        decoded: Any = entries.decode(entry.body)
        [step] = fold([decoded], epoch=entry.epoch, after=before.cursor, most=1, mint=self.floor.mint)
        at = Place(self.number, entry.epoch, step.after, step.last, self.lease.token)
        _, tap = before.stream[0]
        if isinstance(step, OrdersStep):
            orders: OrderColumns = step.orders
            assert orders.order_ids == [self.ids[tap]]
            applied = await self.floor.batches.apply_orders(at, orders)
            return "refused" if applied.refused else "confirmed"
        assert isinstance(step, LateStep)
        late = step.late
        columns = LateColumns(late.sale_no, late.payment_no, late.item_no, late.viewer, late.order_id, late.quantity)
        return str((await self.floor.batches.apply_late(at, columns)).status)

    async def _settle(self, tap: int, do: str, **more: Any) -> str:
        act = SettleAct(do=do, shop_no=self.shop_no, order=self.ids[tap], sale=self.sale_no, **more)
        for expected in (("done",), ("replayed", "done")):  # told once more, it changes nothing
            [settled] = await self.floor.settlement.settle(self.number, [act])
            assert settled.word in expected
        return str(settled.status)

    async def _pay(self, before: World, tap: int) -> str:
        money: dict[str, Any] = {"provider": "bank", "txn": f"t{tap}", "amount": AMOUNT, "paid_at_ms": 1}
        status = await self._settle(tap, "pay", **money)
        for payment in await self.floor.settlement.waiting_payments(self.number, limit=9):
            if payment.order_id == self.ids[tap]:
                self.waiting[tap] = payment
        return status

    async def _refund(self, before: World, tap: int) -> str:
        return await self._settle(tap, "refund", txn=f"t{tap}", amount=AMOUNT)

    async def _cancel(self, before: World, tap: int) -> str:
        return await self._settle(tap, "cancel", viewer=self._viewer(tap))

    async def _expire(self, before: World, tap: int) -> str:
        assert not await self.floor.settlement.expire(self.number, most=100, not_after=_FAR)
        await self.floor.ledger.execute(_ONE_DEADLINE_EACH, self.number, self.sale_no, self.ids[tap])
        ended = await self.floor.settlement.expire(self.number, most=100, not_after=_FAR)
        assert ended is not None and [each.order_id for each in ended] == [self.ids[tap]]
        return "expired"

    async def _release(self, before: World) -> str:
        self.hot.enter_epoch(before.v_epoch, before.v_seq)
        rows = await self.floor.outbox.pending(self.number, limit=100)
        told = before.ack < before.released
        count = before.released - before.forgotten + (0 if told else 1)
        released = await self.releases.apply(rows[:count])
        assert released == before.released + (0 if told else 1)
        return "told" if told else "released"

    async def _forget(self, before: World) -> str:
        await self.floor.outbox.forget(self.number, before.forgotten + 1)
        return "forgotten"

    async def _revive(self, before: World, tap: int) -> str:
        self.hot.enter_epoch(before.v_epoch, before.v_seq)
        word = await self.revivals.revive(self.waiting[tap])
        if word == "revived":
            assert await self.revivals.revive(self.waiting[tap]) == "replayed"
            self.read += await self.stream.read(before.v_epoch, before.v_seq, count=9, wait_ms=0)
        return word

    async def _say_no(self, before: World, tap: int) -> str:
        status = await self.floor.settlement.settle_late(self.number, self.waiting[tap].payment_no, "stock")
        assert await self.floor.settlement.settle_late(self.number, self.waiting[tap].payment_no, "stock") is None
        return str(status)

    # Faults.

    async def _names(self) -> list[bytes]:
        return [name async for name in self.floor.client.scan_iter(match=f"{{s{self.number}}}:*", count=1000)]

    async def _empty(self, before: World) -> str:
        await self.floor.client.delete(*await self._names())
        return "gone"

    async def _restart(self, before: World) -> str:
        """The number of the run is the world's: a real restart of the server takes too long for so many ways."""
        return "restarted"

    async def _save(self, before: World) -> str:
        self.saved = {name: await self.floor.client.dump(name) for name in await self._names()}
        return "saved"

    async def _older(self, before: World) -> str:
        names = await self._names()
        if names:
            await self.floor.client.delete(*names)
        for name, content in self.saved.items():
            await self.floor.client.restore(name, 0, content)
        return "older"

    # Rebuilds.

    async def _look(self, before: World, slot: int) -> str:
        return await self.rebuilders[slot].look()

    async def _rebuild(self, before: World, slot: int) -> str:
        return await self.rebuilders[slot].next()

    async def _give_up(self, before: World, slot: int) -> str:
        return await self.rebuilders[slot].die()

    # Both stand alike.

    async def compare(self, step: Step) -> None:
        self.floor.compared += 1
        ledger: dict[str, Any] = json.loads(await self.floor.ledger.fetchval(_STANDS, self.number, self.sale_no))
        for found, expected in (
            (self._ledger_of(ledger), self._ledger_expected()),
            (await self._valkey_found(), self._valkey_expected()),
        ):
            assert found == expected, f"after {' '.join(map(str, step))}: {found} is not {expected}"

    def _ledger_of(self, ledger: dict[str, Any]) -> dict[str, Any]:
        shard = ledger["shard"]
        return {
            "shard": [shard[name] for name in ("epoch", "last_seq", "outbox_no", "reopen", "load_token", "run_id")],
            "orders": dict(ledger["orders"]),
            "payments": dict(ledger["payments"]),
            "outbox": ledger["outbox"],
            "item": ledger["item"],
            "holdings": dict(ledger["holdings"]),
        }

    def _ledger_expected(self) -> dict[str, Any]:
        w = self.world
        units = {f"vw_{viewer}": w.of_viewer(viewer) for viewer in range(w.plan.viewers)}
        held = w.ledger_units((2,))
        return {
            "shard": [w.epoch, w.cursor, w.outbox_no, w.reopen or None, w.token, f"run-{w.run}"],
            "orders": {f"k{tap}": STATUS[each] for tap, each in enumerate(w.status) if each > WAITING},
            "payments": {f"t{tap}": MONEY[each] for tap, each in enumerate(w.money) if each},
            "outbox": [[w.forgotten + 1 + at, kind, self._viewer(tap)] for at, (kind, tap) in enumerate(w.rows)],
            "item": [held, w.ledger_units() - held],
            "holdings": {viewer: had for viewer, had in units.items() if had},
        }

    async def _valkey_found(self) -> dict[str, Any]:
        keys, no = self.keys, self.sale_no
        pipe = self.floor.client.pipeline(transaction=False)
        for name in (keys.shard, keys.sale(no), keys.units(no), keys.answers(no), keys.late(no)):
            pipe.hgetall(name)
        pipe.xrevrange(keys.stream, count=1)
        shard, sale, units, answers, late, last = await pipe.execute()
        facts = {name.decode(): int(value) for name, value in shard.items() if name != b"applied"}
        if not facts.get("loaded"):
            facts.pop("loaded", None)
        found: dict[str, Any] = {"shard": facts}
        if self.world.there in (THERE, LOADING):
            found["counts"] = [int(sale.get(b"1:left", 0)), int(sale.get(b"1:held", 0))]
            found["units"] = {name.decode(): int(value) for name, value in units.items()}
            found["answers"] = {
                name.decode(): tuple(map(int, value.split(b"|")[1:3])) for name, value in answers.items()
            }
            found["late"] = {int(name) for name in late}
        found["tail"] = tuple(map(int, last[0][0].split(b"-"))) if last else (0, 0)
        return found

    def _valkey_expected(self) -> dict[str, Any]:
        w = self.world
        facts: dict[str, int] = {}
        if w.there == THERE:
            facts = {"epoch": w.v_epoch, "seq": w.v_seq, "released": w.released, "open": w.open}
        elif w.there == LOADING or w.loaded:
            facts = {"open": 0}
        facts |= {name: value for name, value in (("loading", w.loading), ("loaded", w.loaded)) if value}
        expected: dict[str, Any] = {"shard": facts}
        if w.there in (THERE, LOADING):
            taps = range(len(w.ans))
            expected["counts"] = [w.left, w.held]
            expected["units"] = {f"vw_{viewer}|1": had for viewer, had in enumerate(w.units) if had}
            expected["answers"] = {f"{self._viewer(tap)}|k{tap}": self.places[tap] for tap in taps if w.ans[tap]}
            expected["late"] = {self.waiting[tap].payment_no for tap in taps if w.late[tap]}
        expected["tail"] = w.tail
        return expected


async def walk(real: Real, way: Sequence[Step]) -> None:
    await real.begin()
    try:
        await real.compare(("begin",))
        for step in way:
            await real.take(step)
    finally:
        for each in real.rebuilders:
            await each.die()
