"""The keeper process: what time does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog

from gateway.app.base import Base, OnReady, serving, standing, within
from gateway.app.news import telling_shops
from gateway.app.room_side import RoomSide
from gateway.errors import GatewayError
from gateway.flows.coupon_news import CouponNews
from gateway.flows.epochs import Epochs
from gateway.hot.archive import RoomArchive
from gateway.hot.audit import HotAudit
from gateway.hot.connect import connect
from gateway.hot.control import HotControl
from gateway.hot.coupons import HotCoupons
from gateway.hot.opening import HotOpening
from gateway.hot.rebuild import HotRebuilds
from gateway.hot.releases import HotReleases
from gateway.hot.retire import HotRetirement
from gateway.hot.revivals import HotRevivals
from gateway.hot.scripts import Scripts
from gateway.hot.server_state import ServerState
from gateway.hot.stream import OrderStream
from gateway.keeper.archive import CommentArchive
from gateway.keeper.audit import Auditor
from gateway.keeper.bookings import Bookings
from gateway.keeper.clocks import Clocks, this_machine
from gateway.keeper.deadlines import Deadlines
from gateway.keeper.late import LateMoney
from gateway.keeper.openings import CouponOpenings
from gateway.keeper.rebuild import Rebuilder
from gateway.keeper.releases import Releases
from gateway.keeper.retire import Retirement
from gateway.keeper.rewrite import FileRewrites
from gateway.keeper.samples import RoomSamples
from gateway.keeper.shards import ShardKeeper
from gateway.keeper.watchdog import Watchdog
from gateway.keeper.windows import Windows
from gateway.ledger.attendance import LedgerAttendance
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.bookings import LedgerBookings
from gateway.ledger.clocks import LedgerClocks
from gateway.ledger.comments import LedgerComments
from gateway.ledger.coupons import LedgerCoupons
from gateway.ledger.moderation import LedgerModeration
from gateway.ledger.outbox import LedgerOutbox
from gateway.ledger.rebuild import LedgerRebuilds
from gateway.ledger.retire import LedgerRetirement
from gateway.ledger.sales import LedgerSales
from gateway.ledger.settlement import LedgerSettlement
from gateway.ledger.verdicts import LedgerVerdicts
from gateway.ledger.windows import LedgerWindows
from gateway.settings import Settings

log = structlog.get_logger(__name__)
_SHARDS_WITHIN_S = 30.0


async def run_keeper(settings: Settings, *, on_ready: OnReady) -> int:
    """What time does. A second keeper repeats harmlessly what the first did."""
    async with standing(settings) as base:
        assert settings.valkey_url and settings.database_url
        ledger_coupons = LedgerCoupons(base.ledger, mint=base.mint)
        hot_coupons = {
            shard: HotCoupons(
                shard=hot,
                client=base.orders_valkey,
                scripts=base.scripts,
                mint=base.mint,
                clock=base.clock,
                backlog_max=settings.max_backlog,
            )
            for shard, hot in base.hot.items()
        }
        keeper = ShardKeeper(
            rebuilder=Rebuilder(
                ledger=LedgerRebuilds(base.ledger, settings.database_url),
                valkey=HotRebuilds(url=settings.valkey_url, client=base.plain_valkey),
                clock=base.clock,
            ),
            shards=base.shards,
            sales=LedgerSales(base.ledger, mint=base.mint),
            coupons=ledger_coupons,
            hot=dict(base.hot),
            hot_coupons=dict(hot_coupons),
        )
        epochs = Epochs(shards=base.shards, hot=base.hot, known=base.known)
        settlement = LedgerSettlement(base.ledger)
        rooms = RoomSide(
            base, find=LedgerSales(base.ledger, mint=base.mint).find, standing=LedgerModeration(base.ledger).standing
        )
        coupon_news = CouponNews(
            find=ledger_coupons.find, hot=hot_coupons, rooms=rooms.calls, read_room=base.mint.read_room
        )
        releases = Releases(
            outbox=LedgerOutbox(base.ledger),
            hot={shard: HotReleases(shard=hot, scripts=base.scripts) for shard, hot in base.hot.items()},
            restock=rooms.stock,
            copies_back=coupon_news.note,
        )
        late = LateMoney(
            hot={shard: HotRevivals(shard=hot, scripts=base.scripts) for shard, hot in base.hot.items()},
            ledger=settlement,
            publisher=base.bus,
        )
        server = ServerState(base.orders_valkey)
        clocks = Clocks(
            hot=server,
            opening=HotOpening(base.scripts),
            ledger=LedgerClocks(base.ledger),
            shards=sorted(base.hot),
            clock=base.clock,
            machine=this_machine(),
        )
        deadlines = Deadlines(shards=base.hot.keys(), ledger=settlement, clocks=clocks, publisher=base.bus)
        retirement = Retirement(
            ledger=LedgerRetirement(base.ledger),
            cursors=base.shards,
            hot={
                shard: HotRetirement(shard=hot, client=base.orders_valkey, scripts=base.scripts)
                for shard, hot in base.hot.items()
            },
            clocks=clocks,
            publisher=base.bus,
            clock=base.clock,
            retire_after_s=settings.retire_after_s,
        )
        works = [keeper.run(), epochs.run(), releases.run(), *rooms.works(), late.run(), deadlines.run()]
        rewrites = FileRewrites(
            server=server,
            streams={shard: OrderStream(client=base.orders_valkey, shard=shard) for shard in base.hot},
            sales=LedgerSales(base.ledger, mint=base.mint),
            clock=base.clock,
            ceiling_bytes=settings.rewrite_ceiling_bytes,
        )
        works += [clocks.run(), retirement.run(), rewrites.run()]
        windows = Windows(
            ledger=LedgerWindows(base.ledger),
            sales=LedgerSales(base.ledger, mint=base.mint),
            server=server,
            clocks=clocks,
            news=rooms.news,
            clock=base.clock,
        )
        openings = CouponOpenings(
            ledger=LedgerWindows(base.ledger),
            server=server,
            clocks=clocks,
            opened=coupon_news.note,
            clock=base.clock,
        )
        works += [openings.run(), coupon_news.run()]
        archive = CommentArchive(stream=RoomArchive(base.rooms_valkey), ledger=LedgerComments(base.ledger))
        samples = RoomSamples(hot=rooms.hot, ledger=LedgerAttendance(base.ledger), clock=base.clock)
        works += [windows.run(), archive.run(), samples.run()]
        works.append(Bookings(ledger=LedgerBookings(base.ledger)).run())
        async with (
            _watchdog(base) as watching,
            telling_shops(base, server=server, clocks=clocks) as telling,
            serving(base, [*works, *watching, *telling.works()]),
        ):
            # Ready means that new shards sell: what is created from here on finds them open.
            await _settled(keeper, base.stopping)
            on_ready({"role": "keeper"})
            await base.stopping.wait()
            with contextlib.suppress(GatewayError):
                await within(settings.drain_s * 0.3, telling.sender.drain())
    return 0


@asynccontextmanager
async def _watchdog(base: Base) -> AsyncIterator[Sequence[Coroutine[Any, Any, None]]]:
    """The work of auditing what runs, over connections of its own."""
    settings = base.settings
    assert settings.valkey_url and settings.database_url
    if settings.audit_every_s == 0:
        yield ()
        return
    ledger = LedgerAudit(settings.database_url, rest_share=1.0)
    valkey = connect(settings.valkey_url, max_connections=2, reply_timeout_s=30, known=base.known)
    watchdog = Watchdog(
        auditor=Auditor(ledger=ledger, hot=HotAudit(client=valkey, scripts=Scripts(valkey), rest_share=1.0)),
        sales=LedgerSales(base.ledger, mint=base.mint),
        mint=base.mint,
        controls={
            shard: HotControl(shard=hot, scripts=base.scripts, clock=base.clock) for shard, hot in base.hot.items()
        },
        publisher=base.bus,
        verdicts=LedgerVerdicts(base.ledger),
        clock=base.clock,
        every_s=settings.audit_every_s,
        on_violation=settings.on_violation,
    )
    try:
        yield [watchdog.run()]
    finally:
        ledger.close()
        await valkey.aclose()


async def _settled(keeper: ShardKeeper, stopping: asyncio.Event) -> None:
    """Waits until the shards sell, or for as long as a start may take: one that cannot be rebuilt keeps no other from
    its work."""
    waits = [asyncio.create_task(keeper.settled()), asyncio.create_task(stopping.wait())]
    done, _ = await asyncio.wait(waits, timeout=_SHARDS_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        log.critical("shards_stay_shut")
    for wait in waits:
        wait.cancel()
