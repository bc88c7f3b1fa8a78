"""What tests of rebuilds look at: whether Valkey stands as the ledger does; and rebuilders that can be held back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.hot.rebuild import HotRebuild, HotRebuilds
from gateway.keeper.rebuild import Rebuilder
from gateway.ledger.rebuild import LedgerRebuilds
from tests.support.shop_floor import SHARD, ShopFloor


class Died(BaseException):
    """A process that was killed: nothing of it runs on."""


async def hash_of(floor: ShopFloor, key: str) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in (await floor.client.hgetall(key)).items()}


async def stands_as_the_ledger(floor: ShopFloor, sale_no: int | None = None) -> None:
    """Every field of a sale in Valkey is what the ledger says, none is missing and none is too many."""
    sale_no = floor.sale.sale_no if sale_no is None else sale_no
    sale = await floor.ledger.fetchrow("SELECT hold, opens_at_ms, closes_at_ms FROM sales WHERE sale_no = $1", sale_no)
    expected = {
        "hold": sale["hold"],
        "opens_at": str(sale["opens_at_ms"]),
        "closes_at": str(sale["closes_at_ms"]),
    }
    for item in await floor.ledger.fetch("SELECT * FROM sale_items WHERE sale_no = $1", sale_no):
        no = item["item_no"]
        expected |= {
            f"{no}:price": str(item["price_minor"]),
            f"{no}:limit": str(item["limit_per_viewer"]),
            f"{no}:stock": str(item["stock"]),
            f"{no}:left": str(item["stock"] - item["held"] - item["sold"]),
            f"{no}:held": str(item["held"]),
        }
        if item["floor_minor"]:
            expected[f"{no}:floor"] = str(item["floor_minor"])
        if item["prices"]:
            expected[f"{no}:plan"] = ";".join(f"{at}:{price}" for at, price in json.loads(item["prices"]))
    assert await hash_of(floor, floor.keys.sale(sale_no)) == expected
    orders = await floor.ledger.fetch(
        """
        SELECT concat_ws('|', viewer, key) AS field,
               concat_ws('|', fingerprint, epoch, seq, created_at_ms, price_minor, nullif(discount_minor, 0)) AS answer
          FROM orders WHERE sale_no = $1 AND key IS NOT NULL
        """,
        sale_no,
    )
    assert await hash_of(floor, floor.keys.answers(sale_no)) == {row["field"]: row["answer"] for row in orders}
    holdings = await floor.ledger.fetch("SELECT * FROM holdings WHERE sale_no = $1 AND units > 0", sale_no)
    assert await hash_of(floor, floor.keys.units(sale_no)) == {
        f"{h['viewer']}|{h['item_no']}": str(h["units"]) for h in holdings
    }


async def epochs(floor: ShopFloor) -> list[tuple[int, int, str, str]]:
    """(epoch that ended, its last number, why, how the next one began)."""
    rows = await floor.ledger.fetch("SELECT epoch, last_seq, why, how FROM epochs ORDER BY epoch")
    return [(row["epoch"], row["last_seq"], row["why"], row["how"]) for row in rows]


async def another_server(floor: ShopFloor) -> None:
    """What the ledger knows of is another server than the one that is there, as after a restart."""
    await floor.ledger.execute("UPDATE shards SET run_id = 'the one before'")


class UnlockedLedger(LedgerRebuilds):
    """A rebuilder that believes it is alone although another has taken the lock from it."""

    @asynccontextmanager
    async def alone(self, shard: int) -> AsyncIterator[bool]:
        yield True


class Held:
    """Stands before one call of a rebuild until it is let go, as a process that was stopped there."""

    def __init__(self, real: Any, call: str, reached: asyncio.Event, go: asyncio.Event) -> None:
        self._real = real
        self._call = call
        self._reached = reached
        self._go = go

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name != self._call:
            return real

        async def held(*values: Any, **named: Any) -> Any:
            self._reached.set()
            await self._go.wait()
            return await real(*values, **named)

        return held


class HeldValkey(HotRebuilds):
    """Holds a rebuilder back before a call to the shard."""

    def __init__(self, *, url: str, client: Any, call: str) -> None:
        super().__init__(url=url, client=client)
        self._call = call
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def on(self, run_id: str, shard: int) -> AsyncIterator[HotRebuild]:
        async with super().on(run_id, shard) as real:
            held: Any = Held(real, self._call, self.reached, self.go)
            yield held


def slow_rebuilder(floor: ShopFloor, call: str) -> tuple[Rebuilder, HeldValkey]:
    """A rebuilder that stops before `call`; it takes no lock, so that another can pass it."""
    valkey = HeldValkey(url=floor.valkey_url, client=floor.client, call=call)
    ledger = UnlockedLedger(floor.ledger, floor.database_url)
    return Rebuilder(ledger=ledger, valkey=valkey, clock=floor.clock), valkey


async def lost_once(floor: ShopFloor) -> None:
    """Some orders in the ledger, and a Valkey that has nothing."""
    await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    await floor.written()
    await floor.client.flushall()


__all__ = [
    "SHARD",
    "Died",
    "another_server",
    "epochs",
    "hash_of",
    "lost_once",
    "slow_rebuilder",
    "stands_as_the_ledger",
]
