"""One viewer in a room: stays connected, follows the room, comments, and orders."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from gateway.client.backoff import Backoff
from gateway.client.claims import ClaimAnswer, ClaimDesk, KnownClaim
from gateway.client.codec import Codec, ToViewer, codec_named
from gateway.client.comments import CommentAnswer, CommentDesk
from gateway.client.connection import Connection, connect, order_frame
from gateway.client.desk import OnOrder, OrderDesk
from gateway.client.errors import HandshakeRefused, ViewerAway
from gateway.client.following import Following, OnEvent
from gateway.client.orders import MAX_NAMED_BYTES, NAMED_OVERHEAD_BYTES, KnownOrder, OrderAnswer
from gateway.client.room_view import RoomView
from gateway.domain.live import MAX_LIKES
from gateway.errors import GatewayError
from gateway.wire.close_codes import CloseCode, may_return
from gateway.wire.frames import MAX_PENDING

# A connection that lived this long ends the row of failures; a shorter one is one more of them.
STEADY_AFTER_S = 5.0

RefreshToken = Callable[[], Awaitable[str]]


class Viewer:
    """A viewer's client, to be used with `async with`: inside, it has been welcomed and returns after every cut.

    Each order's key is kept until its true answer. After a reconnect the keys in flight and the unconfirmed ones are
    named in `hello`, and those somebody waits for are asked again with the same key and content, never with a new key.
    When the gateway closes the socket for good, what waits raises `ViewerAway`. Comments are asked again in the same
    way under their own ids.

    With `follow` (the default) `room` is the picture of the room, kept by its ticks; `on_event` hears each event of
    them. A generator of load does without both: its viewers then read only a tick's number.

    `refresh_token` is asked for a fresh token before the old one ends and whenever the gateway says that it has;
    without it an ended token is the end. `ping_idle_s` notices a network that went away without a word.
    """

    def __init__(
        self,
        live_url: str,
        token: str,
        *,
        codec: str | Codec = "json",
        on_order: OnOrder | None = None,
        on_event: OnEvent | None = None,
        follow: bool = True,
        refresh_token: RefreshToken | None = None,
        backoff: Backoff | None = None,
        welcome_within_s: float = 30.0,
        ping_idle_s: float | None = None,
    ) -> None:
        self.live_url = live_url
        self.codec = codec_named(codec) if isinstance(codec, str) else codec
        self.reconnects = 0
        self._token = token
        self._refresh_token = refresh_token
        self._backoff = backoff or Backoff()
        self._desk = OrderDesk(backoff=self._backoff, on_order=on_order)
        self._claims = ClaimDesk(backoff=self._backoff)
        self._comments = CommentDesk(backoff=self._backoff, on_posted=self._posted)
        self._following = Following(codec=self.codec, keeps_view=follow, on_event=on_event)
        self._welcome_within_s = welcome_within_s
        self._ping_idle_s = ping_idle_s
        self._connection: Connection | None = None
        self._closed: asyncio.Future[int] | None = None
        self._close_reason = ""
        self._retry_after_s = 0.0
        self._welcomed = asyncio.Event()
        self._staying: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._away: GatewayError | None = None

    @property
    def is_connected(self) -> bool:
        """Welcomed, and not cut since."""
        return self._welcomed.is_set()

    @property
    def welcome(self) -> dict[str, Any]:
        """The last one."""
        return self._following.welcome

    @property
    def snapshot(self) -> dict[str, Any]:
        """The last one as it was told; `room` is what has become of it since."""
        return self._following.snapshot

    @property
    def room(self) -> RoomView:
        """The room as it is now, empty before the first snapshot. Raises LookupError for who does not `follow`."""
        if self._following.view is None:
            raise LookupError("This viewer does not follow the room.")
        return self._following.view

    @property
    def holes(self) -> int:
        """How often a tick was not the one after the last: more than 0 breaks the gateway's promise."""
        return self._following.holes

    @property
    def orders(self) -> dict[str, KnownOrder]:
        """Orders of this viewer the gateway told of, by id, each with its latest state."""
        return self._desk.orders

    @property
    def claims(self) -> dict[str, KnownClaim]:
        """Claims of this viewer the gateway told of, by id, each with its latest state."""
        return self._claims.claims

    async def __aenter__(self) -> Self:
        self._staying = asyncio.create_task(self._stay(), name="viewer")
        welcomed = asyncio.create_task(self._welcomed.wait(), name="viewer welcomed")
        try:
            await asyncio.wait(
                {self._staying, welcomed}, timeout=self._welcome_within_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not welcomed.done():
                raise self._away or TimeoutError(f"No welcome within {self._welcome_within_s} s.")
        except BaseException:
            await self._leave()
            raise
        finally:
            welcomed.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def order(
        self,
        *,
        sale: str,
        sku: str,
        quantity: int = 1,
        key: str | None = None,
        expect_amount_minor: int | None = None,
        meta: object = None,
        coupon_claim: str | None = None,
        ref: str | None = None,
        pickup: bool | str | None = None,
        insist: bool = False,
        within_s: float = 30.0,
    ) -> OrderAnswer:
        """The true answer to an order, across reconnects.

        With `insist` also across `too_fast`, retryable errors and silence: it is asked again with the same key until
        `within_s`. Without, `too_fast` is returned and errors are raised. Past `within_s` `NoAnswer` is raised; the
        order may still happen, and asking again with its key tells.
        """
        frame = order_frame(
            key or uuid4().hex,
            sale,
            sku,
            quantity,
            expect_amount_minor=expect_amount_minor,
            meta=meta,
            ref=ref,
            pickup=pickup,
            coupon_claim=coupon_claim,
        )
        return await self._desk.order(frame, insist=insist, within_s=within_s)

    async def confirmed(self, order: str, *, within_s: float = 30.0) -> KnownOrder:
        """The order once it is more than reserved: `confirmed`, or `refused` with its reason."""
        return await self._desk.confirmed(order, within_s=within_s)

    async def claim(
        self, coupon: str, *, key: str | None = None, insist: bool = False, within_s: float = 30.0
    ) -> ClaimAnswer:
        """The true answer to a claim, across reconnects; `insist` and `within_s` as of `order`."""
        return await self._claims.claim(key or uuid4().hex, coupon, insist=insist, within_s=within_s)

    async def claim_confirmed(self, claim: str, *, within_s: float = 30.0) -> KnownClaim:
        """The claim once it is more than claimed: `confirmed`, or `refused` with its reason."""
        return await self._claims.confirmed(claim, within_s=within_s)

    async def comment(
        self, text: str, *, id: str | None = None, insist: bool = False, within_s: float = 30.0
    ) -> CommentAnswer:
        """The answer to a comment, across reconnects; one `id` is posted once, however often it is asked.

        With `insist` also across `slow_mode`, `too_fast`, retryable errors and silence, until `within_s`. Without,
        those outcomes are returned and errors are raised. Past `within_s` `NoAnswer` is raised; it may be posted.
        """
        return await self._comments.comment(id or uuid4().hex, text, insist=insist, within_s=within_s)

    def like(self, taps: int = 1) -> None:
        """Taps since the last call, 1 to 100; lost when the socket is away."""
        if not 1 <= taps <= MAX_LIKES:
            raise ValueError(f"A frame carries 1 to {MAX_LIKES} taps, not {taps}.")
        self.send({"t": "like", "n": taps})

    def enter(self, sale: str | None = None) -> None:
        """The viewer opened the product bag, at a sale or at none; lost when the socket is away."""
        self.send({"t": "enter"} if sale is None else {"t": "enter", "sale": sale})

    def send(self, frame: Mapping[str, object]) -> None:
        """A frame without an answer to wait for; lost when the socket is away."""
        if self._connection is not None:
            self._connection.send(frame)

    # Staying connected.

    async def _stay(self) -> None:
        failures = 0
        try:
            while True:
                started = time.monotonic()
                asked_s = await self._one_connection()
                if time.monotonic() - started >= STEADY_AFTER_S:
                    failures = 0
                await asyncio.sleep(self._backoff.delay_s(failures, asked_s=asked_s))
                failures += 1
                self.reconnects += 1
        except GatewayError as error:
            self._end(error)
        except Exception as error:
            # A token hook that fails, or a fault of ours: nobody waits for ever, and the cause is told.
            away = ViewerAway(f"The client cannot go on: {error!r}")
            away.__cause__ = error
            self._end(away)

    async def _one_connection(self) -> float:
        """Lives one connection; says how long the gateway asked to wait before the next, or raises to stay away."""
        self._retry_after_s = 0.0
        self._closed = asyncio.get_running_loop().create_future()
        try:
            self._connection = await connect(
                self.live_url,
                self._token,
                self.codec,
                on_frame=self._on_frame,
                on_close=self._on_close,
                pending=self._named(),
                resume=self._following.resume(),
                ping_idle_s=self._ping_idle_s,
            )
        except HandshakeRefused as refused:
            if refused.status == 401 and self._refresh_token is not None:
                self._token = await self._refresh_token()
            elif refused.status != 429 and refused.status < 500:
                raise ViewerAway(refused.message, status=refused.status) from refused
            return refused.retry_after_s or 0.0
        except OSError:  # a TimeoutError is one
            return 0.0
        code = await self._closed
        self._connection = None
        if code == CloseCode.TOKEN_ENDED and self._refresh_token is not None:
            self._token = await self._refresh_token()
        elif code == CloseCode.TOKEN_ENDED or not may_return(code):
            raise ViewerAway(f"The gateway closed the socket with {code} {self._close_reason}".strip(), close_code=code)
        if code == CloseCode.TAKE_SNAPSHOT:
            self._following.forget_place()
        return self._retry_after_s

    def _named(self) -> list[dict[str, str]]:
        """The keys a `hello` names: those of orders, and as many of claims as its frame has room for."""
        orders = self._desk.named()
        room = sum(sum(map(len, name.values())) + NAMED_OVERHEAD_BYTES for name in orders)
        names = [*orders]
        for name in self._claims.named(MAX_PENDING - len(orders)):
            room += sum(map(len, name.values())) + NAMED_OVERHEAD_BYTES
            if room > MAX_NAMED_BYTES:
                break
            names.append(name)
        return names

    async def _bring_token(self, refresh: RefreshToken) -> None:
        try:
            self._token = await refresh()
        except Exception:
            # The old token still holds; once it has ended the hook is asked again, and then its failure counts.
            return
        self.send({"t": "token", "token": self._token})

    async def _leave(self) -> None:
        self._end(ViewerAway("This viewer left."))
        if self._connection is not None:
            self._connection.close()
        tasks = [task for task in (self._refreshing, self._staying) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, error: GatewayError) -> None:
        self._away = self._away or error
        self._desk.end(error)
        self._claims.end(error)
        self._comments.end(error)

    def _posted(self, text: str, answer: CommentAnswer) -> None:
        if answer.comment is not None and answer.at_ms is not None:
            self._following.posted(text, comment=answer.comment, at_ms=answer.at_ms)

    # What the connection calls.

    def _on_close(self, connection: Connection, code: int, reason: str) -> None:
        self._welcomed.clear()
        self._desk.disconnected()
        self._claims.disconnected()
        self._comments.disconnected()
        self._close_reason = reason
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(code)

    def _on_frame(self, connection: Connection, told: ToViewer, payload: bytes) -> None:
        match told.t:
            case "tick":
                self._following.ticked(told, payload)
            case "reply":
                if not self._comments.replied(told) and not self._claims.replied(told):
                    self._desk.replied(told)
            case "order":
                self._desk.changed(told)
            case "claim":
                self._claims.changed(told)
            case "error":
                if not self._comments.refused(told) and not self._claims.refused(told):
                    self._desk.refused(told)
            case "welcome":
                welcome = self._following.welcomed(payload)
                # Set before anybody is woken: this frame can come before `connect` has returned.
                self._connection = connection
                self._welcomed.set()
                self._desk.welcomed(connection, welcome.get("orders") or ())
                self._claims.welcomed(connection, welcome.get("claims") or ())
                self._comments.welcomed(connection)
            case "snapshot":
                self._following.shown(payload)
            case "token_ending":
                if self._refresh_token is not None and (self._refreshing is None or self._refreshing.done()):
                    self._refreshing = asyncio.create_task(self._bring_token(self._refresh_token), name="viewer token")
            case "bye":
                self._retry_after_s = (told.retry_after_ms or 0) / 1000
