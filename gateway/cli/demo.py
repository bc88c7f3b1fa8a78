"""`peakgate demo`: the whole gateway on this machine sells out in front of your eyes, and is audited."""

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from rich.console import Console

from gateway.cli.demo_chat import DemoChat
from gateway.cli.demo_crowd import Progress, all_of, buy, crowd
from gateway.cli.demo_goods import ROOM_NOTICE, ROOM_TITLE, picture_url
from gateway.cli.demo_screen import print_verdict, save_picture, show
from gateway.cli.demo_show import DemoShow
from gateway.cli.output import ExitCode, print_json
from gateway.client import Host, Viewer
from gateway.client.calls import Calls
from gateway.client.local import LocalGateway, LocalGatewayError, free_port

DEFAULT_PORT: Final = 8080
PICTURE_WIDTH: Final = 110
SHOP: Final = "demo"
SKU: Final = "tin"
PRICE_MINOR: Final = 16_800
# Twice an even share, so that no viewer's limit ends the sale before the stock does.
LIMIT_OVER_SHARE: Final = 2
SELL_OUT_WITHIN_S: Final = 120.0
# After the last reservation; confirmations are a matter of milliseconds, or something is wrong.
CONFIRM_WITHIN_S: Final = 20.0
# When it goes on: the orders of the sell-out are paid at a pace that leaves the machine to those who look on.
PAID_PER_S: Final = 12.0
PAY_WITHIN_S: Final = 300
PAY_WITHIN_KEPT_S: Final = 1800


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Go on with a show to look at, until Ctrl-C.")] = False,
    units: Annotated[int, typer.Option(min=1, max=1_000_000, help="Units to sell.")] = 10_000,
    viewers: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated viewers, one socket each.")] = 500,
    chat: Annotated[
        Path | None,
        typer.Option(help="A chat they say meanwhile: CSV with offset_s, viewer, text (default: a small made-up one)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data folder (default: a temporary one, removed afterwards).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_533, help="Port of the HTTP api (default: 8080, or any free one).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, and no progress.")] = False,
    svg: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw what it printed into this file, as in the README.")
    ] = None,
) -> None:
    """Start the whole gateway, sell out a sale to simulated viewers on real sockets while they talk, and audit it.

    Ends with 0 only if every invariant holds, every unit is a confirmed order, nothing is left, and no tick of the room
    was missing.
    """
    # Progress and prose are for people; with --json stdout carries the figures alone.
    console = (
        Console(stderr=as_json, quiet=as_json, highlight=False)
        if svg is None
        else Console(stderr=as_json, highlight=False, record=True, force_terminal=True, width=PICTURE_WIDTH)
    )
    talk = DemoChat(chat)
    folder = data or Path(tempfile.mkdtemp(prefix="peakgate-demo-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            gateway = LocalGateway(
                data=folder,
                port=port or free_port(DEFAULT_PORT),
                settings={
                    # A viewer of the demo stands for many people and may try as often as its share needs.
                    "PEAKGATE_ORDER_BURST": str(min(10_000, _limit(units, viewers) + 20)),
                    "PEAKGATE_COMMENT_RATE": str(talk.comment_rate),
                    "PEAKGATE_DEV": "true",
                    "PEAKGATE_SANDBOX": "page",
                },
            )
            holds = runner.run(_demo(gateway, talk, console, keep=keep, units=units, viewers=viewers, as_json=as_json))
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)
    if svg is not None:
        save_picture(console, svg, title="make demo")
    raise SystemExit(int(ExitCode.OK if holds else ExitCode.CHECK_FAILED))


async def _demo(
    gateway: LocalGateway, talk: DemoChat, console: Console, *, keep: bool, units: int, viewers: int, as_json: bool
) -> bool:
    main = asyncio.current_task()
    assert main is not None
    # Whoever ends the demo also ends its gateway: the block below is left in order.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    console.print("Starting Valkey, PostgreSQL and the gateway ...")
    started_s = time.perf_counter()
    await gateway.start()
    try:
        console.print(f"Ready after {time.perf_counter() - started_s:.1f} s on {gateway.url}")
        host_token = (await gateway.tokens(shop=SHOP, sub="host", role="host"))[0]
        # One more than there are buyers: who only looks on, for the people in front of the screen.
        *viewer_tokens, screen_token = await gateway.tokens(shop=SHOP, sub="viewer", role="viewer", count=viewers + 1)
        async with Host(gateway.url, host_token, insist_s=10.0) as host:
            room = await host.create_room(ROOM_TITLE["en"], notice=ROOM_NOTICE["en"])
            await host.start_room(room.room)
            pay_within_s = PAY_WITHIN_KEPT_S if keep else PAY_WITHIN_S
            sale = await _create_sale(
                host, room.room, url=gateway.url, units=units, viewers=viewers, pay_within_s=pay_within_s
            )
            progress = Progress(units)
            async with (
                crowd(room.live_url, viewer_tokens, progress) as people,
                Viewer(room.live_url, screen_token, on_event=talk.tally.saw) as screen,
            ):
                await _sell_out(host, sale, people, talk, screen, progress, console)
        console.print("Auditing Valkey and PostgreSQL ...")
        holds, report = await gateway.audit()
        sold_out = progress.confirmed == units and progress.left == 0
        no_tick_is_missing = screen.holes == 0
        if as_json:
            told = {
                "holds": holds and sold_out and no_tick_is_missing,
                "viewers": viewers,
                "sale": sale,
                **progress.figures(),
            }
            print_json({**told, "chat": talk.figures(), "audit": report})
        else:
            print_verdict(console, progress, talk, report, holds=holds, sold_out=sold_out)
            _print_next(console, gateway, room.room, sale, host_token, viewer_tokens[0], keep=keep)
        if keep:
            await _go_on(gateway, room.room, room.live_url, sale, talk, console)
    finally:
        console.print("Stopping the gateway ...")
        await gateway.stop()
    return holds and sold_out and no_tick_is_missing


def _limit(units: int, viewers: int) -> int:
    return -(-units // viewers) * LIMIT_OVER_SHARE


async def _create_sale(host: Host, room: str, *, url: str, units: int, viewers: int, pay_within_s: int) -> str:
    now = datetime.now(UTC)
    sale = await host.create_sale(
        title=f"{units:,} tins",
        room=room,
        currency="CNY",
        opens_at=(now + timedelta(days=1)).isoformat(),
        closes_at=(now + timedelta(days=2)).isoformat(),
        pay_within_s=pay_within_s,
        items=[
            {
                "sku": SKU,
                "title": "Milk powder, 800 g",
                "price_minor": PRICE_MINOR,
                "stock": units,
                "limit_per_viewer": _limit(units, viewers),
                "image_url": picture_url(url, SKU),
            }
        ],
    )
    return sale.sale


async def _sell_out(
    host: Host,
    sale: str,
    viewers: Sequence[Viewer],
    talk: DemoChat,
    screen: Viewer,
    progress: Progress,
    console: Console,
) -> None:
    console.print(f"{len(viewers):,} viewers are connected and talk; the sale opens in {talk.opens_after_s:.0f} s.")
    if talk.left_out:
        console.print(
            f"The chat plays at {talk.speed:g} times its speed; its last {talk.left_out:,} lines stay unsaid."
        )
    showing = asyncio.create_task(show(console, lambda: _left(host, sale), progress, talk))
    talking = asyncio.create_task(talk.play(viewers, screen))
    try:
        await asyncio.sleep(talk.opens_after_s)
        await host.open_sale(sale)
        progress.started_s = progress.latest_s = time.perf_counter()
        await all_of(
            buy(viewer, sale, SKU, number, progress, within_s=SELL_OUT_WITHIN_S)
            for number, viewer in enumerate(viewers)
        )
        await progress.settled(within_s=CONFIRM_WITHIN_S)
        await talking
        progress.left = await _left(host, sale)
    finally:
        for task in (showing, talking):
            task.cancel()
        await asyncio.gather(showing, talking, return_exceptions=True)


async def _left(host: Host, sale: str) -> int:
    left = (await host.sale(sale)).items[0].left
    assert left is not None, "a host sees what is left"
    return left


def _print_next(
    console: Console, gateway: LocalGateway, room: str, sale: str, host_token: str, viewer_token: str, *, keep: bool
) -> None:
    if not keep:
        console.print(
            "\nWhat to try next:\n"
            "  make demo KEEP=1   the same, and leaves the gateway running for you\n"
            "  make demo CHAT=F   the same with a chat of your own (CSV: offset_s, viewer, text)\n"
            "  make bench         ours beside the other ways, on this machine\n"
            "  make surge         10,000 viewers tap within one second for 1,000 units\n"
            "  peakgate up        a gateway of your own"
        )
        return
    console.print("\nThe show goes on. Open in a browser, and sign in by any name:", style="bold")
    console.print(f"  watch and buy     {gateway.url}/r/{room}", style="bold green", soft_wrap=True)
    console.print(f"  host the show     {gateway.url}/host?room={room}", style="bold green", soft_wrap=True)
    lines = (
        f"\nThe gateway stays at {gateway.url} (data in {gateway.data}); Ctrl-C stops it. Try also:",
        f"export HOST={host_token}",
        f"export VIEWER={viewer_token}",
        f'curl -s -H "Authorization: Bearer $HOST" {gateway.url}/v1/sales/{sale}',
        f'curl -s -H "Authorization: Bearer $HOST" {gateway.url}/v1/sales/{sale}/orders.csv | head',
        'curl -s -H "Authorization: Bearer $HOST" -H "Idempotency-Key: more-1" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"add": 10, "reason": "found a box"}}\' {gateway.url}/v1/sales/{sale}/items/{SKU}/stock',
        'curl -s -H "Authorization: Bearer $VIEWER" -H "Idempotency-Key: tap-1" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"sale": "{sale}", "sku": "{SKU}", "quantity": 1}}\' {gateway.url}/v1/orders',
        f"peakgate audit --data {gateway.data}",
    )
    for line in lines:
        # Not wrapped: these are to be copied.
        console.print(line, soft_wrap=True, markup=False)


async def _go_on(
    gateway: LocalGateway, room: str, live_url: str, sold_out: str, talk: DemoChat, console: Console
) -> None:
    """People to look at, until Ctrl-C; what becomes of the show leaves the gateway running."""
    async with Calls(gateway.url, "", insist_s=5.0) as calls:

        async def sign_in(name: str) -> str:
            signed = await calls.call("POST", "/dev/tokens", {"role": "viewer", "name": name, "room": room})
            token: str = signed.json()["token"]
            return token

        async def staff_token(role: str) -> str:
            return (await gateway.tokens(shop=SHOP, sub=role, role=role))[0]

        goes_on = DemoShow(
            url=gateway.url,
            live_url=live_url,
            room=room,
            lines=talk.lines,
            sign_in=sign_in,
            staff_token=staff_token,
        )
        playing = asyncio.create_task(goes_on.run())
        paying = asyncio.create_task(goes_on.pay_for(sold_out, orders_per_s=PAID_PER_S))
        playing.add_done_callback(lambda ended: _say_how_it_ended(ended, console))
        try:
            await _until_interrupted(gateway)
        finally:
            for task in (playing, paying):
                task.cancel()
            await asyncio.gather(playing, paying, return_exceptions=True)


def _say_how_it_ended(show: asyncio.Task[None], console: Console) -> None:
    if show.cancelled():
        return
    error = show.exception()
    why = "somebody ended its room" if error is None else f"it failed: {error!r}"
    console.print(f"The show is over: {why}. The gateway stays until Ctrl-C.", soft_wrap=True, markup=False)


async def _until_interrupted(gateway: LocalGateway) -> None:
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    ended = asyncio.create_task(gateway.wait())
    waiting = asyncio.create_task(interrupted.wait())
    await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        raise LocalGatewayError(f"The gateway ended by itself with {ended.result()}; its log is {gateway.log}.")
    for task in (ended, waiting):
        task.cancel()
