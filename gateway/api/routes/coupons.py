"""Addresses of coupons and of claims of them."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.bodies import page_of, read_body, required_key
from gateway.api.callers import Callers
from gateway.api.coupon_messages import NewCoupon, NewDrop
from gateway.api.coupon_replies import (
    ClaimOutcomeReply,
    ClaimReply,
    CouponReply,
    claim_outcome_reply,
    claim_reply,
    coupon_reply,
)
from gateway.api.middleware import Audience
from gateway.api.replies import PageReply, json_reply
from gateway.api.routes import Route
from gateway.clock import Clock
from gateway.domain.caller import Role
from gateway.flows.claim import ClaimCoupon
from gateway.flows.claims import ClaimReader
from gateway.flows.coupons import Coupons


class CouponRoutes:
    def __init__(
        self,
        *,
        callers: Callers,
        coupons: Coupons,
        claiming: ClaimCoupon,
        claims: ClaimReader,
        clock: Clock,
        max_bytes: int,
    ) -> None:
        self._callers = callers
        self._coupons = coupons
        self._claiming = claiming
        self._claims = claims
        self._clock = clock
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        yield Route(
            "POST",
            "/v1/coupons",
            self.create,
            Audience.HOSTS,
            about="Makes a coupon; without `claim_from` it is claimed once it is dropped into a room.",
            takes=NewCoupon,
            gives={201: CouponReply},
            refuses=("not_found",),
            keyed=True,
        )
        yield Route(
            "GET",
            "/v1/coupons",
            self.of_shop,
            Audience.HOSTS,
            about="The shop's coupons, newest first, with what is claimed, redeemed and left; with `room` those "
            "made for it or dropped there.",
            gives={200: PageReply[CouponReply]},
            refuses=("not_found",),
            query=("limit", "after", "room"),
        )
        yield Route(
            "POST",
            "/v1/coupons/{coupon}/drop",
            self.drop,
            Audience.HOSTS,
            about="Opens the claim at once and shows the coupon in the room.",
            takes=NewDrop,
            gives={200: CouponReply},
            refuses=("not_found", "conflict"),
            keyed=True,
        )
        yield Route(
            "POST",
            "/v1/coupons/{coupon}/claims",
            self.claim,
            Audience.VIEWERS,
            about="Claims a copy: 201 has it, 200 says why not.",
            gives={201: ClaimOutcomeReply, 200: ClaimOutcomeReply},
            refuses=("not_found",),
            keyed=True,
        )
        yield Route(
            "GET",
            "/v1/coupon-claims",
            self.own,
            Audience.VIEWERS,
            about="The viewer's own claims, newest first.",
            gives={200: PageReply[ClaimReply]},
            query=("limit", "after"),
        )

    async def create(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        key = required_key(request)
        body = await read_body(request, NewCoupon, max_bytes=self._max_bytes)
        reading, replayed = await self._coupons.create(caller, body.draft(), key)
        return json_reply(coupon_reply(reading), status=201, replayed=replayed)

    async def of_shop(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        page = page_of(request)
        readings, next_cursor = await self._coupons.of_shop(
            caller, limit=page.limit, after=page.after, room=request.query.get("room")
        )
        return json_reply(PageReply(items=[coupon_reply(reading) for reading in readings], next=next_cursor))

    async def drop(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        key = required_key(request)
        body = await read_body(request, NewDrop, max_bytes=self._max_bytes)
        reading, replayed = await self._coupons.drop(
            caller, request.match_info["coupon"], room_id=body.room, for_s=body.for_s, key=key
        )
        return json_reply(coupon_reply(reading), replayed=replayed)

    async def claim(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        key = required_key(request)
        answer = await self._claiming.ask(caller, coupon=request.match_info["coupon"], key=key)
        if answer.claim is None:
            return json_reply(claim_outcome_reply(answer))
        claim, coupon = await self._claims.answered(caller, key, answer)
        reply = ClaimOutcomeReply(outcome=answer.outcome.value, claim=claim_reply(claim, coupon, self._clock.now_ms()))
        return json_reply(reply, status=201, replayed=answer.replayed)

    async def own(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        page = page_of(request)
        claims, next_cursor = await self._claims.own(caller, limit=page.limit, after=page.after)
        now_ms = self._clock.now_ms()
        items = [claim_reply(claim, coupon, now_ms) for claim, coupon in claims]
        return json_reply(PageReply(items=items, next=next_cursor))
