"""Calls about the people around orders: who brings viewers, and who hands over what was paid."""

from urllib.parse import quote

import msgspec

from gateway.client.calls import Calls
from gateway.client.http import Order


class _Link(msgspec.Struct):
    ref: str


class LinkMaker(Calls):
    """A host, or the shop's backend."""

    async def make_link(
        self, room: str, *, source: str, referrer: str | None = None, guide: str | None = None, key: str | None = None
    ) -> str:
        """The reference that goes into tokens or orders; the same content has the same one."""
        said = {"source": source, "referrer": referrer, "guide": guide}
        body = {name: value for name, value in said.items() if value is not None}
        answer = await self.call("POST", f"/v1/rooms/{quote(room, safe='')}/links", body, key=key)
        return msgspec.json.decode(answer.body, type=_Link).ref


class Clerk(Calls):
    """Whoever stands at a till."""

    async def redeem_pickup(self, code: str, *, key: str | None = None) -> Order:
        """Hands the order of this code over. Raises AlreadyRedeemed for one that was; repeat with the same key."""
        answer = await self.call("POST", f"/v1/pickups/{quote(code, safe='')}/redeem", key=key)
        return msgspec.json.decode(answer.body, type=Order)
