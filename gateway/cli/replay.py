"""`peakgate replay`: a recorded chat, said again in a room by viewers on real sockets."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console
from rich.live import Live
from rich.text import Text

from gateway.admission.tokens import MAX_TTL_S, mint_token
from gateway.cli.chat_file import ChatLine, read_chat, shipped_chat
from gateway.cli.chat_player import ChatTally, play
from gateway.cli.figures import p50_p99_text
from gateway.cli.output import ExitCode, print_json
from gateway.cli.servers import DataOption, JsonOption, reach_servers
from gateway.cli.shops import SigningKey, signing_key
from gateway.client import Host, Viewer
from gateway.client.codec import codec_named
from gateway.domain.caller import Role
from gateway.embedded import DataFolder
from gateway.errors import NotFound
from gateway.ledger.shops import Signs, check_shop_name
from gateway.settings import Settings

# The shop of who names none; only this one is made where it is not there.
DEMO_SHOP: Final = "demo"
CONNECT_AT_ONCE: Final = 64
REDRAW_EVERY_S: Final = 0.25
PLAIN_LINE_EVERY_S: Final = 5.0
# A tick is at most a second away, and what it skipped is told in it.
SETTLE_WITHIN_S: Final = 3.0


def replay(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The chat: CSV with the columns offset_s, viewer, text (default: a small made-up one).",
            show_default=False,
        ),
    ] = None,
    room: Annotated[str | None, typer.Option(help="Where to play it (default: a new room of the shop).")] = None,
    shop: Annotated[str, typer.Option(help="The shop of the room, whose keys sign the viewers.")] = DEMO_SHOP,
    speed: Annotated[float, typer.Option(min=0.01, max=10_000, help="How many times as fast as recorded.")] = 1.0,
    viewers: Annotated[int, typer.Option(min=0, max=50_000, help="That many more viewers, who only watch.")] = 0,
    url: Annotated[str | None, typer.Option(help="The gateway's HTTP (default: the one on the data folder).")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say a recorded chat again, each of its viewers on a socket of their own, and tell what became of it.

    An author who is told to wait (`slow_mode`, `too_fast`) says it once more. At a high speed people talk faster than
    people may: PEAKGATE_COMMENT_RATE of the gateway says how fast.
    """
    check_shop_name(shop)
    path = file or shipped_chat()
    lines = read_chat(path)
    settings = reach_servers(data)
    console = Console(stderr=as_json, quiet=as_json, highlight=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        replayed = runner.run(
            _replay(
                _Tokens(shop, settings, room=room),
                lines,
                console,
                title=f"Replay of {path.name}",
                room=room,
                speed=speed,
                watchers=viewers,
                url=url or _url_of(settings),
            )
        )
    if as_json:
        print_json(replayed.figures())
    else:
        _print_summary(console, replayed)
    raise SystemExit(int(ExitCode.OK if replayed.holds else ExitCode.CHECK_FAILED))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replayed:
    room: str
    seconds: float
    tally: ChatTally
    viewers: int
    """Sockets of this replay, at the end."""
    skipped: int
    holes: int

    @property
    def holds(self) -> bool:
        return self.tally.posted > 0 and self.holes == 0

    def figures(self) -> dict[str, Any]:
        told = {"room": self.room, "seconds": round(self.seconds, 1), "viewers": self.viewers}
        return {**told, **self.tally.figures(), "skipped": self.skipped, "holes": self.holes}


class _Tokens:
    """Tokens for anybody in the shop, by its own keys; they outlive the longest replay that makes sense."""

    def __init__(self, shop: str, settings: Settings, *, room: str | None) -> None:
        self.shop = shop
        self._settings = settings
        self._room = room
        self._keys: dict[Signs, SigningKey] = {}

    async def of(self, sub: str, role: Role = Role.VIEWER, *, name: str | None = None) -> str:
        signs = Signs.VIEWER if role is Role.VIEWER else Signs.STAFF
        key = self._keys.get(signs)
        if key is None:
            key = self._keys[signs] = await self._key(signs)
        return mint_token(
            kid=key.kid, secret=key.secret, shop=self.shop, sub=sub, role=role, ttl_s=MAX_TTL_S, name=name
        )

    async def _key(self, signs: Signs) -> SigningKey:
        try:
            # A room that is there already is in a shop that is there.
            may_create = self._room is None and self.shop == DEMO_SHOP
            return await signing_key(self._settings, self.shop, signs, may_create=may_create)
        except NotFound as error:
            if error.param != "shop":
                raise
            if self._room is not None:
                raise _no_room(self._room, self.shop) from error
            raise NotFound(
                f"{error.message}; --shop names another, `peakgate shop list` those there are, "
                f"`peakgate shop create {self.shop}` makes it",
                param="shop",
            ) from error


async def _replay(
    tokens: _Tokens,
    lines: list[ChatLine],
    console: Console,
    *,
    title: str,
    room: str | None,
    speed: float,
    watchers: int,
    url: str,
) -> _Replayed:
    room, live_url = await _find_room(tokens, url, room, title=title)
    tally = ChatTally(len(lines))
    codec = codec_named("json")
    connecting = asyncio.Semaphore(CONNECT_AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:
        sockets = 1
        screen = await stack.enter_async_context(
            Viewer(live_url, await tokens.of("replay-screen"), codec=codec, on_event=tally.saw)
        )

        async def sit_down(sub: str, name: str | None = None) -> Viewer:
            nonlocal sockets
            token = await tokens.of(sub, name=name)
            async with connecting:
                viewer = await stack.enter_async_context(Viewer(live_url, token, codec=codec, follow=False))
            sockets += 1
            return viewer

        async def seat(author: str) -> Viewer:
            return await sit_down(f"replay-{author}", author)

        await asyncio.gather(*(sit_down(f"replay-watcher-{number}") for number in range(watchers)))
        authors = len({line.viewer for line in lines})
        console.print(f"{len(lines):,} comments by {authors:,} viewers go to {room} at {speed:g} times their speed.")
        started_s = time.perf_counter()

        def line() -> str:
            others = sum(tally.others.values())
            return (
                f"{time.perf_counter() - started_s:5.0f} s  posted {tally.posted:,} of {tally.planned:,}  "
                f"shown {tally.shown:,}  skipped {screen.room.skipped:,}  other outcomes {others:,}  "
                f"viewers {screen.room.viewers:,}  likes {screen.room.likes:,}"
            )

        showing = asyncio.create_task(_show(console, line))
        try:
            await play(lines, speed=speed, seat=seat, tally=tally)
            await tally.settled(lambda: screen.room.skipped, within_s=SETTLE_WITHIN_S)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
        return _Replayed(
            room=room,
            seconds=time.perf_counter() - started_s,
            tally=tally,
            viewers=sockets,
            skipped=screen.room.skipped,
            holes=screen.holes,
        )


async def _find_room(tokens: _Tokens, url: str, room: str | None, *, title: str) -> tuple[str, str]:
    if room is not None:
        async with Host(url, await tokens.of("replay-screen")) as reader:
            try:
                found = await reader.room(room)
            except NotFound as error:
                raise _no_room(room, tokens.shop) from error
    else:
        async with Host(url, await tokens.of("replay", Role.HOST), insist_s=10.0) as host:
            found = await host.start_room((await host.create_room(title)).room)
    return found.room, found.live_url


def _no_room(room: str, shop: str) -> NotFound:
    return NotFound(f"there is no room {room} in the shop {shop}; --shop names the shop it is in", param="room")


def _url_of(settings: Settings) -> str:
    running = DataFolder(settings.data).find_running()
    if running is not None and running.url is not None:
        return running.url
    return f"http://{settings.host}:{settings.port}"


async def _show(console: Console, line: Callable[[], str]) -> None:
    if console.is_terminal:
        with Live(Text(line()), console=console, auto_refresh=False) as live:
            try:
                while True:
                    await asyncio.sleep(REDRAW_EVERY_S)
                    live.update(Text(line()), refresh=True)
            finally:
                live.update(Text(line()), refresh=True)
    else:
        while True:
            await asyncio.sleep(PLAIN_LINE_EVERY_S)
            console.print(line(), soft_wrap=True)


def _shown(replayed: _Replayed) -> str:
    tally = replayed.tally
    if not tally.unseen:
        return f"{tally.shown:,} shown"
    # What the room left out it counted; anything else that was not seen has another reason.
    why = ", so that the room can be read" if replayed.skipped >= tally.unseen else ""
    return f"{tally.shown:,} shown, {tally.unseen:,} not{why}"


def _print_summary(console: Console, replayed: _Replayed) -> None:
    tally = replayed.tally
    console.print(
        f"{tally.posted:,} of {tally.planned:,} comments were posted in {replayed.seconds:.1f} s, {_shown(replayed)}.",
        soft_wrap=True,
    )
    if tally.others or tally.retried:
        told = "".join(f", {outcome} {count:,}" for outcome, count in tally.others.items())
        console.print(f"Said once more after a wait: {tally.retried:,}{told}.", soft_wrap=True)
    console.print(
        f"From send to reply p50 / p99: {p50_p99_text(tally.to_reply_ms)}; to seeing it in a tick: "
        f"{p50_p99_text(tally.to_seen_ms)}; left late by {p50_p99_text(tally.late_ms)}.",
        soft_wrap=True,
    )
    if replayed.holes:
        console.print(f"{replayed.holes} ticks were not the one after the last: that must not be.", style="bold red")
