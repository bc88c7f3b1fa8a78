"""One viewer's socket in the terms of the contract: its frames in, its answers out, and why it ends."""

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Protocol

from gateway.domain.caller import Caller
from gateway.domain.comment import CommentAnswer
from gateway.domain.coupon import ClaimAnswer
from gateway.domain.order import OrderAnswer
from gateway.domain.room import RoomState
from gateway.errors import BadRequest, Invalid, NotFound, Unavailable
from gateway.live.answers import claim_reply, comment_reply, error_frame, order_reply
from gateway.live.socket import Counted, Socket
from gateway.live.switchboard import Switchboard
from gateway.metrics import ENTERS, SLOW_VIEWERS
from gateway.rooms.live_room import NOT_YET, LiveRoom
from gateway.rooms.picture import Variant
from gateway.wire import bus, frames
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import Codec, NotAllowed, UnknownFrame, Unreadable
from gateway.wire.invalid import invalid

# What may wait for a phone that reads slowly before it gets less: its own buffers hold seconds of a room already.
NO_COMMENTS_BYTES, SALE_ONLY_BYTES = 8 * 1024, 24 * 1024
# And before it is asked to come back; under what may wait at all, so that its bye still finds a place.
SLOW_BYTES = 48 * 1024
HELLO_WITHIN_S = 5.0  # the contract's
BROKEN_FRAMES = 3  # the contract's: the third closes the socket


class Orders(Protocol):
    def submit(
        self,
        caller: Caller,
        *,
        sale: str,
        sku: str,
        quantity: int,
        key: str,
        answer: Callable[[OrderAnswer | Exception], None],
        expect_amount_minor: int | None,
        coupon_claim: str | None,
        ref: str | None,
        meta: object,
        pickup: bool | str | None,
    ) -> None: ...


class Claims(Protocol):
    """`gateway.flows.claim.ClaimCoupon`."""

    def submit(
        self, caller: Caller, *, coupon: str, key: str, answer: Callable[[ClaimAnswer | Exception], None]
    ) -> None: ...


class Comments(Protocol):
    """`gateway.flows.comment.PostComment`."""

    def submit(
        self,
        caller: Caller,
        *,
        room_no: int,
        viewer: str,
        id: str,
        text: str,
        refuses: Callable[[str], bool],
        answer: Callable[[CommentAnswer | Exception], None],
        has_ended: bool,
    ) -> None: ...


class Likes(Protocol):
    def like(self, caller: Caller, room_no: int, taps: int) -> None: ...


class Host(Protocol):
    """What a session asks of its server."""

    orders: Orders
    claims: Claims
    board: Switchboard
    comments: Comments
    likes: Likes

    def now_ms(self) -> int: ...
    def connected(self, session: "Session") -> None: ...
    def greet(self, session: "Session", hello: frames.Hello) -> None: ...
    def refresh(self, session: "Session", token: str) -> None: ...
    def left(self, session: "Session") -> None: ...
    def entered(self, session: "Session") -> None:
        """The viewer opened the product bag."""
        ...

    def refuses(self, session: "Session", text: str) -> bool:
        """Whether what would be said has a word that is banned in the session's room."""
        ...


class Session(Socket):
    """A socket from its upgrade to its end. It never awaits: what takes time is done by the server, which calls
    back."""

    __slots__ = (
        "_broken",
        "_early",
        "_end_at_s",
        "_host",
        "_in_flight",
        "_owes_totals",
        "_warn_at_s",
        "_warn_of_ms",
        "at_seq",
        "caller",
        "codec",
        "greeted",
        "joined",
        "live",
        "origin",
        "room",
        "slot",
        "token",
        "variant",
        "you",
    )

    max_message_bytes = frames.MAX_FRAME_BYTES

    def __init__(
        self,
        *,
        host: Host,
        room: str,
        codec: Codec,
        token: str | None,
        origin: str | None = None,
        guest: Counted | None = None,
    ) -> None:
        super().__init__(host.board, guest)
        self._host = host
        self.room = room
        self.codec = codec
        self.token = token
        """Of the upgrade's Authorization header, if it had one."""
        self.origin = origin
        self.joined: Caller | None = None
        """Who is told of later states through this socket; set while the welcome is still being made."""
        self.caller: Caller | None = None
        """Set once welcomed."""
        self.greeted = False
        self.live: LiveRoom | None = None
        """The room it is a member of, from its welcome on."""
        self.you = ""
        """Who the viewer is in the room."""
        self.at_seq = NOT_YET
        self.slot = 0
        self.variant = Variant.WHOLE
        self._owes_totals = False
        """Whether it was left without the running totals, and not told them since."""
        self._broken = 0
        self._in_flight = 0
        self._early: tuple[bus.LaterState | bus.LaterClaim, ...] = ()
        self._warn_at_s = self._end_at_s = math.inf
        self._warn_of_ms = 0

    # Frames in.

    def opened(self) -> None:
        self._end_at_s = self._board.now_s() + HELLO_WITHIN_S
        self._host.connected(self)

    def closed(self) -> None:
        self._host.left(self)

    def flooded(self) -> None:
        self.bye(CloseCode.TOO_MANY_FRAMES, "too many frames", retry_after_ms=5000)

    def received(self, payload: bytes, is_text: bool) -> None:
        if is_text is not self.codec.is_text:
            self.close(CloseCode.UNSUPPORTED_DATA, "wrong kind of frame for this subprotocol")
            return
        if not self.greeted:
            self._read_hello(payload)
            return
        try:
            frame = self.codec.decode(payload)
        except NotAllowed as error:
            # The border found it wrong before anybody acted on it: that frame had no effect, the socket stays.
            wrong = invalid(str(error))
            self.fail(BadRequest(wrong.message, param="id") if error.lacks_key else wrong, id=error.id)
            return
        except UnknownFrame as error:
            self.fail(NotFound(f"This gateway knows no frame {error.frame!r}."), id=error.id)
            return
        except Unreadable as error:
            self._count_broken(str(error))
            return
        if self.caller is None:
            self._read_early(frame)
            return
        match frame:
            case frames.PlaceOrder():
                self._in_flight += 1
                self._host.orders.submit(
                    self.caller,
                    sale=frame.sale,
                    sku=frame.sku,
                    quantity=frame.quantity,
                    key=frame.id,
                    answer=partial(self._answered, frame.id),
                    expect_amount_minor=frame.expect_amount_minor,
                    coupon_claim=frame.coupon_claim,
                    ref=frame.ref,
                    meta=frame.meta,
                    pickup=frame.pickup,
                )
            case frames.Comment():
                room = self._live_room().room
                self._host.comments.submit(
                    self.caller,
                    room_no=room.room_no,
                    viewer=self.you,
                    id=frame.id,
                    text=frame.text,
                    refuses=partial(self._host.refuses, self),
                    answer=partial(self._comment_answered, frame.id),
                    has_ended=room.state is RoomState.ENDED,
                )
            case frames.Like():
                self._host.likes.like(self.caller, self._live_room().room.room_no, frame.n)
            case frames.Enter():
                ENTERS.add(1)
                self._host.entered(self)
            case frames.Ping():
                self.send(frames.Pong(now_ms=self._host.now_ms(), id=frame.id))
            case frames.FreshToken():
                self._host.refresh(self, frame.token)
            case frames.Claim():
                self._in_flight += 1
                self._host.claims.submit(
                    self.caller, coupon=frame.coupon, key=frame.id, answer=partial(self._answered, frame.id)
                )
            case frames.Hello():
                self.fail(Invalid("The socket has said hello already.", param="t"))

    def _read_early(self, frame: frames.FromViewer) -> None:
        """A frame between hello and welcome: a client's own pings and taps do not wait for us."""
        match frame:
            case frames.Ping():
                self.send(frames.Pong(now_ms=self._host.now_ms(), id=frame.id))
            case frames.PlaceOrder() | frames.Comment() | frames.Claim():
                self.fail(Unavailable("The welcome is still to come.", retry_after_ms=500), id=frame.id)
            case frames.Hello():
                self.fail(Invalid("The socket has said hello already.", param="t"))

    def _read_hello(self, payload: bytes) -> None:
        """The first frame is hello; whatever else it is ends the socket."""
        try:
            frame = self.codec.decode(payload)
        except (NotAllowed, UnknownFrame, Unreadable):
            frame = None
        if isinstance(frame, frames.Hello):
            self.greeted = True
            self._end_at_s = math.inf
            self._host.greet(self, frame)
        else:
            self.bye(CloseCode.NO_HELLO, "the first frame is hello")

    def _count_broken(self, message: str) -> None:
        self._broken += 1
        if self._broken >= BROKEN_FRAMES:
            self.bye(CloseCode.BROKEN_FRAMES, "three broken frames")
        else:
            self.send(frames.Error(code="bad_request", message=message, retryable=False))

    # Answers out.

    def _answered(self, id: str, answer: OrderAnswer | ClaimAnswer | Exception) -> None:
        self._in_flight -= 1
        if self.closing:
            return
        match answer:
            case OrderAnswer():
                self.send(order_reply(id, answer))
            case ClaimAnswer():
                self.send(claim_reply(id, answer))
            case _:
                self.fail(answer, id=id)
        if self._early:
            self.catch_up_states()

    def _comment_answered(self, id: str, answer: CommentAnswer | Exception) -> None:
        if isinstance(answer, CommentAnswer):
            self.send(comment_reply(id, answer))
        else:
            self.fail(answer, id=id)

    def order_changed(self, state: bus.LaterState, *, placed_here: bool) -> None:
        """A later state of an order of this viewer. One that overtook its own reply (or the welcome) waits for it."""
        if self.caller is None or (not placed_here and self._in_flight > 0):
            self._early += (state,)
            return
        self.send(
            frames.OrderChanged(
                order=state.order,
                status=state.status,
                pay_by_ms=state.pay_by_ms or None,
                reason=state.reason or None,
            )
        )

    def claim_changed(self, state: bus.LaterClaim, *, placed_here: bool) -> None:
        """As `order_changed`, of a claim."""
        if self.caller is None or (not placed_here and self._in_flight > 0):
            self._early += (state,)
            return
        self.send(frames.ClaimChanged(claim=state.claim, state=state.state, reason=state.reason or None))

    def fail(self, error: Exception, *, id: str | None = None) -> None:
        self.send(error_frame(error, id=id))

    def send(self, frame: frames.ToViewer) -> None:
        self.send_encoded(self.codec.encode(frame))

    def send_encoded(self, payload: bytes) -> None:
        if self.transport is not None and not self.closing:
            self.put(self.codec.header(len(payload)), payload)

    # The room.

    def admit(self, caller: Caller, live: LiveRoom, welcome: frames.Welcome) -> None:
        """The greeting is done: from here on the viewer may act. What the room shows follows."""
        self.vouched()
        self.caller, self.live, self.you = caller, live, welcome.you
        # Most have nothing to say twice; what the hello brought is not kept for them.
        self.token = None
        self.send(welcome)

    def catch_up_states(self) -> None:
        """Later states that came while the welcome was made, or before the answer they are about."""
        states, self._early = self._early, ()
        for state in states:
            if isinstance(state, bus.LaterClaim):
                self.claim_changed(state, placed_here=True)
            else:
                self.order_changed(state, placed_here=True)

    def lags(self, unread_bytes: int) -> None:
        """Who reads slowly gets less, and who does not read at all has to come back."""
        if unread_bytes > SLOW_BYTES:
            self.bye(CloseCode.SLOW, "reads too slowly", retry_after_ms=random.randint(1000, 3000))
            return
        variant = Variant.WHOLE
        if unread_bytes > SALE_ONLY_BYTES:
            variant = Variant.SALE_ONLY
        elif unread_bytes > NO_COMMENTS_BYTES:
            variant = Variant.NO_COMMENTS
        had = Variant.WHOLE if self.variant is Variant.AND_TOTALS else self.variant
        if variant > had:
            SLOW_VIEWERS.labels(variant.name.lower()).inc()
        elif unread_bytes > 0 and variant < had:
            # Only who has caught up gets more again; else it would go up and down with every tick.
            return
        if variant is Variant.SALE_ONLY or self.variant is Variant.AND_TOTALS:
            self._owes_totals = True
        if variant is Variant.WHOLE and self._owes_totals:
            variant, self._owes_totals = Variant.AND_TOTALS, False
        self.variant = variant

    def _live_room(self) -> LiveRoom:
        assert self.live is not None, "welcomed without a room"
        return self.live

    # How it ends.

    def time_token(self, *, warn_in_s: float, warn_of_ms: int, end_in_s: float) -> None:
        """Warns before the token ends and closes when it has; a fresh token starts this anew."""
        now_s = self._board.now_s()
        self._warn_at_s, self._warn_of_ms, self._end_at_s = now_s + warn_in_s, warn_of_ms, now_s + end_in_s
        self.look_again()

    def timed(self, now_s: float) -> float:
        """Until its hello what ends is its time for one; afterwards its token."""
        if now_s >= self._end_at_s:
            if self.greeted:
                self.bye(CloseCode.TOKEN_ENDED, "the token has ended")
            else:
                self.bye(CloseCode.NO_HELLO, "no hello in time")
        elif now_s >= self._warn_at_s:
            self._warn_at_s = math.inf
            self.send(frames.TokenEnding(in_ms=self._warn_of_ms))
        return min(self._warn_at_s, self._end_at_s)

    def bye(self, code: CloseCode, reason: str, *, retry_after_ms: int | None = None) -> None:
        """Says why, then closes."""
        if not self.closing:
            self.send(frames.Bye(code=int(code), reason=reason, retry_after_ms=retry_after_ms))
            self.close(code, reason)
