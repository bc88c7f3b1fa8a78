"""What coupons.py asks of others."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from gateway.domain.caller import Caller
from gateway.domain.coupon import Coupon
from gateway.domain.drafts import CouponDraft, Effect
from gateway.domain.room import Room
from gateway.domain.sale import Sale


class Created(Protocol):
    @property
    def coupon(self) -> Coupon: ...
    @property
    def replayed(self) -> bool: ...
    @property
    def loaded(self) -> bool:
        """Valkey was given it already."""
        ...


class Counts(Protocol):
    @property
    def claimed(self) -> int: ...
    @property
    def redeemed(self) -> int: ...


class Ledger(Protocol):
    """`gateway.ledger.coupons.LedgerCoupons`."""

    async def create(self, shop: str, draft: CouponDraft, effect: Effect) -> Created: ...
    async def find(self, coupon_no: int) -> Coupon | None: ...
    async def of_room_behind(
        self,
        shop: str,
        room_no: int,
        *,
        limit: int,
        after: int | None = None,
        only_rooms: Collection[str] | None = None,
    ) -> list[Coupon]: ...
    async def of_shop(
        self, shop: str, *, limit: int, after: int | None = None, only_rooms: Collection[str] | None = None
    ) -> list[Coupon]: ...
    async def is_loaded(self, coupon_no: int) -> bool: ...
    async def mark_loaded(self, coupon_no: int, epoch: int) -> None: ...
    async def counts(self, coupon_nos: Sequence[int]) -> Mapping[int, Counts]: ...


class Dropped(Protocol):
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def claim_until_ms(self) -> int: ...
    @property
    def replayed(self) -> bool: ...


class Hot(Protocol):
    """`gateway.hot.coupons.HotCoupons` of one shard."""

    async def load(self, coupon: Coupon) -> None: ...
    async def drop(
        self,
        coupon_no: int,
        *,
        room_no: int,
        for_ms: int,
        actor: str,
        key: str = "",
        fingerprint: str = "",
        shop: str = "",
        arrived_s: float | None = None,
    ) -> Dropped: ...
    async def left(self, coupon_nos: Sequence[int]) -> Sequence[int | None]: ...


class Shard(Protocol):
    @property
    def epoch(self) -> int: ...


class Effects(Protocol):
    async def find(self, shop: str, effect: Effect) -> str | None: ...


class Rooms(Protocol):
    """`gateway.flows.rooms.Rooms`."""

    async def own(self, caller: Caller, room_id: str) -> Room: ...


class Sales(Protocol):
    """`gateway.flows.sales.Sales`."""

    async def find(self, caller: Caller, sale_id: str) -> Sale: ...
    async def now_ms(self, shard_no: int) -> int: ...


class Book(Protocol):
    async def by_no(self, number: int, /) -> Sale | None: ...


class News(Protocol):
    async def tell(self, room: str, events: Sequence[Mapping[str, Any]], *, at_once: bool) -> None: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...
