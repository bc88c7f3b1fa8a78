"""The keeper's own rebuilder, held before each of its steps until the small world takes that step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from gateway.clock import SystemClock
from gateway.errors import GatewayError, ServerUnknown
from gateway.hot.connect import Client
from gateway.hot.rebuild import HotRebuild, ShardStand, read_stand
from gateway.keeper.rebuild import Rebuilder
from gateway.ledger.pool import Ledger
from gateway.ledger.rebuild import LedgerRebuilds
from tests.properties.small_world import World

# The first call of each step but the look at both sides; the rest of its calls go on with it.
_BEGINS = {
    "fence": ("fence",),
    "shut": ("shut",),
    "all": ("drain",),
    "cursor": ("wait",),
    "standing": ("decide", "judge"),
    "next_epoch": ("move",),
    "take_over": ("retake",),
    "advance": ("advance",),
    "begin": ("begin",),
    "recount": ("fill",),
    "open": ("open",),
    "finish": ("finish",),
}


class Servers(Protocol):
    ledger: Ledger
    client: Client
    database_url: str


class Beside(Protocol):
    """The shard that is rebuilt, and the world beside it."""

    @property
    def number(self) -> int: ...
    @property
    def world(self) -> World: ...
    @property
    def floor(self) -> Servers: ...


class Stepped:
    def __init__(self, of: Beside, slot: int) -> None:
        self._of = of
        self._slot = slot
        self._task: asyncio.Task[bool] | None = None
        self._held: str = ""
        self._stops = asyncio.Event()
        self._go = asyncio.Event()
        self._looked = False

    async def look(self) -> str:
        self._looked = False
        self._stops.clear()
        rebuilder = Rebuilder(ledger=_Ledger(self, self._of), valkey=_Valkey(self, self._of), clock=SystemClock())
        self._task = asyncio.create_task(rebuilder.mend(self._of.number))
        return await self._until_it_stops()

    async def next(self) -> str:
        self._stops.clear()
        self._go.set()
        return await self._until_it_stops()

    async def die(self) -> str:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        return "gone"

    async def _until_it_stops(self) -> str:
        """The step that it is about to take, or `gone`: it has ended."""
        assert self._task is not None
        stops = asyncio.create_task(self._stops.wait())
        try:
            await asyncio.wait([self._task, stops], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stops.cancel()
            await asyncio.wait([stops])
        if self._task.done():
            error = self._task.exception()
            assert error is None or isinstance(error, GatewayError), error
            self._task = None
            return "gone"
        # One call may be the first of two steps; the world says which it should be.
        wanted = self._of.world.slots[self._slot]
        steps = _BEGINS[self._held]
        return wanted[0] if wanted and wanted[0] in steps else steps[0]

    async def before(self, call: str) -> None:
        if call == "standing" and not self._looked:
            self._looked = True
            return
        if call in _BEGINS:
            self._held = call
            self._go.clear()
            self._stops.set()
            await self._go.wait()


class _Ledger(LedgerRebuilds):
    """The real one; a step waits to be taken, and the lock is believed to be held."""

    def __init__(self, stepped: Stepped, of: Beside) -> None:
        super().__init__(of.floor.ledger, of.floor.database_url)
        self._stepped = stepped
        self._shard = of.number

    @asynccontextmanager
    async def alone(self, shard: int) -> AsyncIterator[bool]:
        yield True

    async def all(self) -> list[Any]:
        await self._stepped.before("all")
        return []

    async def standing(self, shard: int) -> Any:
        await self._stepped.before("standing")
        return await super().standing(shard)

    async def cursor(self, shard: int) -> tuple[int, int]:
        await self._stepped.before("cursor")
        return await super().cursor(shard)

    async def fence(self, shard: int, **more: Any) -> int:
        await self._stepped.before("fence")
        return await super().fence(shard, **more)

    async def next_epoch(self, shard: int, **more: Any) -> int:
        await self._stepped.before("next_epoch")
        return await super().next_epoch(shard, **more)

    async def take_over(self, shard: int, **more: Any) -> int:
        await self._stepped.before("take_over")
        return await super().take_over(shard, **more)

    @asynccontextmanager
    async def recount(self, shard: int, **more: Any) -> AsyncIterator[Any]:
        await self._stepped.before("recount")
        async with super().recount(shard, **more) as found:
            yield found

    async def finish(self, shard: int, **more: Any) -> None:
        await self._stepped.before("finish")
        await super().finish(shard, **more)


class _Valkey:
    def __init__(self, stepped: Stepped, of: Beside) -> None:
        self._stepped = stepped
        self._of = of

    async def stand(self, shard: int) -> ShardStand:
        return await _stand(self._of)

    @asynccontextmanager
    async def on(self, run_id: str, shard: int) -> AsyncIterator["_Hot"]:
        yield _Hot(self._stepped, self._of, run_id)


async def _stand(of: Beside) -> ShardStand:
    return (await read_stand(of.floor.client, of.number))._replace(run_id=f"run-{of.world.v_run}")


class _Hot:
    """The real one, on the server of a run that the world counts."""

    def __init__(self, stepped: Stepped, of: Beside, run_id: str) -> None:
        self._stepped = stepped
        self._of = of
        self._run_id = run_id
        self._real = HotRebuild(client=of.floor.client, shard=of.number)

    async def stand(self) -> ShardStand:
        self._same_server()
        return await _stand(self._of)

    def _same_server(self) -> None:
        if self._run_id != f"run-{self._of.world.v_run}":
            raise ServerUnknown("it was restarted")

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)

        async def call(*args: Any, **more: Any) -> Any:
            await self._stepped.before(name)
            self._same_server()
            return await real(*args, **more)

        return call
