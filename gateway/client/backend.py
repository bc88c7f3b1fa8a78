"""The calls of a shop's own backend (role `service`): the money it took and gave back, and every order of the shop."""

from urllib.parse import quote

import msgspec

from gateway.client.http import Order, each_order
from gateway.client.people import LinkMaker


class Backend(LinkMaker):
    """Each report takes a `key`; repeated with it, or with the same transaction, it counts once."""

    async def report_payment(
        self, order: str, *, provider: str, txn: str, amount_minor: int, paid_at: str, key: str | None = None
    ) -> Order:
        """The order afterwards, with its payments. One that is only reserved yet is `not_confirmed`: repeat."""
        body = {"provider": provider, "txn": txn, "amount_minor": amount_minor, "paid_at": paid_at}
        answer = await self.call("POST", f"/v1/orders/{quote(order)}/payments", body, key=key)
        return msgspec.json.decode(answer.body, type=Order)

    async def report_refund(self, order: str, *, txn: str, amount_minor: int, key: str | None = None) -> Order:
        body = {"txn": txn, "amount_minor": amount_minor}
        answer = await self.call("POST", f"/v1/orders/{quote(order)}/refunds", body, key=key)
        return msgspec.json.decode(answer.body, type=Order)

    async def order(self, order: str) -> Order:
        return msgspec.json.decode((await self.call("GET", f"/v1/orders/{quote(order)}")).body, type=Order)

    async def orders(self) -> list[Order]:
        """All orders of the shop, oldest first."""
        return [order async for order in each_order(self, "/v1/orders")]
