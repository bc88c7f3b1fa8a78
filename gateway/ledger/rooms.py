"""Rooms in the ledger: made once a key, read, started, ended, changed."""

from collections.abc import Collection
from typing import Any, NamedTuple, TypeVar

from msgspec import UNSET, UnsetType

from gateway.domain.acts import RoomAct
from gateway.domain.drafts import Effect, RoomChanges, RoomDraft
from gateway.domain.ids import IdMint, RoomId
from gateway.domain.limits import ROOMS_A_DAY
from gateway.domain.room import Room, RoomState
from gateway.errors import NotFound, RateLimited
from gateway.ledger.effects import take_key
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries
from gateway.ledger.room_acts import note_act

T = TypeVar("T")

_QUERIES = load_queries("rooms.sql")
_ACTS = {RoomState.LIVE: RoomAct.START, RoomState.ENDED: RoomAct.END}
_DAY_MS = 86_400_000
_CHANGEABLE = ("title", "starts_at_ms", "stream_url", "notice")


class RoomCreated(NamedTuple):
    room: Room
    replayed: bool


class LedgerRooms:
    def __init__(self, ledger: Ledger, mint: IdMint) -> None:
        self._ledger = ledger
        self._mint = mint

    async def create(self, shop: str, draft: RoomDraft, effect: Effect) -> RoomCreated:
        """One room a key, in one transaction. Raises KeyReused; NotFound for a shop that is none; RateLimited when the
        shop has made all rooms it may make today, by days of UTC."""
        async with self._ledger.transaction() as connection:
            place = await connection.fetchrow(_QUERIES["place"], shop)
            if place is None:
                raise NotFound("There is no such shop.")
            room_no: int = place["room_no"]
            room_id: str = self._mint.room(place["at_ms"], room_no)
            held = await take_key(connection, shop_no=place["shop_no"], effect=effect, object_id=room_id)
            if held is not None:
                room_no = self._mint.read_room(held) or 0
            else:
                await _check_day(connection, place)
                await connection.execute(
                    _QUERIES["insert"],
                    room_no,
                    room_id,
                    place["shop_no"],
                    draft.title,
                    draft.starts_at_ms,
                    draft.stream_url,
                    draft.notice,
                    place["at_ms"],
                )
            row = await connection.fetchrow(_QUERIES["find"], room_no)
        if row is None:
            raise NotFound("There is no such room.")
        return RoomCreated(_room(row), held is not None)

    async def find(self, room_no: int) -> Room | None:
        row = await self._ledger.fetchrow(_QUERIES["find"], room_no)
        return None if row is None else _room(row)

    async def of_shop(
        self, shop: str, *, limit: int, after: int | None = None, only: Collection[str] | None = None
    ) -> list[Room]:
        """Newest first, behind the room number `after`; of `only` where it is given."""
        names = None if only is None else list(only)
        return [_room(row) for row in await self._ledger.fetch(_QUERIES["of_shop"], shop, after, names, limit)]

    async def not_ended_of(self, shop: str, *, limit: int) -> list[Room]:
        """A shop's rooms that are or will be live: the live ones first, then newest first."""
        return [_room(row) for row in await self._ledger.fetch(_QUERIES["not_ended_of"], shop, limit)]

    async def set_state(self, room_no: int, state: RoomState, *, actor: str) -> Room:
        """The room afterwards: in that state, or ended when it was."""
        async with self._ledger.transaction() as connection:
            was = await connection.fetchrow(_QUERIES["lock"], room_no)
            if was is None:
                raise NotFound("There is no such room.")
            if await connection.fetchval(_QUERIES["set_state"], room_no, state.value):
                before, after = {"state": was["state"]}, {"state": state.value}
                await note_act(connection, room_no, _ACTS[state], actor=actor, before=before, after=after)
            return _room(await connection.fetchrow(_QUERIES["find"], room_no))

    async def change(self, room_no: int, changes: RoomChanges, *, actor: str) -> Room:
        async with self._ledger.transaction() as connection:
            row = await connection.fetchrow(_QUERIES["lock"], room_no)
            if row is None:
                raise NotFound("There is no such room.")
            await connection.execute(
                _QUERIES["change"],
                room_no,
                _changed(changes.title, row["title"]),
                _changed(changes.starts_at_ms, row["starts_at_ms"]),
                _changed(changes.stream_url, row["stream_url"]),
                _changed(changes.notice, row["notice"]),
            )
            now = await connection.fetchrow(_QUERIES["find"], room_no)
            others = [name for name in _CHANGEABLE if row[name] != now[name]]
            if others:
                before, after = ({name: of[name] for name in others} for of in (row, now))
                await note_act(connection, room_no, RoomAct.CHANGE, actor=actor, before=before, after=after)
            return _room(now)


async def _check_day(connection: Any, place: Any) -> None:
    await connection.execute(_QUERIES["hold_shop"], place["shop_no"])
    made = await connection.fetchrow(_QUERIES["newest_but"], place["shop_no"], ROOMS_A_DAY)
    at_ms: int = place["at_ms"]
    day_began_ms = at_ms - at_ms % _DAY_MS
    if made["rooms_a_day"] == 0 or (made["created_at_ms"] or 0) >= day_began_ms:
        raise RateLimited(
            f"The shop may make {made['rooms_a_day']} rooms a day (UTC).", retry_after_ms=day_began_ms + _DAY_MS - at_ms
        )


def _changed(value: T | UnsetType, before: T) -> T:
    return before if value is UNSET else value


def _room(row: Any) -> Room:
    return Room(
        room=RoomId(row["room"]),
        room_no=row["room_no"],
        shop=row["shop"],
        title=row["title"],
        state=RoomState(row["state"]),
        created_at_ms=row["created_at_ms"],
        starts_at_ms=row["starts_at_ms"],
        started_at_ms=row["started_at_ms"],
        ended_at_ms=row["ended_at_ms"],
        stream_url=row["stream_url"],
        notice=row["notice"],
    )
