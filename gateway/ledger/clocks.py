"""The ledger's clock: read beside where the shards stand, and what its steps do to deadlines."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.ledger.pool import Ledger, ledger_errors
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("clocks.sql")
# A hundred thousand running holds are moved in a second or two.
_MOVE_WITHIN_S = 30.0

# (epoch, last sequence number, times deadlines were moved, by how many milliseconds in all)
Place = tuple[int, int, int, int]


class LedgerClocks:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def time_s(self) -> tuple[float, Mapping[int, Place]]:
        """Its clock in seconds, and the place of every shard."""
        rows = await self._ledger.fetch(_QUERIES["now"])
        return rows[0]["now_s"], {row["shard"]: _place(row) for row in rows}

    async def move_deadlines(
        self,
        shard: int,
        *,
        steps: int,
        shift_ms: int,
        base: tuple[int, int],
        total_ms: int,
        shifts: Sequence[tuple[tuple[int, int], tuple[int, int], int]],
    ) -> int:
        """See `move_deadlines` in 0004: one transaction under the shard's row lock; how many orders were moved."""
        async with self._ledger.connection() as connection:
            with ledger_errors():
                moved: int = await connection.fetchval(
                    _QUERIES["move"],
                    shard,
                    steps,
                    shift_ms,
                    *base,
                    total_ms,
                    [after[0] for after, _, _ in shifts],
                    [after[1] for after, _, _ in shifts],
                    [up_to[0] for _, up_to, _ in shifts],
                    [up_to[1] for _, up_to, _ in shifts],
                    [by_ms for _, _, by_ms in shifts],
                    timeout=_MOVE_WITHIN_S,
                )
        return moved

    async def note(
        self, machine: str, *, at_s: float, valkey_s: float, ledger_s: float, places: Mapping[int, Place]
    ) -> None:
        """Writes down what a machine's monotonic clock was compared with."""
        await self._ledger.execute(
            _QUERIES["note"],
            machine,
            at_s,
            valkey_s,
            ledger_s,
            list(places),
            *([place[at] for place in places.values()] for at in range(4)),
        )
        await self._ledger.execute(_QUERIES["forget"])

    async def noted(self, machine: str) -> tuple[float, float, float, Mapping[int, Place]] | None:
        rows = await self._ledger.fetch(_QUERIES["noted"], machine)
        if not rows:
            return None
        newest = max(rows, key=lambda row: row["at_s"])
        places = {row["shard"]: _place(row) for row in rows if row["at_s"] == newest["at_s"]}
        return newest["at_s"], newest["valkey_s"], newest["ledger_s"], places


def _place(row: Any) -> Place:
    return row["epoch"], row["last_seq"], row["clock_steps"], row["clock_shift_ms"]
