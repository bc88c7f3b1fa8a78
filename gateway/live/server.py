"""The socket server of one live process: the door, the greeting, and the way out."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.room import Room, RoomState
from gateway.errors import Forbidden, GatewayError, NotFound, Unauthorized
from gateway.live.session import Orders, Session
from gateway.metrics import CONNECTIONS
from gateway.wire import bus, frames
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import BY_PROTOCOL, JSON, Codec

log = structlog.get_logger(__name__)

# The contract's, of a viewer and room; a mini-program client cannot open more either. Counted in this process.
SOCKETS_PER_VIEWER = 5
TOKEN_ENDING_S = 60
# Entering asks the ledger; this many at once are enough to keep it busy and few enough to leave orders their share.
_GREETING_AT_ONCE = 64
_GREETING_WAITING_MAX = 20_000


class Authenticator(Protocol):
    def verify_known(self, token: str) -> Caller | None:
        """Without asking anybody: None when the token's key is not known here yet."""
        ...

    async def verify(self, token: str) -> Caller: ...


class Watch(Protocol):
    """`gateway.flows.watch.WatchRoom`."""

    async def room(self, room_id: str) -> Room: ...
    async def check(self, caller: Caller, room_id: str) -> Room: ...
    def pseudonym(self, room_id: str, sub: str) -> str: ...
    async def pending(self, caller: Caller, pending: Sequence[frames.Pending]) -> list[frames.KnownOrder]: ...
    async def snapshot(self, room: Room) -> frames.Snapshot: ...


class Origins(Protocol):
    async def allows(self, origin: str, *, shop: str | None) -> bool: ...
    def refuses(self, origin: str) -> bool: ...


class Presence(Protocol):
    def join(self, shop: str, viewer: str, sink: Any) -> None: ...
    def leave(self, shop: str, viewer: str, sink: Any) -> None: ...
    def sinks_of(self, shop: str, viewer: str) -> Sequence[Any]: ...


class LiveServer:
    """Holds at most `sockets_max` sockets; a further one is answered 503 before its upgrade."""

    def __init__(
        self,
        *,
        orders: Orders,
        authenticator: Authenticator,
        watch: Watch,
        presence: Presence,
        origins: Origins,
        room_may_exist: Callable[[str], bool],
        clock: Clock,
        sockets_max: int,
    ) -> None:
        self.orders = orders
        self._authenticator = authenticator
        self._watch = watch
        self._presence = presence
        self._origins = origins
        self._room_may_exist = room_may_exist
        self._clock = clock
        self._sockets_max = sockets_max
        self._sessions: set[Session] = set()
        self._rooms: dict[str, set[Session]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._greeting = asyncio.Semaphore(_GREETING_AT_ONCE)
        self._waiting = 0
        self._server: asyncio.Server | None = None
        self._ready = False
        self._unflushed: list[Session] = []
        self.now_s = clock.monotonic
        self.now_ms = clock.now_ms

    async def run(self) -> None:
        """Owns what sessions began; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    async def start(self, host: str, port: int, *, shared: bool) -> None:
        """`shared`: several live processes listen on one port, and the kernel spreads the sockets over them."""
        self._server = await ws_create_server(
            self._at_the_door,
            host,
            port,
            websocket_handshake_timeout=5,
            max_frame_size=frames.MAX_FRAME_BYTES,
            read_buffer_init_size=2048,
            disconnect_on_exception=True,
            enable_auto_pong=False,
            logger_name=_quiet_logger(),
            # A Cython transport of its own would cost 5 KB a socket and gains nothing without TLS.
            use_aiofastnet=False,
            reuse_port=shared or None,
            backlog=4096,
        )
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
        try:
            if (await self._watch.room(room_id)).state is not RoomState.ENDED:
                return
        except GatewayError as error:
            log.warning("room_not_read", error=str(error))
            return
        except Exception:
            log.exception("room_not_read")
            return
        for at, session in enumerate(list(self._rooms.get(room_id, ()))):
            session.bye(CloseCode.ROOM_ENDED, "the room has ended")
            if at % 100 == 99:
                await asyncio.sleep(0)

    def tick(self, tick: bus.Tick) -> None:
        """Encoded once a codec; the same bytes go to everybody in the room who was welcomed."""
        frame = frames.Tick(seq=tick.seq, now_ms=tick.now_ms, ev=tick.events)
        encoded: dict[Codec, bytes] = {}
        for session in self._rooms.get(tick.room, ()):
            if session.caller is not None:
                if session.codec not in encoded:
                    encoded[session.codec] = session.codec.encode(frame)
                session.send_encoded(encoded[session.codec])

    # The door: everything that is decided before the upgrade, without awaiting.

    def _at_the_door(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        path = request.path.decode("latin-1").partition("?")[0]
        if path in ("/livez", "/readyz"):
            ready = path == "/livez" or self._ready
            return _answer(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, b"ok" if ready else b"not ready")
        parts = path.split("/")
        if len(parts) != 5 or parts[1:3] != ["v1", "rooms"] or parts[4] != "live" or not self._room_may_exist(parts[3]):
            return _answer(HTTPStatus.NOT_FOUND, b"no such room")
        if not self._ready or len(self._sessions) >= self._sockets_max:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, b"full", retry_after_s=random.randint(1, 5))
        origin = request.headers.get("Origin")
        if origin is not None and self._origins.refuses(origin):
            return _answer(HTTPStatus.FORBIDDEN, b"this page may not connect")
        token = _bearer(request)
        if token is not None:
            # A token in the header is judged before the upgrade, unless its key has to be asked for first.
            try:
                caller = self._authenticator.verify_known(token)
                if caller is not None and caller.rooms is not None and parts[3] not in caller.rooms:
                    return _answer(HTTPStatus.FORBIDDEN, b"this token is not for this room")
            except Unauthorized:
                return _answer(HTTPStatus.UNAUTHORIZED, b"unauthorized")
            except Forbidden:
                return _answer(HTTPStatus.FORBIDDEN, b"forbidden")
        offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        codec = next((BY_PROTOCOL[name] for name in offered if name in BY_PROTOCOL), JSON)
        chosen = {"Sec-WebSocket-Protocol": codec.protocol} if codec.protocol in offered else None
        session = Session(host=self, room=parts[3], codec=codec, token=token, origin=origin)
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(chosen), session)

    # What sessions ask of the server.

    def flush_soon(self, session: Session) -> None:
        """Once all that is ready now has run, so that answers and confirmations of one moment share a write."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(session)

    def _flush(self) -> None:
        sessions, self._unflushed = self._unflushed, []
        for session in sessions:
            session.flush()

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

    def greet(self, session: Session, hello: frames.Hello) -> None:
        if self._tasks is None or self._waiting >= _GREETING_WAITING_MAX:
            session.bye(CloseCode.TRY_AGAIN_LATER, "too many at once", retry_after_ms=random.randint(1000, 5000))
            return
        self._waiting += 1
        self._tasks.create_task(self._greet(session, hello))

    def refresh(self, session: Session, token: str) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._refresh(session, token))

    async def _greet(self, session: Session, hello: frames.Hello) -> None:
        try:
            async with self._greeting:
                if not session.closing:
                    await self._welcome(session, hello)
        except Unauthorized as error:
            session.bye(CloseCode.BAD_TOKEN, error.message)
        except (Forbidden, NotFound) as error:
            session.bye(CloseCode.NOT_ALLOWED, error.message)
        except GatewayError as error:
            log.warning("greeting_failed", error=str(error))
            session.bye(CloseCode.TRY_AGAIN_LATER, "come back in a moment", retry_after_ms=random.randint(500, 3000))
        except Exception:
            # One viewer's greeting must not take the process and everybody's socket with it.
            log.exception("greeting_broke")
            session.bye(CloseCode.INTERNAL_ERROR, "internal")
        finally:
            self._waiting -= 1

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
        others = self._presence.sinks_of(caller.shop, caller.sub)
        if sum(other.room == session.room for other in others) >= SOCKETS_PER_VIEWER:
            session.bye(CloseCode.FULL, "too many sockets of this viewer", retry_after_ms=5000)
            return
        # From here on later states are heard, so that none falls between the look and the listening.
        self._presence.join(caller.shop, caller.sub, session)
        session.joined = caller
        known = await self._watch.pending(caller, hello.pending) if hello.pending else None
        snapshot = await self._watch.snapshot(room)
        session.admit(
            caller,
            frames.Welcome(
                you=self._watch.pseudonym(session.room, caller.sub),
                epoch=snapshot.epoch,
                seq=snapshot.seq,
                now_ms=self._clock.now_ms(),
                recovered=False,
                orders=known,
            ),
            snapshot,
        )
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


def _bearer(request: WSUpgradeRequest) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def _answer(status: HTTPStatus, body: bytes, *, retry_after_s: int | None = None) -> WSUpgradeResponseWithListener:
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}
    if status < 400:
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(body, headers), None)
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, body, headers), None)


def _quiet_logger() -> Any:
    """One adapter for all sockets: picows makes a logger a socket from a name, and those are never freed."""
    logger = logging.getLogger("picows.live")
    # A line for everything that is no WebSocket would let anybody fill the log.
    logger.setLevel(logging.CRITICAL)
    return logging.LoggerAdapter(logger, {})
