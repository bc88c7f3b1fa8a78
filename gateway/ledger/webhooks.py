"""Outgoing webhooks in the ledger: where shops want to hear what, and the events on their way."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.domain.webhook import OVERLAP_S, RETRY_FOR_S, DeadLetter, Due, Endpoint, Failure, Webhook
from gateway.errors import NotFound
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("webhooks.sql")
# Replayed in one statement; a shop that has more asks again.
REPLAYED_MOST = 10_000
# Counted no further: a shop that was away in a peak has hundreds of thousands waiting.
COUNTED_MOST = 100_000
# Changed or deleted in one statement: some 100 ms of a connection that others wait for as well.
_CHANGED_MOST = 2_000


class LedgerWebhooks:
    """The shops' side: an endpoint a shop, its secrets, its dead letters. Secrets leave the ledger for signing only."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find(self, shop: str) -> Webhook | None:
        row = await self._ledger.fetchrow(_QUERIES["find"], shop, COUNTED_MOST)
        return None if row is None else Webhook(**{**dict(row), "events": tuple(row["events"])})

    async def endpoint(self, shop: str) -> Endpoint | None:
        row = await self._ledger.fetchrow(_QUERIES["endpoint"], shop)
        return None if row is None else _endpoint(row)

    async def put(self, shop: str, *, url: str, events: Sequence[str], secret: str) -> bool:
        """Whether the shop had none and has this secret now. What waits goes to the new address."""
        made = await self._ledger.fetchval(_QUERIES["put"], shop, url, list(events), secret)
        if made is None:
            raise NotFound("There is no such shop.")
        return bool(made)

    async def rotate(self, shop: str, secret: str) -> bool:
        """False when the shop has no webhook. The secret before is signed with as well for a day."""
        return bool(await self._ledger.fetchval(_QUERIES["rotate"], shop, secret, OVERLAP_S))

    async def dead(self, shop: str | None, *, limit: int, after: int | None = None) -> list[DeadLetter]:
        """The newest first, behind the delivery number `after`."""
        rows = await self._ledger.fetch(_QUERIES["dead"], shop, after, limit)
        return [DeadLetter(*row) for row in rows]

    async def replay(self, shop: str, msg_id: str) -> bool:
        """Whether the event waits now to be sent. False: it was delivered, or never was."""
        if await self._ledger.fetchval(_QUERIES["replay"], shop, msg_id):
            return True
        return bool(await self._ledger.fetchval(_QUERIES["waits"], shop, msg_id))

    async def replay_all(self, shop: str) -> int:
        """How many dead events wait now; the oldest ones, where there are very many."""
        return len(await self._ledger.fetch(_QUERIES["replay_all"], shop, REPLAYED_MOST))


class LedgerDeliveries:
    """The sender's side. An event leaves the queue only when somebody noted that it was delivered."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def take_lease(self, name: str, *, holder: str, for_s: float) -> bool:
        """Takes or renews it; False while another one holds it. By PostgreSQL's clock."""
        return bool(await self._ledger.fetchval(_QUERIES["take_lease"], name, holder, for_s))

    async def give_lease(self, name: str, *, holder: str) -> None:
        await self._ledger.execute(_QUERIES["give_lease"], name, holder)

    async def endpoints(self) -> list[Endpoint]:
        """Of shops that are to be sent something now."""
        return [_endpoint(row) for row in await self._ledger.fetch(_QUERIES["endpoints_due"])]

    async def due(self, shop_no: int, *, but: Iterable[str], limit: int) -> list[Due]:
        """What is to be sent now, an event an object, without those of the objects `but`."""
        return [Due(*row) for row in await self._ledger.fetch(_QUERIES["due"], shop_no, list(but), limit)]

    async def note(
        self, *, delivered: Mapping[int, Sequence[int]], failed: Mapping[int, Sequence[Failure]]
    ) -> dict[int, list[str]]:
        """Notes how attempts ended, by shop number. The types of the events that are given up with them, by shop."""
        failures = [each for of_shop in failed.values() for each in of_shop]
        shop_of = {each.delivery_no: shop_no for shop_no, of_shop in failed.items() for each in of_shop}
        shops = sorted(delivered.keys() | failed.keys())
        died: dict[int, list[str]] = {}
        async with self._ledger.transaction() as connection:
            gone = [no for of_shop in delivered.values() for no in of_shop]
            if gone:
                await connection.execute(_QUERIES["delivered"], gone)
            if failures:
                numbers = [each.delivery_no for each in failures]
                rows = await connection.fetch(
                    _QUERIES["failed"],
                    numbers,
                    [each.attempts for each in failures],
                    [each.status for each in failures],
                    [each.error for each in failures],
                    [each.again_in_s for each in failures],
                    RETRY_FOR_S,
                )
                await connection.execute(_QUERIES["put_behind"], numbers)
                for row in rows:
                    if row["died"]:
                        died.setdefault(shop_of[row["delivery_no"]], []).append(row["type"])
            await connection.execute(
                _QUERIES["note"],
                shops,
                [len(delivered.get(shop, ())) for shop in shops],
                [len(failed.get(shop, ())) for shop in shops],
                [failed[shop][-1].error if failed.get(shop) else None for shop in shops],
            )
        return died

    async def hurry(self, shop_no: int) -> bool:
        """What waits for another attempt is to be sent now; whether that was all of it."""
        return len(await self._ledger.fetch(_QUERIES["hurry"], shop_no, _CHANGED_MOST)) < _CHANGED_MOST

    async def ages(self) -> tuple[int, float, int]:
        """(events that wait, seconds the oldest of them waits, dead ones)"""
        row = await self._ledger.fetchrow(_QUERIES["ages"], COUNTED_MOST)
        return row["waiting"], row["oldest_s"], row["dead"]

    async def forget_dead(self, *, older_than_s: float) -> bool:
        """Whether these were all."""
        return len(await self._ledger.fetch(_QUERIES["forget_dead"], older_than_s, _CHANGED_MOST)) < _CHANGED_MOST


def _endpoint(row: Any) -> Endpoint:
    secrets = (row["secret"],) if row["before"] is None else (row["secret"], row["before"])
    return Endpoint(row["shop_no"], row["shop"], row["url"], secrets)
