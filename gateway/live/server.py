"""The socket server of one live process: the door, who is inside, and the way out."""

import asyncio
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

import structlog

from gateway.admission.addresses import Addresses
from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.room import Room, RoomState
from gateway.errors import Forbidden, GatewayError, Unauthorized
from gateway.live.doors import Accepted, Doors, Guest, retry_after
from gateway.live.greeting import Greeter, Rules
from gateway.live.handshake import Answer, Request
from gateway.live.session import Claims, Comments, Likes, Orders, Session
from gateway.live.socket import Counted
from gateway.live.switchboard import Switchboard
from gateway.metrics import CONNECTIONS
from gateway.rooms.hub import Hub
from gateway.wire import frames
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import BY_PROTOCOL, JSON

log = structlog.get_logger(__name__)
# How long a room that ended is still open, so that everybody hears of it before their bye.
LAST_TICK_S = 0.3
# How long one turn of saying goodbye to many may take; orders have theirs in between.
_SLICE_S = 0.002
# Sockets of one viewer that were let in and are not welcomed yet: twice as many as they may hold in a room.
ARRIVING_MAX = 10


class Authenticator(Protocol):
    def verify_known(self, token: str) -> Caller | None:
        """Without asking anybody: None when the token's key is not known here yet."""
        ...


class Watch(Protocol):
    """`gateway.flows.watch.WatchRoom`."""

    async def room(self, room_id: str) -> Room: ...


class Origins(Protocol):
    def refuses(self, origin: str) -> bool: ...


class OwnPages(Protocol):
    """`gateway.admission.own_pages.OwnPages`."""

    def include(self, origin: str, *, host: str | None) -> bool: ...


class Presence(Protocol):
    def leave(self, shop: str, viewer: str, sink: Any) -> None: ...


class RuleBook(Protocol):
    """`gateway.flows.room_rules.RuleBook`."""

    def known(self, room_no: int) -> Rules | None:
        """As last read; asks nobody."""
        ...

    async def read_anew(self, room: Room) -> Rules: ...


class _Arrival:
    """A socket let in for its token, until it is welcomed or gone."""

    __slots__ = ("_arriving", "_guest", "_who")

    def __init__(self, guest: Guest, arriving: dict[tuple[str, str], int], who: tuple[str, str]) -> None:
        self._guest = guest
        self._arriving = arriving
        self._who = who

    def vouched(self) -> None:
        self._guest.vouched()
        left = self._arriving[self._who] - 1
        if left:
            self._arriving[self._who] = left
        else:
            del self._arriving[self._who]


class LiveServer:
    """Holds at most `sockets_max` sockets; a further one is answered 503 before its upgrade."""

    def __init__(
        self,
        *,
        orders: Orders,
        claims: Claims,
        comments: Comments,
        likes: Likes,
        authenticator: Authenticator,
        watch: Watch,
        greeter: Greeter,
        hub: Hub,
        rules: RuleBook,
        presence: Presence,
        origins: Origins,
        own_pages: OwnPages,
        room_may_exist: Callable[[str], bool],
        clock: Clock,
        sockets_max: int,
        addresses: Addresses,
        sockets_per_address: int,
        ungreeted_max: int,
    ) -> None:
        self.orders = orders
        self.claims = claims
        self.comments = comments
        self.likes = likes
        self._authenticator = authenticator
        self._watch = watch
        self._greeter = greeter
        self._rules = rules
        self._presence = presence
        self._origins = origins
        self._own_pages = own_pages
        self._room_may_exist = room_may_exist
        self._clock = clock
        self._sockets_max = sockets_max
        self._sessions: set[Session] = set()
        self._rooms: dict[str, set[Session]] = {}
        self._arriving: dict[tuple[str, str], int] = {}
        """Sockets let in for the token in their header and not welcomed yet, by shop and `sub`."""
        self._tasks: asyncio.TaskGroup | None = None
        self._server: asyncio.Server | None = None
        self._ready = False
        self.board = Switchboard(clock.monotonic)
        self._doors = Doors(
            answer=self._at_the_door,
            board=self.board,
            addresses=addresses,
            per_address=sockets_per_address,
            in_all=ungreeted_max,
        )
        self.now_ms = clock.now_ms
        hub.on_rules = self.rules_changed

    async def run(self) -> None:
        """Owns what sessions began; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    async def start(self, host: str, port: int, *, shared: bool) -> None:
        """`shared`: several live processes listen on one port, and the kernel spreads the sockets over them."""
        self._server = await self._doors.open(host, port, shared=shared)
        self._ready = True

    async def drain(self, within_s: float) -> None:
        """Tells every socket to come back elsewhere, spread over the time so that they do not all return at once."""
        self._ready = False
        if self._server is not None:
            self._server.close()
        sessions = list(self._sessions)
        random.shuffle(sessions)
        pause_s = within_s / max(1, len(sessions))
        started_s = self._clock.monotonic()
        for at, session in enumerate(sessions):
            session.bye(CloseCode.SERVICE_RESTART, "going away", retry_after_ms=random.randint(100, 2000))
            ahead_s = started_s + at * pause_s - self._clock.monotonic()
            if ahead_s > 0.01:
                await asyncio.sleep(ahead_s)

    def room_changed(self, room_id: str) -> None:
        """Somebody changed the room; when it has ended, its sockets end too."""
        if self._tasks is not None and room_id in self._rooms:
            self._tasks.create_task(self._end_if_ended(room_id))

    async def _end_if_ended(self, room_id: str) -> None:
        # The tick that says so goes first.
        await asyncio.sleep(LAST_TICK_S)
        try:
            if (await self._watch.room(room_id)).state is not RoomState.ENDED:
                return
        except GatewayError as error:
            log.warning("room_not_read", error=str(error))
            return
        except Exception:
            log.exception("room_not_read")
            return
        await self._end(room_id)

    def room_ended(self, room: Room) -> None:
        """The ledger says so, whether anybody told this process or not."""
        if self._tasks is not None and room.room in self._rooms:
            self._tasks.create_task(self._end(room.room, after_s=LAST_TICK_S))

    async def _end(self, room_id: str, *, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        await self._for_each(room_id, lambda session: session.bye(CloseCode.ROOM_ENDED, "the room has ended"))

    def rules_changed(self, room: Room) -> None:
        """Bans or banned words of the room may be others."""
        if self._tasks is not None:
            self._tasks.create_task(self._read_rules(room))

    async def _read_rules(self, room: Room) -> None:
        try:
            await self._rules.read_anew(room)
        except GatewayError as error:
            log.warning("rules_not_read", room_no=room.room_no, error=str(error))
        except Exception:
            log.exception("rules_not_read", room_no=room.room_no)

    def bans_changed(self, room: Room, rules: Rules) -> None:
        """Who is banned has to leave."""
        if self._tasks is not None and room.room in self._rooms:
            self._tasks.create_task(self._show_out(room.room, rules))

    async def _show_out(self, room_id: str, rules: Rules) -> None:
        def judge(session: Session) -> None:
            caller = session.joined
            if caller is not None and not caller.is_staff and rules.banned(caller.sub):
                session.bye(CloseCode.BANNED, "banned from this room")

        await self._for_each(room_id, judge)

    async def _for_each(self, room_id: str, act: Callable[[Session], None]) -> None:
        """Everybody in a room, in slices."""
        until_s = self._clock.monotonic() + _SLICE_S
        for session in list(self._rooms.get(room_id, ())):
            act(session)
            if self._clock.monotonic() >= until_s:
                await asyncio.sleep(0)
                until_s = self._clock.monotonic() + _SLICE_S

    # The door: everything that is decided before the upgrade, without awaiting.

    def _at_the_door(self, request: Request, guest: Guest) -> Answer | Accepted:
        if request.path in ("/livez", "/readyz"):
            ready = request.path == "/livez" or self._ready
            return Answer(HTTPStatus.OK, b"ok") if ready else Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready")
        parts = request.path.split("/")
        if len(parts) != 5 or parts[1:3] != ["v1", "rooms"] or parts[4] != "live" or not self._room_may_exist(parts[3]):
            return Answer(HTTPStatus.NOT_FOUND, b"no such room")
        if not self._ready or len(self._sessions) >= self._sockets_max:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"full", retry_after(1, 5))
        origin = request.header("origin")
        if origin is not None and self._own_pages.include(origin, host=request.header("host")):
            # A page of the gateway itself, which no shop has to list.
            origin = None
        if origin is not None and self._origins.refuses(origin):
            return Answer(HTTPStatus.FORBIDDEN, b"this page may not connect")
        caller, token = None, _bearer(request)
        if token is not None:
            # A token in the header is judged before the upgrade, unless its key has to be asked for first.
            try:
                caller = self._authenticator.verify_known(token)
                if caller is not None and caller.rooms is not None and parts[3] not in caller.rooms:
                    return Answer(HTTPStatus.FORBIDDEN, b"this token is not for this room")
            except Unauthorized:
                return Answer(HTTPStatus.UNAUTHORIZED, b"unauthorized")
            except Forbidden:
                return Answer(HTTPStatus.FORBIDDEN, b"forbidden")
        counted: Counted = guest
        if caller is not None:
            # A good token enters past any crowd of those who have shown none, but not as a crowd of its own.
            who = (caller.shop, caller.sub)
            if self._arriving.get(who, 0) >= ARRIVING_MAX:
                return Answer(HTTPStatus.TOO_MANY_REQUESTS, b"too many at once", retry_after(1, 5))
            self._arriving[who] = self._arriving.get(who, 0) + 1
            counted = _Arrival(guest, self._arriving, who)
        elif (crowded := guest.crowded()) is not None:
            return crowded
        offered = [name.strip() for name in (request.header("sec-websocket-protocol") or "").split(",")]
        codec = next((BY_PROTOCOL[name] for name in offered if name in BY_PROTOCOL), JSON)
        session = Session(host=self, room=parts[3], codec=codec, token=token, origin=origin, guest=counted)
        return Accepted(session, protocol=codec.protocol if codec.protocol in offered else None)

    # What sessions ask of the server.

    def connected(self, session: Session) -> None:
        self._sessions.add(session)
        self._rooms.setdefault(session.room, set()).add(session)
        CONNECTIONS.inc()

    def left(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            in_room = self._rooms[session.room]
            in_room.remove(session)
            if not in_room:
                del self._rooms[session.room]
            CONNECTIONS.dec()
        if session.joined is not None:
            self._presence.leave(session.joined.shop, session.joined.sub, session)
        self._greeter.left(session)

    def greet(self, session: Session, hello: frames.Hello) -> None:
        self._greeter.greet(session, hello)

    def refresh(self, session: Session, token: str) -> None:
        self._greeter.refresh(session, token)

    def entered(self, session: Session) -> None:
        self._greeter.entered(session)

    def refuses(self, session: Session, text: str) -> bool:
        rules = None if session.live is None else self._rules.known(session.live.room.room_no)
        return rules is not None and rules.refuses(text)


def _bearer(request: Request) -> str | None:
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None
