"""The pre-flight of a sale: for hosts by HTTP, and for who runs the gateway by a command."""

import asyncio
import resource
from collections.abc import Mapping, Sequence

from gateway.clock import SystemClock
from gateway.domain.ids import IdMint
from gateway.domain.room import Room
from gateway.errors import NotFound
from gateway.flows.preflight import Preflight, PreflightReport
from gateway.hot.audit import HotAudit
from gateway.hot.connect import Client, connect
from gateway.hot.preflight import HotPreflight
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from gateway.keeper.audit import Auditor
from gateway.keeper.clock_rule import TOLERANCE_S
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.coupons import LedgerCoupons
from gateway.ledger.limits import LedgerLimits
from gateway.ledger.pool import Ledger
from gateway.ledger.preflight import LedgerPreflight
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.ledger.shards import LedgerShards
from gateway.ledger.webhooks import LedgerWebhooks
from gateway.process import memory_available_bytes
from gateway.settings import Settings
from gateway.webhooks.ping import ping


def build_preflight(
    settings: Settings,
    *,
    ledger: Ledger,
    mint: IdMint,
    orders_valkey: Client,
    rooms_valkey: Client,
    hot: Mapping[int, HotShard],
) -> Preflight:
    sales, rooms = LedgerSales(ledger, mint=mint), LedgerRooms(ledger, mint=mint)

    async def room(room_id: str) -> Room | None:
        number = mint.read_room(room_id)
        return None if number is None else await rooms.find(number)

    async def audit(sale_id: str) -> Sequence[str]:
        assert settings.database_url
        async with LedgerAudit.connect(settings.database_url) as snapshots:
            auditor = Auditor(
                ledger=snapshots, hot=HotAudit(client=orders_valkey, scripts=Scripts(orders_valkey), rest_share=1.0)
            )
            report = await auditor.run(sale=sale_id)
        return [f"{check.name} ({check.broken})" for check in report.broken]

    webhooks = LedgerWebhooks(ledger)
    # A gateway on servers of its own is one for development, however it was started.
    dev = settings.dev or settings.embedded

    async def ask_webhook(shop: str) -> str | None:
        endpoint = await webhooks.endpoint(shop)
        if endpoint is None:
            return ""
        result = await ping(endpoint, private=settings.webhook_private or dev, dev=dev)
        return None if result.ok else result.error

    return Preflight(
        hot=HotPreflight(orders=orders_valkey, rooms=rooms_valkey),
        ledger=LedgerPreflight(ledger),
        counts=lambda sale: hot[sale.shard].counts(sale),
        ledger_counts=sales.counts,
        room=room,
        coupons=LedgerCoupons(ledger, mint=mint).find_many,
        limits=LedgerLimits(ledger).limits,
        audit=audit,
        ping=ask_webhook,
        machine=lambda: (
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            memory_available_bytes(),
            settings.max_sockets,
        ),
        clock=SystemClock(),
        tolerance_s=TOLERANCE_S,
    )


async def run_preflight(
    settings: Settings, sale_id: str, *, viewers: int | None, orders: int | None
) -> PreflightReport:
    """Beside a running gateway. Raises NotFound for a sale that is none."""
    assert settings.valkey_url and settings.rooms_valkey_url and settings.database_url
    ledger = await Ledger.connect(settings.database_url, size=2)
    orders_valkey = connect(settings.valkey_url, max_connections=4, reply_timeout_s=30)
    rooms_valkey = connect(settings.rooms_valkey_url, max_connections=1)
    try:
        shards = LedgerShards(ledger)
        mint = IdMint(await shards.id_key())
        scripts = Scripts(orders_valkey)
        hot = {
            row.shard: HotShard(shard=row.shard, client=orders_valkey, scripts=scripts) for row in await shards.all()
        }
        number = mint.read_sale(sale_id)
        sale = None if number is None else await LedgerSales(ledger, mint=mint).find(number)
        if sale is None:
            raise NotFound(f"there is no sale {sale_id}", param="sale")
        preflight = build_preflight(
            settings,
            ledger=ledger,
            mint=mint,
            orders_valkey=orders_valkey,
            rooms_valkey=rooms_valkey,
            hot=hot,
        )
        return await preflight.look(sale, viewers=viewers, orders=orders)
    finally:
        await asyncio.gather(orders_valkey.aclose(), rooms_valkey.aclose(), ledger.close())
