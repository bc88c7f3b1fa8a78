"""Pickups in the ledger: given by the payment itself (0010), redeemed once, read with their orders."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.domain.acts import RoomAct
from gateway.domain.drafts import Effect
from gateway.domain.order import OrderStatus
from gateway.domain.pickup import Pickup
from gateway.errors import AlreadyRedeemed, Conflict, NotFound
from gateway.ledger.effects import take_key
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries
from gateway.ledger.room_acts import note_act

_QUERIES = load_queries("pickups.sql")


class PickupPlace(NamedTuple):
    """Whose code it is."""

    sale_no: int
    order: str
    room: str | None


class LedgerPickups:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find(self, shop: str, code: str) -> PickupPlace | None:
        row = await self._ledger.fetchrow(_QUERIES["find"], shop, code)
        return None if row is None else PickupPlace(*row)

    async def redeem(self, shop: str, code: str, order_id: str, effect: Effect) -> bool:
        """Redeems the code of the order, and says whether its key had done so before. Raises AlreadyRedeemed, Conflict
        for an order that is not paid any more, KeyReused."""
        async with self._ledger.transaction() as connection:
            shop_no: int | None = await connection.fetchval(_QUERIES["shop"], shop)
            if shop_no is None:
                raise NotFound("There is no such shop.")
            # First, so that a repeat in flight waits for its answer and is not told that another was faster.
            if await take_key(connection, shop_no=shop_no, effect=effect, object_id=order_id) is not None:
                return True
            row = await connection.fetchrow(_QUERIES["lock"], shop, code)
            if row is None:
                raise NotFound("There is no such code.")
            if row["redeemed_at_ms"] is not None:
                raise AlreadyRedeemed(at_ms=row["redeemed_at_ms"])
            if row["status"] != OrderStatus.PAID:
                raise Conflict(f"The order is {row['status']}.")
            await connection.execute(_QUERIES["redeem"], shop_no, code, effect.caller)
            if row["room_no"] is not None:
                # Of a sale without a room the pickup itself keeps who did it, and when.
                await note_act(
                    connection,
                    row["room_no"],
                    RoomAct.REDEEM,
                    actor=effect.caller,
                    before=None,
                    after={"order": order_id, "sale": row["sale"]},
                )
        return False

    async def by_order(self, orders: Sequence[tuple[int, str]]) -> dict[str, Pickup]:
        """By the ids of orders given as (sale number, order id); those without a pickup are left out."""
        if not orders:
            return {}
        rows = await self._ledger.fetch(_QUERIES["by_order"], [at[0] for at in orders], [at[1] for at in orders])
        return {row["order_id"]: Pickup(row["code"], row["redeemed_at_ms"], row["redeemed_by"]) for row in rows}
