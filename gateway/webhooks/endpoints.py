"""A shop's webhook as its backend sets and looks after it."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from gateway.domain.caller import Caller
from gateway.domain.webhook import DeadLetter, EventType, Webhook
from gateway.errors import Forbidden, Invalid, LedgerUnavailable, NotFound, OutcomeUnknown
from gateway.webhooks.addresses import checked_url
from gateway.webhooks.signing import new_secret

_LONGEST_CURSOR: Final = 18


class Ledger(Protocol):
    """`gateway.ledger.webhooks.LedgerWebhooks`."""

    async def find(self, shop: str) -> Webhook | None: ...
    async def put(self, shop: str, *, url: str, events: Sequence[str], secret: str) -> bool: ...
    async def rotate(self, shop: str, secret: str) -> bool: ...
    async def dead(self, shop: str | None, *, limit: int, after: int | None = None) -> list[DeadLetter]: ...
    async def replay(self, shop: str, msg_id: str) -> bool: ...
    async def replay_all(self, shop: str) -> int: ...


class Shown(NamedTuple):
    webhook: Webhook
    secret: str | None = None
    """Only where it was just made; it is shown once."""


class Endpoints:
    """A shop has one webhook. Another address or other events leave its secret as it is."""

    def __init__(self, *, ledger: Ledger, private: bool, dev: bool) -> None:
        self._ledger = ledger
        self._private = private
        self._dev = dev

    async def put(self, caller: Caller, *, url: str, events: Sequence[EventType]) -> Shown:
        _require_whole_shop(caller)
        checked_url(url, dev=self._dev, private=self._private)
        secret = new_secret()
        try:
            made = await self._ledger.put(caller.shop, url=url, events=sorted(set(events)), secret=secret)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
        return Shown(await self.get(caller), secret if made else None)

    async def get(self, caller: Caller) -> Webhook:
        _require_whole_shop(caller)
        found = await self._ledger.find(caller.shop)
        if found is None:
            raise NotFound("The shop has no webhook.")
        return found

    async def rotate(self, caller: Caller) -> Shown:
        _require_whole_shop(caller)
        secret = new_secret()
        try:
            if not await self._ledger.rotate(caller.shop, secret):
                raise NotFound("The shop has no webhook.")
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
        return Shown(await self.get(caller), secret)

    async def dead(self, caller: Caller, *, limit: int, after: str | None) -> tuple[list[DeadLetter], str | None]:
        """The newest first, and the cursor of the next page."""
        _require_whole_shop(caller)
        if after is not None and not (after.isascii() and after.isdigit() and len(after) <= _LONGEST_CURSOR):
            raise Invalid("That is no cursor of this list.", param="after")
        letters = await self._ledger.dead(caller.shop, limit=limit + 1, after=None if after is None else int(after))
        return letters[:limit], str(letters[limit - 1].delivery_no) if len(letters) > limit else None

    async def replay(self, caller: Caller, msg_id: str) -> None:
        """It waits afterwards to be sent. One that waits already is left as it is."""
        _require_whole_shop(caller)
        if not await self._ledger.replay(caller.shop, msg_id):
            raise NotFound("There is no such dead event; what was delivered is not kept.")

    async def replay_all(self, caller: Caller) -> int:
        _require_whole_shop(caller)
        return await self._ledger.replay_all(caller.shop)


def _require_whole_shop(caller: Caller) -> None:
    if caller.rooms is not None:
        raise Forbidden("A webhook is of the whole shop; this token is for rooms.")
