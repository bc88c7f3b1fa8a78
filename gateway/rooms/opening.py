"""Making a room that Valkey does not have, from what the ledger knows of it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.domain.live import RoomChange, RoomStanding

Standing = Callable[[int], Awaitable[RoomStanding]]


class Hot(Protocol):
    async def open(self, room_no: int, standing: RoomStanding, *, not_before: tuple[int, int] = (0, 0)) -> int: ...
    async def change(self, room_no: int, change: RoomChange) -> bool: ...


async def open_room(hot: Hot, standing: Standing, room_no: int, *, not_before: tuple[int, int] = (0, 0)) -> None:
    """An act kept by the ledger after it was read and told before the room was there reached nobody, so the ledger is
    read once more."""
    known = await standing(room_no)
    await hot.open(room_no, known, not_before=not_before)
    while _acts(now := await standing(room_no)) != _acts(known):
        mutes = {**dict.fromkeys(known.mutes, 0), **now.mutes}
        await hot.change(
            room_no, RoomChange(slow_mode_s=now.slow_mode_s, comments=now.comments, pin=now.pin, mutes=mutes)
        )
        known = now


def _acts(standing: RoomStanding) -> tuple[object, ...]:
    """What hosts set; likes go on by themselves."""
    return (standing.slow_mode_s, standing.comments, standing.pin, dict(standing.mutes))
