"""Links in the ledger: each content once, read by their references."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.domain.acts import RoomAct
from gateway.domain.drafts import Effect
from gateway.domain.links import Link, LinkDraft, LinkSeal
from gateway.errors import NotFound
from gateway.ledger.effects import find_key, take_key
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries
from gateway.ledger.room_acts import note_act

_QUERIES = load_queries("links.sql")


class LinkMade(NamedTuple):
    ref: str
    replayed: bool
    """By the key; a link that was there under another key is given again as if it were new."""


class LedgerLinks:
    def __init__(self, ledger: Ledger, seal: LinkSeal) -> None:
        self._ledger = ledger
        self._seal = seal

    async def make(self, shop: str, draft: LinkDraft, effect: Effect, *, in_acts: bool) -> LinkMade:
        """The link of this content. Raises KeyReused. What was there before costs no row, not even its key's: shops
        ask for the same link whenever they show it. `in_acts`: a new one goes to the room's log."""
        async with self._ledger.transaction() as connection:
            there: str | None = await connection.fetchval(_QUERIES["like_it"], *draft)
            if there is None:
                place = await connection.fetchrow(_QUERIES["place"], shop)
                if place is None:
                    raise NotFound("There is no such shop.")
                ref = self._seal.ref(shop, place["at_ms"], place["link_no"])
                if await connection.fetchval(_QUERIES["insert"], place["link_no"], ref, *draft, effect.caller):
                    held = await take_key(connection, shop_no=place["shop_no"], effect=effect, object_id=ref)
                    if in_acts:
                        said = {"ref": ref, "source": draft.source, "referrer": draft.referrer, "guide": draft.guide}
                        after = {name: value for name, value in said.items() if value is not None}
                        await note_act(
                            connection, draft.room_no, RoomAct.LINK, actor=effect.caller, before=None, after=after
                        )
                    return LinkMade(ref if held is None else held, held is not None)
                # Somebody made it in this moment.
                there = await connection.fetchval(_QUERIES["like_it"], *draft)
            held = await find_key(connection, shop=shop, effect=effect)
            return LinkMade(there or "", held is not None)

    async def by_ref(self, refs: Sequence[str]) -> dict[str, Link]:
        """Those the ledger does not have are left out: a restored one may lack the newest."""
        if not refs:
            return {}
        return {row["ref"]: Link(**row) for row in await self._ledger.fetch(_QUERIES["by_ref"], list(refs))}
