"""What the socket edge and the HTTP edge share of coupons: claims in, and what is left of them out."""

from collections.abc import Coroutine
from typing import Any

from gateway.admission.limiter import Limiter
from gateway.app.base import Base
from gateway.app.room_side import RoomSide
from gateway.flows.claim import ClaimCoupon
from gateway.flows.claims import ClaimReader
from gateway.flows.coupon_book import CouponBook
from gateway.flows.coupon_news import CouponNews
from gateway.flows.order_watch import OrderWatch
from gateway.flows.retired_keys import RetiredClaims
from gateway.hot.coupons import HotCoupons
from gateway.hot.group import GroupCalls
from gateway.ledger.coupons import LedgerCoupons
from gateway.metrics import CLAIM_CALL_SECONDS, CLAIM_GROUP_SIZE


class CouponSide:
    def __init__(
        self, base: Base, *, ledger: LedgerCoupons, book: CouponBook, room_side: RoomSide, watch: OrderWatch
    ) -> None:
        settings, clock = base.settings, base.clock
        self.ledger = ledger
        self.book = book
        self.hot = {
            shard: HotCoupons(
                shard=hot,
                client=base.orders_valkey,
                scripts=base.scripts,
                mint=base.mint,
                clock=clock,
                backlog_max=settings.max_backlog,
            )
            for shard, hot in base.hot.items()
        }
        self.groups = {
            shard: GroupCalls(
                decider=hot,
                clock=clock,
                group_max=settings.group_max,
                queue_max=settings.order_queue,
                seconds=CLAIM_CALL_SECONDS,
                size=CLAIM_GROUP_SIZE,
            )
            for shard, hot in self.hot.items()
        }
        self.retired = RetiredClaims(ledger=ledger)
        self.news = CouponNews(find=book.by_no, hot=self.hot, rooms=room_side.calls, read_room=base.mint.read_room)
        self.claiming = ClaimCoupon(
            book=book,
            groups=self.groups.__getitem__,
            retired=self.retired,
            # As many as orders, beside them: who claims shall not have to wait with the order.
            limiter=Limiter(rate=settings.order_rate, burst=settings.order_burst),
            watch=watch,
            clock=clock,
            moved=self.news.note,
        )
        self.reader = ClaimReader(ledger=ledger, held=self.hot, book=book, mint=base.mint)

    def works(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self.claiming.run(),
            *(group.run() for group in self.groups.values()),
            self.retired.run(),
            self.news.run(),
        ]

    async def drained(self) -> None:
        for group in self.groups.values():
            await group.drained()
