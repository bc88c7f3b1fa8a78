"""The live process: sockets only."""

from gateway.app.base import OnReady, live_url, serving, standing, within
from gateway.app.edge import Edge
from gateway.flows.counts import SaleCounts
from gateway.flows.watch import WatchRoom
from gateway.hot.ticks import RoomTicks
from gateway.live.server import LiveServer
from gateway.process import settle_memory
from gateway.settings import Settings


async def run_live(settings: Settings, *, index: int, on_ready: OnReady) -> int:
    """One live process: sockets only. All live processes of a node share the port."""
    async with standing(settings) as base:
        edge = Edge(base)
        server = LiveServer(
            orders=edge.orders,
            authenticator=edge.authenticator,
            watch=WatchRoom(
                rooms=edge.rooms,
                sales=edge.ledger_sales,
                book=edge.sales,
                counters={shard: SaleCounts(hot=hot, ledger=edge.ledger_sales) for shard, hot in base.hot.items()},
                ticks=RoomTicks(base.rooms_valkey),
                reader=edge.reader,
                watch=edge.watch,
                mint=base.mint,
                id_key=base.id_key,
                clock=base.clock,
            ),
            presence=edge.watch,
            origins=edge.origins,
            room_may_exist=edge.rooms.may_exist,
            clock=base.clock,
            sockets_max=settings.max_sockets,
        )
        edge.on_room_changed = server.room_changed
        edge.on_tick = server.tick
        await edge.authenticator.prepare()
        async with serving(base, [*edge.works(), server.run()]):
            await server.start(settings.host, settings.live_port, shared=settings.workers > 1)
            settle_memory()
            on_ready({"role": f"live {index}", "live_url": live_url(settings)})
            await base.stopping.wait()
            edge.orders.stop_admitting()
            # What is being decided is answered before anybody is told to leave.
            await within(settings.drain_s * 0.2, edge.drained())
            await server.drain(settings.drain_s * 0.7)
    return 0
