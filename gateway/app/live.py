"""The live process: sockets only."""

from gateway.admission.addresses import Addresses
from gateway.admission.limiter import Limiter
from gateway.admission.limits import CommentPace, Limits
from gateway.admission.own_pages import OwnPages
from gateway.admission.pace import Pace
from gateway.app.base import OnReady, live_url, serving, shards_answer, standing, within
from gateway.app.edge import Edge
from gateway.domain.room import Room
from gateway.flows.attendance import Attendance
from gateway.flows.comment import PostComment
from gateway.flows.counts import SaleCounts
from gateway.flows.like import Like
from gateway.flows.room_rules import RuleBook
from gateway.flows.watch import WatchRoom
from gateway.ledger.attendance import LedgerAttendance
from gateway.ledger.limits import LedgerLimits
from gateway.ledger.moderation import LedgerModeration
from gateway.live.greeting import SOCKETS_PER_VIEWER, Greeter
from gateway.live.held_rooms import HeldRooms
from gateway.live.host_desk import HostDesk
from gateway.live.server import LiveServer
from gateway.process import settle_memory
from gateway.rooms.crowd import Crowd
from gateway.rooms.hub import Hub
from gateway.rooms.seats import Seats
from gateway.rooms.shop_crowd import ShopCrowd
from gateway.rooms.snapshots import Snapshots
from gateway.settings import Settings

# Taps are collected by the viewer's page, which sends a frame or two a second; each may carry a hundred.
LIKE_FRAMES_PER_S, LIKE_FRAMES_BURST = 5.0, 10


async def run_live(settings: Settings, *, index: int, on_ready: OnReady) -> int:
    """One live process: sockets only. All live processes of a node share the port."""
    async with standing(settings) as base:
        edge = Edge(base)
        side = edge.room_side
        watch = WatchRoom(
            rooms=edge.rooms,
            sales=edge.ledger_sales,
            book=edge.sales,
            counters={shard: SaleCounts(hot=hot, ledger=edge.ledger_sales) for shard, hot in base.hot.items()},
            hot=base.hot,
            reader=edge.reader,
            coupons=edge.coupons.ledger,
            coupon_book=edge.coupons.book,
            copies=edge.coupons.hot,
            claims=edge.coupons.reader,
            watch=edge.watch,
            mint=base.mint,
            id_key=base.id_key,
            clock=base.clock,
        )
        moderation = LedgerModeration(base.ledger)
        rules = RuleBook(rules=moderation, pseudonym=watch.pseudonym, clock=base.clock)
        snapshots = Snapshots(window=watch.window, clock=base.clock)
        hub = Hub(
            hot=side.hot,
            feed=base.bus,
            calls=side.calls,
            standing=moderation.standing,
            snapshots=snapshots,
            mint=base.mint.comment,
            clock=base.clock,
            tick_ms=settings.tick_ms,
        )
        side.interval_ms = hub.interval_ms
        base.bus.on_tick = hub.heard
        crowd = Crowd(hub=hub, hot=side.hot, calls=side.calls, clock=base.clock)
        seats = Seats(hot=side.hot, alive=lambda: crowd.alive, most=SOCKETS_PER_VIEWER, now_s=base.clock.monotonic)
        limits = Limits(source=LedgerLimits(base.ledger))
        comments = PostComment(
            rooms=side.calls,
            limiter=Limiter(rate=settings.comment_rate, burst=settings.comment_burst),
            clock=base.clock,
            shop_wait_s=CommentPace(limits=limits, processes=lambda: len(crowd.alive)).wait_s,
        )
        attendance = Attendance(
            ledger=LedgerAttendance(base.ledger),
            process=side.hot.process,
            clock=base.clock,
            orders_wait=lambda: any(group.waiting for group in edge.groups.values()),
            # Those who left and are not told of yet beside those who are there.
            most=2 * settings.max_sockets,
        )
        desk = HostDesk(
            figures=edge.figures,
            orders=edge.ledger_figures,
            find_sale=edge.sales.by_no,
            pseudonym=watch.pseudonym,
            mint=base.mint,
        )
        edge.on_orders = desk.heard
        greeter = Greeter(
            authenticator=edge.authenticator,
            watch=watch,
            rules=rules.get,
            presence=edge.watch,
            origins=edge.origins,
            hub=hub,
            seats=seats,
            attendance=attendance,
            desk=desk,
            snapshots=snapshots,
            pace=Pace(rate=settings.join_rate),
            clock=base.clock,
            shop_is_full=ShopCrowd(rooms=hub.rooms, most=lambda shop: limits.of(shop).viewers).is_full,
        )
        server = LiveServer(
            orders=edge.orders,
            claims=edge.coupons.claiming,
            comments=comments,
            likes=Like(
                rooms=side.calls, limiter=Limiter(rate=LIKE_FRAMES_PER_S, burst=LIKE_FRAMES_BURST), clock=base.clock
            ),
            authenticator=edge.authenticator,
            watch=watch,
            greeter=greeter,
            hub=hub,
            rules=rules,
            presence=edge.watch,
            origins=edge.origins,
            own_pages=OwnPages(public_url=settings.public_url, port=settings.port),
            room_may_exist=edge.rooms.may_exist,
            clock=base.clock,
            sockets_max=settings.max_sockets,
            addresses=Addresses.parse(settings.trusted_proxies),
            sockets_per_address=settings.sockets_per_address,
            ungreeted_max=settings.max_ungreeted,
        )

        def ended(room: Room) -> None:
            edge.rooms.forget(room.room)
            server.room_ended(room)

        held = HeldRooms(rooms=hub.rooms, ledger=moderation, rules=rules, on_ended=ended)

        async def after_gap() -> None:
            held.look_soon()
            await hub.compare()

        rules.on_bans = server.bans_changed
        edge.on_room_changed = server.room_changed
        edge.on_shop_changed = limits.look_soon
        edge.on_gap = after_gap
        await edge.authenticator.prepare()
        async with serving(
            base,
            [
                *(*edge.works(), server.run(), greeter.run(), hub.run(), held.run(), crowd.run(), seats.run()),
                *(attendance.run(), desk.run(), limits.run()),
            ],
        ):
            await server.start(settings.host, settings.live_port, shared=settings.workers > 1)
            settle_memory()
            await shards_answer(base)
            on_ready({"role": f"live {index}", "live_url": live_url(settings)})
            await base.stopping.wait()
            edge.stop_admitting()
            comments.stop_admitting()
            # What is being decided is answered before anybody is told to leave.
            await within(settings.drain_s * 0.2, edge.drained())
            await within(settings.drain_s * 0.1, side.calls.drained())
            await server.drain(settings.drain_s * 0.5)
            await attendance.drain(settings.drain_s * 0.1)
            await within(settings.drain_s * 0.1, crowd.leave())
    return 0
