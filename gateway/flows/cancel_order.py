"""A viewer cancels an order that is confirmed and not paid."""

from typing import Protocol

from gateway.domain.caller import Caller
from gateway.domain.order import Order, OrderStatus
from gateway.domain.settle import SettleAct
from gateway.errors import Conflict, NotConfirmed, NotFound, OutcomeUnknown
from gateway.flows.access import require_room
from gateway.flows.till import Till, nothing_done

# A confirmation takes milliseconds, unless the ledger is away.
CONFIRMED_SOON_MS = 300


class Reader(Protocol):
    async def by_id(self, caller: Caller, order_id: str) -> Order: ...


class CancelOrder:
    def __init__(self, *, till: Till, reader: Reader) -> None:
        self._till = till
        self._reader = reader

    async def cancel(self, caller: Caller, order_id: str) -> Order:
        """The order afterwards. One that is cancelled already is as good as done."""
        sale = await self._till.sale_of(caller.shop, order_id)
        if sale is None:
            raise NotFound("There is no such order.")
        require_room(caller, sale.room)
        settled = await self._till.ask(
            caller.shop, SettleAct(do="cancel", order=order_id, sale=sale.sale_no, viewer=caller.sub)
        )
        if settled.word == "done":
            return await read_afterwards(self._reader, caller, order_id)
        if settled.word == "not_found":
            # Another viewer's, never there, lost, or not in the ledger yet.
            with nothing_done():
                order = await self._reader.by_id(caller, order_id)
            if order.status is not OrderStatus.REFUSED:
                raise NotConfirmed(retry_after_ms=CONFIRMED_SOON_MS)
            raise Conflict("The order is refused.")
        raise Conflict(f"The order is {settled.status}.")


async def read_afterwards(reader: Reader, caller: Caller, order_id: str) -> Order:
    """The order after an act that the ledger has. Errors of the ledger pass: the act is done, its result not known."""
    order = await reader.by_id(caller, order_id)
    if order.status is OrderStatus.RESERVED:
        # The ledger cannot be asked just now, and the stream knows only how the order began.
        raise OutcomeUnknown("It is done, and the ledger cannot be read; repeat to see it.")
    return order
