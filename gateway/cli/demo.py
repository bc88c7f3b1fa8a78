"""`peakgate demo`: the whole gateway on this machine sells out in front of your eyes, and is audited."""

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.cli.demo_crowd import Progress, all_of, buy, crowd, quantile
from gateway.cli.output import ExitCode, print_json
from gateway.client import Host
from gateway.client.local import LocalGateway, LocalGatewayError, free_port

DEFAULT_PORT: Final = 8080
SHOP: Final = "demo"
SKU: Final = "tin"
PRICE_MINOR: Final = 16_800
# Twice an even share, so that no viewer's limit ends the sale before the stock does.
LIMIT_OVER_SHARE: Final = 2
SELL_OUT_WITHIN_S: Final = 120.0
# After the last reservation; confirmations are a matter of milliseconds, or something is wrong.
CONFIRM_WITHIN_S: Final = 20.0
REDRAW_EVERY_S: Final = 0.1
PLAIN_LINE_EVERY_S: Final = 1.0


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the gateway running afterwards, until Ctrl-C.")] = False,
    units: Annotated[int, typer.Option(min=1, max=1_000_000, help="Units to sell.")] = 10_000,
    viewers: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated viewers, one socket each.")] = 500,
    data: Annotated[
        Path | None, typer.Option(help="Data folder (default: a temporary one, removed afterwards).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_533, help="Port of the HTTP api (default: 8080, or any free one).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, and no progress.")] = False,
) -> None:
    """Start the whole gateway, sell out a sale to simulated viewers on real sockets, and audit it.

    Ends with 0 only if every invariant holds, every unit is a confirmed order, and nothing is left.
    """
    # Progress and prose are for people; with --json stdout carries the figures alone.
    console = Console(stderr=as_json, quiet=as_json, highlight=False)
    folder = data or Path(tempfile.mkdtemp(prefix="peakgate-demo-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            gateway = LocalGateway(
                data=folder,
                port=port or free_port(DEFAULT_PORT),
                settings={
                    # A viewer of the demo stands for many people and may try as often as its share needs.
                    "PEAKGATE_ORDER_BURST": str(min(10_000, _limit(units, viewers) + 20)),
                    "PEAKGATE_DEV": "true",
                    "PEAKGATE_SANDBOX": "page",
                },
            )
            holds = runner.run(_demo(gateway, console, keep=keep, units=units, viewers=viewers, as_json=as_json))
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(int(ExitCode.OK if holds else ExitCode.CHECK_FAILED))


async def _demo(
    gateway: LocalGateway, console: Console, *, keep: bool, units: int, viewers: int, as_json: bool
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
        viewer_tokens = await gateway.tokens(shop=SHOP, sub="viewer", role="viewer", count=viewers)
        async with Host(gateway.url, host_token, insist_s=10.0) as host:
            room = await host.create_room("Peakgate demo")
            await host.start_room(room.room)
            sale = await _create_sale(host, room.room, units=units, viewers=viewers)
            progress = await _sell_out(host, room.live_url, sale, viewer_tokens, console, units=units)
        console.print("Auditing Valkey and PostgreSQL ...")
        holds, report = await gateway.audit()
        sold_out = progress.confirmed == units and progress.left == 0
        if as_json:
            print_json(
                {"holds": holds and sold_out, "viewers": viewers, "sale": sale, **progress.figures(), "audit": report}
            )
        else:
            _print_verdict(console, progress, report, holds=holds, sold_out=sold_out)
            _print_next(console, gateway, sale, host_token, viewer_tokens[0], keep=keep)
        if keep:
            await _until_interrupted(gateway)
    finally:
        console.print("Stopping the gateway ...")
        await gateway.stop()
    return holds and sold_out


def _limit(units: int, viewers: int) -> int:
    return -(-units // viewers) * LIMIT_OVER_SHARE


async def _create_sale(host: Host, room: str, *, units: int, viewers: int) -> str:
    now = datetime.now(UTC)
    sale = await host.create_sale(
        title=f"{units:,} tins",
        room=room,
        currency="CNY",
        opens_at=(now + timedelta(days=1)).isoformat(),
        closes_at=(now + timedelta(days=2)).isoformat(),
        items=[
            {
                "sku": SKU,
                "title": "Milk powder, 800 g",
                "price_minor": PRICE_MINOR,
                "stock": units,
                "limit_per_viewer": _limit(units, viewers),
            }
        ],
    )
    return sale.sale


async def _sell_out(
    host: Host, live_url: str, sale: str, tokens: Sequence[str], console: Console, *, units: int
) -> Progress:
    progress = Progress(units)
    async with crowd(live_url, tokens, progress) as viewers:
        console.print(f"{len(viewers):,} viewers are connected; the sale opens.")
        await host.open_sale(sale)
        progress.started_s = progress.latest_s = time.perf_counter()
        showing = asyncio.create_task(_show(console, host, sale, progress))
        try:
            await all_of(
                buy(viewer, sale, SKU, number, progress, within_s=SELL_OUT_WITHIN_S)
                for number, viewer in enumerate(viewers)
            )
            await progress.settled(within_s=CONFIRM_WITHIN_S)
            progress.left = await _left(host, sale)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
    return progress


async def _left(host: Host, sale: str) -> int:
    left = (await host.sale(sale)).items[0].left
    assert left is not None, "a host sees what is left"
    return left


async def _show(console: Console, host: Host, sale: str, progress: Progress) -> None:
    async def ask_left() -> None:
        progress.left = await _left(host, sale)

    if console.is_terminal:
        with Live(_table(progress), console=console, auto_refresh=False) as live:
            try:
                while True:
                    await ask_left()
                    live.update(_table(progress), refresh=True)
                    await asyncio.sleep(REDRAW_EVERY_S)
            finally:
                # Ended by whoever knows the last figures.
                live.update(_table(progress), refresh=True)
    else:
        try:
            while True:
                await ask_left()
                console.print(_line(progress))
                await asyncio.sleep(PLAIN_LINE_EVERY_S)
        finally:
            console.print(_line(progress))


def _line(progress: Progress) -> str:
    return (
        f"reserved {progress.reserved:,}  confirmed {progress.confirmed:,}  left {progress.left:,}  "
        f"{progress.orders_per_s:,.0f} orders/s"
    )


def _table(progress: Progress) -> Table:
    table = Table()
    for title in ("reserved", "confirmed", "left", "orders/s", "to reserved p50 / p99", "to confirmed p50 / p99"):
        table.add_column(title, justify="right")
    table.add_row(
        f"{progress.reserved:,}",
        f"{progress.confirmed:,}",
        f"{progress.left:,}",
        f"{progress.orders_per_s:,.0f}",
        _p50_p99(progress.to_reserved_ms),
        _p50_p99(progress.to_confirmed_ms),
    )
    return table


def _p50_p99(values: list[float]) -> str:
    return f"{quantile(values, 0.5)} / {quantile(values, 0.99)} ms" if values else "-"


def _print_verdict(
    console: Console, progress: Progress, report: dict[str, Any], *, holds: bool, sold_out: bool
) -> None:
    if not console.is_terminal:
        console.print(
            f"to reserved p50 / p99: {_p50_p99(progress.to_reserved_ms)}, "
            f"to confirmed p50 / p99: {_p50_p99(progress.to_confirmed_ms)}",
            soft_wrap=True,
        )
    for check in report.get("checks", ()):
        word = "holds " if check.get("holds") else "BROKEN"
        console.print(f"  {word} {check.get('name')}", style=None if check.get("holds") else "bold red")
        if not check.get("holds"):
            console.print(f"         {check.get('detail')}")
    console.print(f"The audit {'holds' if holds else 'DOES NOT HOLD'}.", style="green" if holds else "bold red")
    console.print(
        f"{progress.confirmed:,} of {progress.units:,} units are confirmed orders in PostgreSQL, {progress.left} left, "
        f"in {progress.latest_s - progress.started_s:.2f} s: {progress.orders_per_s:,.0f} orders/s.",
        style="green" if sold_out else "bold red",
        soft_wrap=True,
    )
    if progress.refused or progress.gave_up:
        console.print(f"{progress.refused} orders were refused later, {progress.gave_up} viewers had no answer.")


def _print_next(
    console: Console, gateway: LocalGateway, sale: str, host_token: str, viewer_token: str, *, keep: bool
) -> None:
    if not keep:
        console.print(
            "\nWhat to try next:\n"
            "  make demo KEEP=1   the same, and leaves the gateway running for you\n"
            "  make bench         ours beside the other ways, on this machine\n"
            "  make surge         10,000 viewers tap within one second for 1,000 units\n"
            "  peakgate up        a gateway of your own"
        )
        return
    lines = (
        f"\nThe gateway stays at {gateway.url} (data in {gateway.data}); Ctrl-C stops it. Try:",
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
