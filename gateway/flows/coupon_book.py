"""The coupons this process knows."""

from typing import Protocol

from gateway.clock import Clock
from gateway.domain.coupon import Coupon
from gateway.domain.ids import IdMint
from gateway.flows.book import Book


class Coupons(Protocol):
    async def find(self, coupon_no: int) -> Coupon | None: ...


class CouponBook(Book[Coupon]):
    def __init__(self, *, coupons: Coupons, mint: IdMint, clock: Clock) -> None:
        super().__init__(
            find=coupons.find,
            read_id=mint.read_coupon,
            id_of=lambda coupon: coupon.coupon,
            missing="There is no such coupon in this shop.",
            clock=clock,
        )
