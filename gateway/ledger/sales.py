"""Sales in the ledger: made once a key, read with their items, counted; and which of them Valkey was given.

What hosts do to a sale afterwards comes through the order stream and is applied by the writer, not here.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.domain.acts import Act, RoomAct
from gateway.domain.drafts import Effect, SaleDraft
from gateway.domain.ids import IdMint, RoomId, SaleId
from gateway.domain.sale import Item, Sale, SaleHold, StockDisplay
from gateway.errors import NotFound
from gateway.ledger.effects import take_key
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries
from gateway.ledger.room_acts import note_act

_QUERIES = load_queries("sales.sql")
_read_items = msgspec.json.Decoder(tuple[Item, ...]).decode
_to_json = msgspec.json.Encoder().encode

UNLOADED_MOST = 500  # a sweep takes the next ones the next time
OF_ROOM_MOST = 50  # a show has a handful of sales; the newest are the ones that matter


class SaleCreated(NamedTuple):
    sale: Sale
    replayed: bool
    loaded: bool
    """Valkey was given it already; only a repeat can find that."""


class Units(NamedTuple):
    """Of one item, as far as the ledger has applied the stream: `held` confirmed and unpaid, `sold` paid."""

    stock: int
    held: int
    sold: int


class ActDone(NamedTuple):
    epoch: int
    seq: int
    act: Act
    actor: str
    at_ms: int
    before: str | None
    after: str | None
    """None when the act had no effect."""


class LedgerSales:
    def __init__(self, ledger: Ledger, mint: IdMint) -> None:
        self._ledger = ledger
        self._mint = mint

    async def create(self, shop: str, draft: SaleDraft, effect: Effect) -> SaleCreated:
        """One sale a key, with its items, in one transaction. Raises KeyReused; NotFound for a room of another shop."""
        async with self._ledger.transaction() as connection:
            place = await connection.fetchrow(_QUERIES["place"], shop)
            if place is None:
                raise NotFound("There is no such shop.")
            sale_no: int = place["sale_no"]
            sale_id: str = self._mint.sale(place["at_ms"], sale_no)
            held = await take_key(connection, shop_no=place["shop_no"], effect=effect, object_id=sale_id)
            if held is None:
                await _insert(connection, place, sale_id, draft)
            else:
                sale_no = self._mint.read_sale(held) or 0
            row = await connection.fetchrow(_QUERIES["by_number"], [sale_no])
        if row is None:
            raise NotFound("There is no such sale.")
        return SaleCreated(_sale(row), held is not None, row["loaded_epoch"] is not None)

    async def change(self, sale_no: int, *, title: str | None, stock_display: StockDisplay | None, actor: str) -> None:
        """What is None stays. It is noted in the acts of the sale's room, if it has one."""
        async with self._ledger.transaction() as connection:
            was = await connection.fetchrow(_QUERIES["lock"], sale_no)
            if was is None:
                raise NotFound("There is no such sale.")
            now = {
                "title": was["title"] if title is None else title,
                "stock_display": was["stock_display"] if stock_display is None else stock_display.value,
            }
            changed = [name for name, value in now.items() if value != was[name]]
            if not changed:
                return
            await connection.execute(_QUERIES["change"], sale_no, now["title"], now["stock_display"])
            if was["room_no"] is not None:
                before, after = ({"sale": was["sale"], **{name: of[name] for name in changed}} for of in (was, now))
                await note_act(connection, was["room_no"], RoomAct.CHANGE, actor=actor, before=before, after=after)

    async def find(self, sale_no: int) -> Sale | None:
        row = await self._ledger.fetchrow(_QUERIES["by_number"], [sale_no])
        return None if row is None else _sale(row)

    async def find_many(self, sale_nos: Sequence[int]) -> list[Sale]:
        """In the order asked; those the ledger does not have are left out."""
        if not sale_nos:
            return []
        found = {row["sale_no"]: _sale(row) for row in await self._ledger.fetch(_QUERIES["by_number"], sale_nos)}
        return [found[sale_no] for sale_no in sale_nos if sale_no in found]

    async def of_shop(
        self, shop: str, *, limit: int, after: int | None = None, only_rooms: Collection[str] | None = None
    ) -> list[Sale]:
        """Newest first, behind the sale number `after`; only sales in those rooms where they are given."""
        rooms = None if only_rooms is None else list(only_rooms)
        return await self._named(_QUERIES["of_shop"], shop, after, rooms, limit)

    async def of_room_behind(self, shop: str, room_no: int, *, limit: int, after: int | None = None) -> list[Sale]:
        """Newest first, behind the sale number `after`; none for a room of another shop."""
        return await self._named(_QUERIES["of_room_behind"], room_no, shop, after, limit)

    async def of_room(self, room_no: int, *, limit: int = OF_ROOM_MOST) -> list[Sale]:
        return await self._named(_QUERIES["of_room"], room_no, limit)

    async def unloaded(self, shard: int, epoch: int) -> list[Sale]:
        """Sales of the shard that Valkey was given neither in `epoch` nor before.

        One that an earlier epoch had is not among them: its counters are recounted from orders, not loaded afresh.
        """
        return await self._named(_QUERIES["unloaded"], shard, epoch, UNLOADED_MOST)

    async def opens_within(self, seconds: float) -> bool:
        """Whether any sale opens so soon, or did a moment ago."""
        return bool(await self._ledger.fetchval(_QUERIES["opens_within"], seconds))

    async def is_loaded(self, sale_no: int) -> bool:
        """Whether Valkey was given it in any epoch."""
        return bool(await self._ledger.fetchval(_QUERIES["is_loaded"], sale_no))

    async def mark_loaded(self, sale_no: int, epoch: int) -> None:
        await self._ledger.execute(_QUERIES["mark_loaded"], sale_no, epoch)

    async def counts(self, sale_no: int) -> Mapping[int, Units]:
        """By item number."""
        rows = await self._ledger.fetch(_QUERIES["counts"], sale_no)
        return {row["item_no"]: Units(row["stock"], row["held"], row["sold"]) for row in rows}

    async def acts(self, sale_no: int) -> list[ActDone]:
        rows = await self._ledger.fetch(_QUERIES["acts"], sale_no)
        return [
            ActDone(row["epoch"], row["seq"], Act(row["act"]), row["actor"], row["at_ms"], row["before"], row["after"])
            for row in rows
        ]

    async def was_refused(self, *, shard: int, epoch: int, seq: int, sale_no: int, act: Act) -> bool:
        """Whether the ledger has this act without effect: it could not take what Valkey took."""
        return bool(await self._ledger.fetchval(_QUERIES["was_refused"], shard, epoch, seq, sale_no, str(act)))

    async def _named(self, query: str, *values: object) -> list[Sale]:
        return await self.find_many([row["sale_no"] for row in await self._ledger.fetch(query, *values)])


async def _insert(connection: Any, place: Any, sale_id: str, draft: SaleDraft) -> None:
    room_no = None
    if draft.room is not None:
        room_no = await connection.fetchval(_QUERIES["room"], draft.room, place["shop_no"])
        if room_no is None:
            raise NotFound("There is no such room in this shop.", param="room")
    await connection.execute(
        _QUERIES["insert"],
        place["sale_no"],
        sale_id,
        place["shop_no"],
        room_no,
        draft.title,
        draft.currency,
        draft.opens_at_ms,
        draft.closes_at_ms,
        draft.pay_within_s,
        draft.stock_display.value,
        place["at_ms"],
    )
    items = draft.items
    await connection.execute(
        _QUERIES["insert_items"],
        place["sale_no"],
        [item.sku for item in items],
        [item.title for item in items],
        [item.price_minor for item in items],
        [item.list_price_minor for item in items],
        [item.floor_minor for item in items],
        [item.stock for item in items],
        [item.limit_per_viewer for item in items],
        [item.image_url for item in items],
        [_to_json(item.prices).decode() if item.prices else None for item in items],
    )


def _sale(row: Any) -> Sale:
    return Sale(
        sale=SaleId(row["sale"]),
        sale_no=row["sale_no"],
        shop=row["shop"],
        shard=row["shard"],
        room=None if row["room"] is None else RoomId(row["room"]),
        title=row["title"],
        currency=row["currency"],
        hold=SaleHold(row["hold"]),
        opens_at_ms=row["opens_at_ms"],
        closes_at_ms=row["closes_at_ms"],
        pay_within_s=row["pay_within_s"],
        stock_display=StockDisplay(row["stock_display"]),
        created_at_ms=row["created_at_ms"],
        items=_read_items(row["items"]) if row["items"] else (),
        retired=row["retired"],
    )
