"""One shop with one sale on a real Valkey and a real ledger, put together as the assembler does, and moved by hand."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgpack

from gateway.clock import Clock, SystemClock
from gateway.domain.batch import (
    ActColumns,
    AppliedLate,
    AppliedOrders,
    ClaimColumns,
    CouponActColumns,
    LateColumns,
    Lease,
    OrderColumns,
    Place,
)
from gateway.domain.drafts import Effect, ItemDraft, SaleDraft
from gateway.domain.ids import IdMint
from gateway.domain.order import OrderAnswer, OrderOutcome, OrderRequest
from gateway.domain.sale import Sale
from gateway.errors import GatewayError
from gateway.hot.connect import Client, connect
from gateway.hot.control import HotControl
from gateway.hot.coupons import HotCoupons
from gateway.hot.orders import HotOrders
from gateway.hot.rebuild import HotRebuilds
from gateway.hot.releases import HotReleases
from gateway.hot.revivals import HotRevivals
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from gateway.hot.stream import HeldAnswers, OrderStream
from gateway.keeper.deadlines import Deadlines
from gateway.keeper.late import LateMoney
from gateway.keeper.rebuild import Rebuilder
from gateway.keeper.releases import Releases
from gateway.keeper.shards import ShardKeeper
from gateway.ledger.batches import LedgerBatches
from gateway.ledger.coupons import LedgerCoupons
from gateway.ledger.orders import LedgerOrders
from gateway.ledger.outbox import LedgerOutbox
from gateway.ledger.pool import Ledger
from gateway.ledger.rebuild import LedgerRebuilds
from gateway.ledger.sales import LedgerSales
from gateway.ledger.settlement import LedgerSettlement
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops
from gateway.wire import bus
from gateway.writer.writer import OrderWriter
from tests.support.servers import eventually

SHOP = "tins"
SHARD = 0
HOUR_MS = 3_600_000


def item(sku: str = "tin", *, price: int = 1900, stock: int = 10, limit: int = 2) -> ItemDraft:
    return ItemDraft(sku=sku, title=sku, price_minor=price, stock=stock, limit_per_viewer=limit)


class Heard:
    """What was published on the bus."""

    def __init__(self) -> None:
        self.messages: list[bus.Message] = []

    async def publish(self, message: bytes) -> None:
        self.messages.append(bus.decode(message))

    def states(self) -> dict[str, tuple[str, str]]:
        """By viewer and in the order told, (status, reason) of the last state."""
        return {
            state.viewer: (state.status, state.reason)
            for message in self.messages
            if isinstance(message, bus.Applied | bus.LaterStates)
            for group in bus.decode_shops(message.shops)
            for state in group.orders
        }


class Trust:
    """Clocks as a test wants them."""

    trusted = True
    not_after = datetime.max.replace(tzinfo=UTC)


class WatchedLedger:
    """The ledger of a writer; a test sees its batches, and may hold one back before it begins."""

    def __init__(self, url: str) -> None:
        self.real = LedgerBatches(url)
        self.sizes: list[int] = []
        self.go = asyncio.Event()
        self.go.set()
        self.held_back = asyncio.Event()

    async def take_lease(self, shard: int, *, holder: str, for_s: float) -> Lease | None:
        return await self.real.take_lease(shard, holder=holder, for_s=for_s)

    async def give_lease(self, shard: int, token: int) -> None:
        await self.real.give_lease(shard, token)

    async def apply_orders(self, at: Place, orders: OrderColumns) -> AppliedOrders:
        if not self.go.is_set():
            self.held_back.set()
            await self.go.wait()
        self.sizes.append(len(orders.seqs))
        return await self.real.apply_orders(at, orders)

    async def apply_claims(self, at: Place, claims: ClaimColumns) -> dict[int, str]:
        return await self.real.apply_claims(at, claims)

    async def apply_act(self, at: Place, act: ActColumns) -> bool:
        return await self.real.apply_act(at, act)

    async def apply_coupon_act(self, at: Place, act: CouponActColumns) -> bool:
        return await self.real.apply_coupon_act(at, act)

    async def apply_late(self, at: Place, late: LateColumns) -> AppliedLate:
        return await self.real.apply_late(at, late)

    async def skip_lost(self, at: Place) -> None:
        await self.real.skip_lost(at)

    async def park_entry(self, at: Place, *, reason: str, entry: bytes) -> None:
        await self.real.park_entry(at, reason=reason, entry=entry)

    async def park_late(self, at: Place, *, payment_no: int, reason: str, entry: bytes) -> None:
        await self.real.park_late(at, payment_no=payment_no, reason=reason, entry=entry)

    async def park_order(self, at: Place, orders: OrderColumns, *, reason: str, entry: bytes) -> None:
        await self.real.park_order(at, orders, reason=reason, entry=entry)

    async def park_claim(self, at: Place, claims: ClaimColumns, *, reason: str, entry: bytes) -> None:
        await self.real.park_claim(at, claims, reason=reason, entry=entry)

    async def shops_of_coupons(self, coupons: Sequence[int]) -> dict[int, str]:
        return await self.real.shops_of_coupons(coupons)

    async def shops_of(self, sales: Sequence[int]) -> dict[int, str]:
        return await self.real.shops_of(sales)

    async def close(self) -> None:
        await self.real.close()


class ShopFloor:
    def __init__(self, *, ledger: Ledger, client: Client, mint: IdMint, database_url: str, valkey_url: str) -> None:
        self.clock: Clock = SystemClock()
        self.ledger = ledger
        self.client = client
        self.mint = mint
        self.database_url = database_url
        self.valkey_url = valkey_url
        self.shards = LedgerShards(ledger)
        self.sales = LedgerSales(ledger, mint)
        self.ledger_orders = LedgerOrders(ledger)
        self.scripts = Scripts(client)
        self.hot = HotShard(shard=SHARD, client=client, scripts=self.scripts)
        self.keys = self.hot.keys
        self.coupons = LedgerCoupons(ledger, mint)
        self.hot_coupons = HotCoupons(
            shard=self.hot, client=client, scripts=self.scripts, mint=mint, clock=self.clock, backlog_max=50_000
        )
        self.control = HotControl(shard=self.hot, scripts=self.scripts, clock=self.clock)
        self.stream = OrderStream(client=client, shard=SHARD)
        self.held = HeldAnswers(client=client, shard=SHARD, stream=self.stream)
        self.releases = HotReleases(shard=self.hot, scripts=self.scripts)
        self.outbox = LedgerOutbox(ledger)
        self.rebuilds = LedgerRebuilds(ledger, database_url)
        self.rebuilder = Rebuilder(
            ledger=self.rebuilds, valkey=HotRebuilds(url=valkey_url, client=client), clock=self.clock
        )
        self.keeper = self.another_keeper()
        self.heard = Heard()
        self.restocked: list[int] = []
        """Sales whose units came back, as the rooms are told."""
        self.recopied: list[int] = []
        """Coupons whose copies came back, as the rooms are told."""
        self.give_back = Releases(
            outbox=self.outbox, hot={SHARD: self.releases}, restock=self, copies_back=self.recopied.append
        )
        self.settlement = LedgerSettlement(ledger)
        self.trust = Trust()
        self.deadlines = Deadlines(shards=[SHARD], ledger=self.settlement, clocks=self.trust, publisher=self.heard)
        self.late = LateMoney(
            hot={SHARD: HotRevivals(shard=self.hot, scripts=self.scripts)},
            ledger=self.settlement,
            publisher=self.heard,
        )
        self.sale: Sale

    def note(self, sales: Iterable[int]) -> None:
        self.restocked.extend(sales)

    def another_keeper(self) -> ShardKeeper:
        return ShardKeeper(
            rebuilder=self.rebuilder,
            shards=self.shards,
            sales=self.sales,
            coupons=self.coupons,
            hot={SHARD: self.hot},
            hot_coupons={SHARD: self.hot_coupons},
        )

    # Orders.

    def orders(self, *, backlog_max: int = 50_000, clock: Clock | None = None) -> HotOrders:
        return HotOrders(
            shard=self.hot, scripts=self.scripts, mint=self.mint, clock=clock or self.clock, backlog_max=backlog_max
        )

    def request(
        self, viewer: str, key: str = "k1", *, quantity: int = 1, item_no: int = 1, **more: Any
    ) -> OrderRequest:
        return OrderRequest(
            sale_no=more.get("sale_no", self.sale.sale_no),
            item_no=item_no,
            viewer=viewer,
            key=key,
            fingerprint=more.get("fingerprint", f"{item_no}.{quantity}.-1"),
            quantity=quantity,
            expect_amount_minor=-1,
            extra=more.get("extra", ""),
            arrived_s=more.get("arrived_s", self.clock.monotonic()),
            answer=more.get("answer", lambda given: None),
        )

    async def place(self, *requests: OrderRequest) -> list[OrderAnswer | GatewayError]:
        return await self.orders().decide(self.sale.sale_no, requests)

    async def reserve(self, *requests: OrderRequest) -> list[str]:
        """The ids of the orders; all must be reserved."""
        ids = []
        for answer in await self.place(*requests):
            assert isinstance(answer, OrderAnswer) and answer.outcome is OrderOutcome.RESERVED, answer
            assert answer.order is not None
            ids.append(str(answer.order))
        return ids

    async def forge(self, body: list[Any], *, last: int) -> None:
        """An entry no script would write, as a Valkey gone wrong might hold it; the next under its number."""
        packed = msgpack.packb(body, use_bin_type=False)
        await self.client.xadd(self.keys.stream, {"o": packed}, id=f"1-{last}")
        await self.client.hset(self.keys.shard, "seq", str(last))

    async def forge_orders(
        self, rows: list[list[Any]], *, at_ms: int | None = None, sale_no: int | None = None
    ) -> None:
        """Rows: [viewer, key, fingerprint, item no, quantity, price, extra]."""
        seq = (await self.seq())[1]
        if at_ms is None:
            at_ms = await self.now_ms()
        body = ["orders", self.sale.sale_no if sale_no is None else sale_no, at_ms, seq + 1, rows]
        await self.forge(body, last=seq + len(rows))

    # What stands where.

    async def now_ms(self) -> int:
        seconds, micros = await self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def seq(self) -> tuple[int, int]:
        return await self.stream.head()

    async def cursor(self) -> int:
        return (await self.shards.cursor(SHARD))[1]

    async def counts(self, item_no: int = 1) -> tuple[int, int, int]:
        """(stock, left, held) as Valkey has them."""
        counts = await self.hot.counts(self.sale)
        assert counts is not None
        return counts[item_no].stock, counts[item_no].left, counts[item_no].held

    async def held_in_ledger(self, item_no: int = 1) -> int:
        return (await self.sales.counts(self.sale.sale_no))[item_no].held

    async def rows(self) -> list[tuple[int, str, str | None, str | None]]:
        """(seq, status, reason, key) of every order of the ledger."""
        found = await self.ledger.fetch("SELECT seq, status, reason, key FROM orders ORDER BY seq")
        return [(row["seq"], row["status"], row["reason"], row["key"]) for row in found]

    async def statuses(self) -> list[str]:
        return [row[1] for row in await self.rows()]

    async def parked(self) -> list[tuple[int, int]]:
        found = await self.ledger.fetch("SELECT first_seq, last_seq FROM parked ORDER BY first_seq")
        return [(row["first_seq"], row["last_seq"]) for row in found]

    # The writer.

    def writer(
        self,
        *,
        holder: str = "writer_1",
        ledger: WatchedLedger | None = None,
        client: Client | None = None,
        batch_max: int = 500,
    ) -> OrderWriter:
        return OrderWriter(
            shard=SHARD,
            holder=holder,
            stream=OrderStream(client=client or self.client, shard=SHARD),
            ledger=ledger or WatchedLedger(self.database_url),
            publisher=self.heard,
            mint=self.mint,
            clock=self.clock,
            batch_max=batch_max,
        )

    @asynccontextmanager
    async def writing(self, writer: OrderWriter | None = None) -> AsyncIterator[OrderWriter]:
        """A writer at work; it is stopped hard at the end, and what ended it before is raised."""
        writer = writer or self.writer()
        try:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(writer.run())
                try:
                    yield writer
                finally:
                    await _ended(task)
        finally:
            await writer.close()

    async def applied(self, seq: int | None = None, *, within_s: float = 15.0) -> None:
        """Returns once the ledger is at `seq`, or at what Valkey has now."""
        target = (await self.seq())[1] if seq is None else seq

        async def reached() -> bool:
            return await self.cursor() >= target

        await eventually(reached, within_s=within_s)

    async def written(self) -> None:
        """A writer applies what the stream holds, tells of it, and is gone."""
        writer = self.writer()
        writer.stop()
        try:
            await asyncio.wait_for(writer.run(), 20)
        finally:
            await writer.close()


async def _ended(task: asyncio.Task[None]) -> None:
    """Insists: a driver that times something itself may keep one cancel to itself."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)


@asynccontextmanager
async def shop_floor(
    database_url: str,
    valkey_url: str,
    *,
    items: Sequence[ItemDraft] = (item(),),
    opens_in_ms: int = -60_000,
    closes_in_ms: int = HOUR_MS,
) -> AsyncIterator[ShopFloor]:
    ledger = await Ledger.connect(database_url, size=4)
    client = connect(valkey_url, max_connections=12, reply_timeout_s=5.0)
    try:
        async with Shops.connect(database_url) as shops:
            await shops.create(SHOP)
        floor = ShopFloor(
            ledger=ledger,
            client=client,
            mint=IdMint(await LedgerShards(ledger).id_key()),
            database_url=database_url,
            valkey_url=valkey_url,
        )
        assert await floor.hot.open(epoch=1) == "created"
        floor.sale = await make_sale(floor, items=items, opens_in_ms=opens_in_ms, closes_in_ms=closes_in_ms)
        yield floor
    finally:
        await client.aclose()
        await ledger.close()
        # What was cut off rather than closed goes with the next turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)


async def make_sale(
    floor: ShopFloor,
    *,
    items: Sequence[ItemDraft] = (item(),),
    key: str = "sale_1",
    opens_in_ms: int = -60_000,
    closes_in_ms: int = HOUR_MS,
    load: bool = True,
) -> Sale:
    now_ms = await floor.now_ms()
    draft = SaleDraft(
        title="Tins",
        currency="EUR",
        opens_at_ms=now_ms + opens_in_ms,
        closes_at_ms=now_ms + closes_in_ms,
        items=items,
    )
    sale = (await floor.sales.create(SHOP, draft, Effect("host_1", "sale", key, "f"))).sale
    if load:
        await floor.hot.load_sale(sale)
        await floor.sales.mark_loaded(sale.sale_no, 1)
    return sale
