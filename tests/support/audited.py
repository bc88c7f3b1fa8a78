"""A history for the audit: one sale of two items on real servers, with orders in every status, payments of every kind,
an epoch that ended, entries that wait in the stream and outbox rows that wait for Valkey. Made once, copied a test."""

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.domain.acts import Act
from gateway.domain.ids import IdMint
from gateway.domain.settle import SettleAct, Settled
from gateway.hot.audit import HotAudit
from gateway.hot.connect import connect
from gateway.keeper.audit import Auditor
from gateway.keeper.audit_report import AuditReport
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.pool import Ledger
from gateway.ledger.shards import LedgerShards
from tests.support.servers import SessionServers, flush
from tests.support.shop_floor import SHARD, ShopFloor, item, shop_floor

TIN, CUP = 1, 2
TIN_PRICE, CUP_PRICE, CUP_PRICE_LATER = 100, 250, 260
ITEMS = [
    item("tin", price=TIN_PRICE, stock=200, limit=3),
    item("cup", price=CUP_PRICE, stock=100_000, limit=1000),
]
Want = tuple[str, str, int, int]
"""Viewer, key, item number, quantity."""


@dataclass(frozen=True, slots=True)
class MadeHistory:
    """The history at rest: a database, and every key of Valkey."""

    database_url: str
    keys: Mapping[bytes, bytes]


class History:
    """A shop floor with the acts that make a history, and the audit of it."""

    def __init__(self, floor: ShopFloor) -> None:
        self.floor = floor
        self.audited = LedgerAudit(floor.database_url)
        self._txns = itertools.count(1)
        self.orders: dict[str, str] = {}
        """Order ids by viewer and key, as `viewer|key`."""

    # What makes a history.

    async def place(self, *wants: Want) -> list[Any]:
        answers = await self.floor.place(
            *(self.floor.request(viewer, key, item_no=no, quantity=units) for viewer, key, no, units in wants)
        )
        for (viewer, key, _, _), answer in zip(wants, answers, strict=True):
            self.orders[f"{viewer}|{key}"] = str(answer.order)
        return answers

    async def sold(self, *wants: Want) -> None:
        """Orders that the ledger has confirmed."""
        await self.place(*wants)
        await self.floor.written()

    async def refuse(self, *wants: Want) -> None:
        """Orders that Valkey accepts and the ledger refuses; their release waits for the keeper."""
        await self.sql("UPDATE sale_items SET price_minor = price_minor + 1")
        await self.sold(*wants)
        await self.sql("UPDATE sale_items SET price_minor = price_minor - 1")

    async def expire(self) -> None:
        """The deadline of every confirmed order passes."""
        await self.sql(
            "UPDATE orders SET confirmed_at = confirmed_at - interval '9 hours', pay_by = pay_by - interval '9 hours'"
            " WHERE status = 'confirmed'"
        )
        await self.sql("UPDATE deadlines SET pay_by = pay_by - interval '9 hours'")
        await self.floor.deadlines.sweep(SHARD)

    async def act(self, act: Act, *, item_no: int = TIN, value: int = 0) -> None:
        await self.floor.control.act(self.sale_no, act, actor="host", item_no=item_no, value=value)

    async def settle(self, do: str, order: str, **more: Any) -> Settled:
        """`order` as `viewer|key`."""
        order = self.orders.get(order, order)
        act = SettleAct(do=do, shop_no=1, order=order, sale=self.sale_no, **more)
        return (await self.floor.settlement.settle(SHARD, [act]))[0]

    async def pay(self, order: str, *, amount: int = 2 * TIN_PRICE, **more: Any) -> str:
        """The transaction."""
        txn = f"txn-{next(self._txns)}"
        more = {"provider": "bank", "paid_at_ms": 1_700_000_000_000, "keep": True, **more}
        settled = await self.settle("pay", order, txn=txn, amount=amount, **more)
        assert settled.word == "done", settled
        return txn

    async def refund(self, order: str, txn: str, *, amount: int = 2 * TIN_PRICE) -> None:
        settled = await self.settle("refund", order, txn=txn, amount=amount)
        assert settled.word == "done", settled

    async def cancel(self, order: str) -> None:
        settled = await self.settle("cancel", order, viewer=order.partition("|")[0])
        assert settled.changed, settled

    async def released(self) -> None:
        await self.floor.give_back.drain(SHARD)

    async def drained(self) -> None:
        """Nothing waits anywhere."""
        for _ in range(2):
            await self.floor.late.settle(SHARD)
            await self.floor.written()
            await self.released()

    # What breaks it.

    async def sql(self, statement: str) -> None:
        await self.floor.ledger.execute(statement)

    async def without_constraints(self, table: str, statement: str) -> None:
        """A ledger whose constraints do not stand in the way of the violation."""
        for row in await self.floor.ledger.fetch(
            "SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype IN ('c', 'u')", table
        ):
            await self.sql(f'ALTER TABLE {table} DROP CONSTRAINT "{row["conname"]}"')
        await self.sql(statement)

    # The audit.

    async def audit(
        self, *, sale: str | None = None, running: bool = False, final: bool = False, most_behind: int = 10_000
    ) -> AuditReport:
        auditor = self.auditor(most_behind=most_behind)
        return await auditor.run(sale=sale, running=running, final=final)

    def auditor(self, *, most_behind: int = 10_000, ledger: LedgerAudit | None = None) -> Auditor:
        hot = HotAudit(client=self.floor.client, scripts=self.floor.scripts)
        return Auditor(ledger=ledger or self.audited, hot=hot, most_behind=most_behind, pause_s=0.01)

    @property
    def sale_no(self) -> int:
        return self.floor.sale.sale_no

    @property
    def sale_key(self) -> str:
        return self.floor.keys.sale(self.sale_no)

    @property
    def answers_key(self) -> str:
        return self.floor.keys.answers(self.sale_no)

    @property
    def units_key(self) -> str:
        return self.floor.keys.units(self.sale_no)


def caught(report: AuditReport) -> set[str]:
    return {check.name for check in report.checks if check.violations}


def not_auditable(report: AuditReport) -> set[str]:
    return {check.name for check in report.checks if not check.holds and not check.violations}


def make_history(servers: SessionServers) -> MadeHistory:
    database_url, valkey_url = servers.fresh_database(), servers.urls.valkey_url
    flush(valkey_url)
    keys = servers.run(_make(database_url, valkey_url))
    flush(valkey_url)
    return MadeHistory(database_url, keys)


@asynccontextmanager
async def copied_history(made: MadeHistory, *, database_url: str, valkey_url: str) -> AsyncIterator[History]:
    """The history on a copy of its database and an empty Valkey, as if it had all happened just now."""
    ledger = await Ledger.connect(database_url, size=4)
    client = connect(valkey_url, max_connections=12, reply_timeout_s=5.0)
    history = None
    try:
        for key, value in made.keys.items():
            await client.restore(key, 0, value)
        mint = IdMint(await LedgerShards(ledger).id_key())
        floor = ShopFloor(ledger=ledger, client=client, mint=mint, database_url=database_url, valkey_url=valkey_url)
        sale = await floor.sales.find(1)
        assert sale is not None
        floor.sale = sale
        epoch, seq = await floor.shards.cursor(SHARD)
        floor.hot.enter_epoch(epoch, seq)
        history = History(floor)
        rows = await ledger.fetch("SELECT coalesce(viewer || '|' || key, '') AS name, order_id FROM orders")
        history.orders.update({row["name"]: row["order_id"] for row in rows})
        await history.sql("UPDATE payments SET received_at = clock_timestamp() WHERE state = 'waiting'")
        await history.sql(
            "UPDATE orders SET confirmed_at = now(), pay_by = now() + interval '1 hour' WHERE status = 'confirmed'"
        )
        await history.sql("UPDATE deadlines SET pay_by = now() + interval '61 minutes'")
        yield history
    finally:
        if history is not None:
            history.audited.close()
        await client.aclose()
        await ledger.close()


async def _make(database_url: str, valkey_url: str) -> dict[bytes, bytes]:
    async with shop_floor(database_url, valkey_url, items=ITEMS) as floor:
        history = History(floor)
        await _first_epoch(history)
        await floor.shards.want_recount(SHARD, "test")
        await floor.keeper.step()
        assert (await floor.shards.cursor(SHARD))[0] == 2
        await _second_epoch(history)
        history.audited.close()
        return {key: await floor.client.dump(key) for key in await floor.client.keys()}


async def _first_epoch(history: History) -> None:
    """Orders in every status, all of it applied and told."""
    floor = history.floor
    # Expired ones first: the deadlines of all that is there pass together.
    await history.sold(*((f"e{at}", "tin", TIN, 2) for at in range(7)))
    await history.expire()
    await history.released()
    await history.pay("e1|tin")  # late money that brings its order back
    await history.sold(("e4", "again", TIN, 2))
    await history.pay("e4|tin")  # late money for which the limit has no room
    await history.drained()
    await history.pay("e5|tin")  # late money for which Valkey takes units, and the ledger does not
    await floor.late.settle(SHARD)
    await floor.settlement.settle_late(SHARD, 3, "stock")
    await history.drained()
    await history.sold(*((f"v{at}", "tin", TIN, 2) for at in range(20)))
    await history.act(Act.PAUSE)
    await history.act(Act.RESUME)
    await history.act(Act.STOCK, value=5)
    await history.place(*((f"v{at}", "cup", CUP, 1) for at in range(10)))
    await history.act(Act.PRICE, item_no=CUP, value=CUP_PRICE_LATER)
    await history.place(*((f"v{at}", "cup", CUP, 1) for at in range(10, 20)))
    await floor.written()
    await history.refuse(("v0", "refused", CUP, 3))
    await history.pay("v2|tin")
    await history.pay("v2|tin")  # a second time: to be refunded
    await history.refund("v2|tin", await history.pay("v2|tin"))
    await history.pay("v3|tin", amount=1)  # the wrong amount: to be refunded
    await history.refund("v4|tin", await history.pay("v4|tin"))
    await history.cancel("v5|tin")
    await history.cancel("v6|tin")
    await history.pay("v6|tin")  # money for a cancelled order: refund due
    await history.cancel("v7|tin")
    await history.refund("v7|tin", await history.pay("v7|tin"))
    await history.pay("ord_of_nobody", amount=77)
    await history.pay("v8|tin")
    await history.drained()


async def _second_epoch(history: History) -> None:
    """What waits: rows of every kind in the outbox, entries of every kind in the stream, payments of both kinds."""
    await history.sold(*((f"w{at}", "tin", TIN, 2) for at in range(6)))
    await history.refuse(("w0", "refused", CUP, 3))
    await history.pay("w0|tin")
    await history.cancel("w1|tin")
    await history.refund("v8|tin", (await _applied_txn(history, "v8|tin")))
    await history.pay("e2|tin")
    await history.floor.late.settle(SHARD)  # its entry waits in the stream
    await history.pay("e3|tin")  # Valkey was not asked
    await history.place(("x0", "cup", CUP, 4), ("x1", "tin", TIN, 1))
    await history.act(Act.STOCK, item_no=CUP, value=-7)


async def _applied_txn(history: History, order: str) -> str:
    txn: str = await history.floor.ledger.fetchval(
        "SELECT txn FROM payments WHERE state = 'applied' AND order_id = $1", history.orders[order]
    )
    return txn
