"""What is left of a coupon changes: the room it was dropped in is told, at the pace of stock, down to the last copy.

Whoever took copies notes the coupon; a few times a second what is left of the noted ones is read, with the server's
time as its version, so that of many processes' readings the newest is told.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from gateway.domain.coupon import Coupon
from gateway.errors import GatewayError
from gateway.flows.coupons import coupon_event
from gateway.flows.stock_news import EVERY_S, ReadRoom, Rooms

log = structlog.get_logger(__name__)


class Hot(Protocol):
    """`gateway.hot.coupons.HotCoupons` of one shard."""

    async def left_at(self, coupon_nos: Sequence[int]) -> tuple[int, Sequence[int | None]]:
        """The server's time of the reading in microseconds, and the copies left of each."""
        ...


class Find(Protocol):
    async def __call__(self, coupon_no: int, /) -> Coupon | None: ...


class CouponNews:
    """Best effort: a viewer who misses it sees what is left at the next look."""

    def __init__(self, *, find: Find, hot: Mapping[int, Hot], rooms: Rooms, read_room: ReadRoom) -> None:
        self._find = find
        self._hot = hot
        self._rooms = rooms
        self._read_room = read_room
        self._moved: set[int] = set()

    def note(self, coupon_no: int) -> None:
        """Copies of this coupon were taken or came back."""
        self._moved.add(coupon_no)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._moved:
                await self.tell()

    async def tell(self) -> None:
        """A coupon that cannot be read is read the next time."""
        moved, self._moved = self._moved, set()
        try:
            shards: dict[int, list[Coupon]] = {}
            for coupon_no in sorted(moved):
                coupon = await self._find(coupon_no)
                if coupon is not None and shown_in(coupon) is not None:
                    shards.setdefault(coupon.shard, []).append(coupon)
            for shard, coupons in shards.items():
                version, left = await self._hot[shard].left_at([coupon.coupon_no for coupon in coupons])
                self._tell(coupons, left, version)
        except GatewayError as error:
            self._moved |= moved
            log.warning("coupons_not_told", coupons=len(moved), error=str(error))

    def _tell(self, coupons: Iterable[Coupon], left: Iterable[int | None], version: int) -> None:
        for coupon, still in zip(coupons, left, strict=True):
            room_no = self._read_room(shown_in(coupon) or "")
            if room_no is not None and still is not None:
                # Valkey knows what the room was told last, by whichever process.
                self._rooms.stock(room_no, coupon.coupon, version, dict[str, Any](coupon_event(coupon, still)))


def shown_in(coupon: Coupon) -> str | None:
    """The room that sees it: where it was dropped last, else the one it was made for."""
    return coupon.dropped_room or coupon.room
