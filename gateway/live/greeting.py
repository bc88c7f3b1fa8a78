"""From a hello to a welcome: who the viewer is, whether they may enter, and the room as it is."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import structlog

from gateway.admission.pace import Pace
from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.room import Room, RoomState
from gateway.errors import Forbidden, GatewayError, NotFound, Unauthorized
from gateway.live.session import Session
from gateway.metrics import JOINS_SHED
from gateway.rooms.hub import Hub
from gateway.rooms.live_room import LiveRoom
from gateway.rooms.snapshots import Snapshots
from gateway.wire import frames
from gateway.wire.close_codes import CloseCode

log = structlog.get_logger(__name__)

# The contract's, of a viewer and room; a mini-program client cannot open more either.
SOCKETS_PER_VIEWER = 5
TOKEN_ENDING_S = 60
# Places in a full shop come free as viewers leave, which takes them longer than a crowd takes to pass.
SHOP_FULL_MS = (5_000, 15_000)
# Entering may ask the ledger; this many at once are enough to keep it busy and few enough to leave orders their share.
_GREETING_AT_ONCE = 64


class Authenticator(Protocol):
    def verify_known(self, token: str) -> Caller | None:
        """Without asking anybody: None when the token's key is not known here yet."""
        ...

    async def verify(self, token: str) -> Caller: ...


class Known(Protocol):
    """What became of keys; None of what was not named."""

    @property
    def orders(self) -> list[frames.KnownOrder] | None: ...
    @property
    def claims(self) -> list[frames.KnownClaim] | None: ...


class Watch(Protocol):
    """`gateway.flows.watch.WatchRoom`."""

    async def check(self, caller: Caller, room_id: str) -> Room: ...
    def pseudonym(self, room_id: str, sub: str) -> str: ...
    async def pending(self, caller: Caller, pending: Sequence[frames.Pending]) -> Known: ...


class Rules(Protocol):
    """Of one room."""

    def banned(self, sub: str) -> bool: ...
    def refuses(self, text: str) -> bool: ...


class Origins(Protocol):
    async def allows(self, origin: str, *, shop: str | None) -> bool: ...


class Presence(Protocol):
    def join(self, shop: str, viewer: str, sink: Any) -> None: ...
    def sinks_of(self, shop: str, viewer: str) -> Sequence[Any]: ...


class Seats(Protocol):
    """`gateway.rooms.seats.Seats`."""

    async def take(self, room_no: int, viewer: str) -> bool: ...
    def give_back(self, room_no: int, viewer: str) -> None: ...


class Attendance(Protocol):
    """`gateway.flows.attendance.Attendance`."""

    def joined(self, room_no: int, viewer: str) -> None: ...
    def left(self, room_no: int, viewer: str) -> None: ...
    def entered(self, room_no: int, viewer: str) -> None: ...


class Desk(Protocol):
    """`gateway.live.host_desk.HostDesk`."""

    def joined(self, session: Session) -> None: ...
    def left(self, room: Room, session: Session) -> None: ...


class Greeter:
    """Admits at a stated rate: beyond it a hello waits shortly, beyond that it is given a time to come back."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        watch: Watch,
        rules: Callable[[Room], Awaitable[Rules]],
        presence: Presence,
        origins: Origins,
        hub: Hub,
        seats: Seats,
        attendance: Attendance,
        desk: Desk,
        snapshots: Snapshots,
        pace: Pace,
        clock: Clock,
        shop_is_full: Callable[[str], bool] = lambda shop: False,
    ) -> None:
        self._authenticator = authenticator
        self._watch = watch
        self._rules = rules
        self._presence = presence
        self._origins = origins
        self._hub = hub
        self._seats = seats
        self._attendance = attendance
        self._desk = desk
        self._snapshots = snapshots
        self._pace = pace
        self._shop_is_full = shop_is_full
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._at_once = asyncio.Semaphore(_GREETING_AT_ONCE)

    async def run(self) -> None:
        """Owns the greetings; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    def greet(self, session: Session, hello: frames.Hello) -> None:
        try:
            # Who has no good token takes nobody's turn.
            token = session.token or hello.token
            if token is None:
                raise Unauthorized
            self._authenticator.verify_known(token)
        except (Unauthorized, Forbidden) as error:
            session.bye(CloseCode.BAD_TOKEN, error.message)
            return
        turn = self._pace.take(self._clock.monotonic())
        if self._tasks is None or turn.retry_after_ms is not None:
            JOINS_SHED.inc()
            retry_after_ms = turn.retry_after_ms or random.randint(1000, 5000)
            session.bye(CloseCode.FULL, "too many at once", retry_after_ms=retry_after_ms)
            return
        if turn.wait_s < 0.001:
            self._begin(session, hello)
        else:
            asyncio.get_running_loop().call_later(turn.wait_s, self._begin, session, hello)

    def refresh(self, session: Session, token: str) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._refresh(session, token))

    def left(self, session: Session) -> None:
        live, session.live = session.live, None
        if live is not None:
            self._hub.leave(live, session)
            self._seats.give_back(live.room.room_no, session.you)
            if session.caller is not None and not session.caller.is_staff:
                self._attendance.left(live.room.room_no, session.caller.sub)
            self._desk.left(live.room, session)

    def entered(self, session: Session) -> None:
        """The viewer opened the product bag."""
        live, caller = session.live, session.caller
        if live is not None and caller is not None and not caller.is_staff:
            self._attendance.entered(live.room.room_no, caller.sub)

    def _begin(self, session: Session, hello: frames.Hello) -> None:
        if self._tasks is not None and not session.closing:
            self._tasks.create_task(self._greet(session, hello))

    async def _greet(self, session: Session, hello: frames.Hello) -> None:
        try:
            async with self._at_once:
                if not session.closing:
                    await self._welcome(session, hello)
        except Unauthorized as error:
            session.bye(CloseCode.BAD_TOKEN, error.message)
        except (Forbidden, NotFound) as error:
            session.bye(CloseCode.NOT_ALLOWED, error.message)
        except GatewayError as error:
            log.warning("greeting_failed", error=str(error))
            session.bye(CloseCode.SERVICE_RESTART, "come back in a moment", retry_after_ms=random.randint(500, 3000))
        except Exception:
            # One viewer's greeting must not take the process and everybody's socket with it.
            log.exception("greeting_broke")
            session.bye(CloseCode.SERVICE_RESTART, "internal", retry_after_ms=random.randint(1000, 5000))

    async def _welcome(self, session: Session, hello: frames.Hello) -> None:
        token = session.token or hello.token
        if token is None:
            raise Unauthorized
        caller = await self._authenticator.verify(token)
        room = await self._watch.check(caller, session.room)
        if session.origin is not None and not await self._origins.allows(session.origin, shop=caller.shop):
            raise Forbidden("This page may not connect.")
        if room.state is RoomState.ENDED:
            session.bye(CloseCode.ROOM_ENDED, "the room has ended")
            return
        if not caller.is_staff and (await self._rules(room)).banned(caller.sub):
            session.bye(CloseCode.BANNED, "banned from this room")
            return
        if not caller.is_staff and self._shop_is_full(caller.shop):
            JOINS_SHED.inc()
            retry_after_ms = random.randint(*SHOP_FULL_MS)
            session.bye(CloseCode.FULL, "the shop has as many viewers as it may", retry_after_ms=retry_after_ms)
            return
        # Those of this process are known without asking; the seats say it of all.
        others = self._presence.sinks_of(caller.shop, caller.sub)
        you = self._watch.pseudonym(session.room, caller.sub)
        if sum(other.room == session.room for other in others) >= SOCKETS_PER_VIEWER or not await self._seats.take(
            room.room_no, you
        ):
            session.bye(CloseCode.FULL, "too many sockets of this viewer", retry_after_ms=5000)
            return
        try:
            await self._enter(session, hello, caller, room, you)
        finally:
            if session.live is None:
                self._seats.give_back(room.room_no, you)

    async def _enter(self, session: Session, hello: frames.Hello, caller: Caller, room: Room, you: str) -> None:
        """Makes the session a member of the room, unless it is gone meanwhile."""
        if session.closing:
            return
        # From here on later states are heard, so that none falls between the look and the listening.
        self._presence.join(caller.shop, caller.sub, session)
        session.joined = caller
        if not caller.is_staff and (await self._rules(room)).banned(caller.sub):
            # Since it was looked at. Whoever is banned from here on is shown out with the others.
            session.bye(CloseCode.BANNED, "banned from this room")
            return
        known = await self._watch.pending(caller, hello.pending) if hello.pending else None
        live = await self._hub.enter(room)
        try:
            await self._join(session, hello, caller, live, you, known)
        finally:
            if session.live is None:
                self._hub.give_up(live)

    async def _join(
        self,
        session: Session,
        hello: frames.Hello,
        caller: Caller,
        live: LiveRoom,
        you: str,
        known: Known | None,
    ) -> None:
        resume = hello.resume
        missed = None if resume is None else live.resumed(session.codec, resume.epoch, resume.seq)
        snapshot = await self._snapshots.of(live) if missed is None else None
        while snapshot is not None and not live.goes_on_from(snapshot):
            # The room began anew meanwhile.
            snapshot = await self._snapshots.of(live)
        if session.closing:
            return
        # No await from here on: what the room is told next, this viewer is told too.
        picture = live.picture
        session.admit(
            caller,
            live,
            frames.Welcome(
                you=you,
                epoch=picture.epoch if snapshot is None else snapshot.frame.epoch,
                seq=picture.seq if snapshot is None else snapshot.frame.seq,
                now_ms=self._clock.now_ms(),
                recovered=snapshot is None,
                orders=None if known is None else known.orders,
                claims=None if known is None else known.claims,
            ),
        )
        self._hub.join(live, session)
        if not caller.is_staff:
            self._attendance.joined(live.room.room_no, caller.sub)
        self._desk.joined(session)
        if snapshot is not None:
            live.show(session, snapshot)
        else:
            if missed:
                session.give(missed)
            session.at_seq = picture.seq
        session.catch_up_states()
        self._time_token(session, caller)

    def _time_token(self, session: Session, caller: Caller) -> None:
        left_s = caller.expires_at_s - self._clock.now_ms() / 1000
        warn_of_s = max(0.0, min(left_s, TOKEN_ENDING_S))
        session.time_token(
            warn_in_s=max(0.0, left_s - warn_of_s), warn_of_ms=int(warn_of_s * 1000), end_in_s=max(0.0, left_s)
        )

    async def _refresh(self, session: Session, token: str) -> None:
        try:
            caller = await self._authenticator.verify(token)
            if caller.rooms is not None and session.room not in caller.rooms:
                raise Forbidden("This token is not for this room.")
            known = session.caller
            if known is None or (caller.shop, caller.sub, caller.role) != (known.shop, known.sub, known.role):
                raise Forbidden("A fresh token is for the same viewer.")
            session.caller = caller
            self._time_token(session, caller)
        except GatewayError as error:
            session.fail(error)
        except Exception:
            log.exception("refresh_broke")
            session.fail(GatewayError())
