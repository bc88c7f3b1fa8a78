"""What `peakgate demo` shows people: figures and talk while it sells, and the verdict."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.demo_chat import DemoChat
from gateway.cli.demo_crowd import Progress
from gateway.cli.figures import p50_p99_text

REDRAW_EVERY_S: Final = 0.1
PLAIN_LINE_EVERY_S: Final = 1.0

AskLeft = Callable[[], Awaitable[int]]


async def show(console: Console, ask_left: AskLeft, progress: Progress, talk: DemoChat) -> None:
    """Draws until it is cancelled, and then once more: the last figures are known to whoever ends it."""

    def screen() -> Group:
        return Group(_table(progress), *(Text(f"  {line}", no_wrap=True) for line in talk.last_lines()))

    if console.record:
        # A recording keeps every frame of a live display; a picture has one.
        try:
            while True:
                progress.left = await ask_left()
                await asyncio.sleep(REDRAW_EVERY_S)
        finally:
            console.print(screen())
    elif console.is_terminal:
        with Live(screen(), console=console, auto_refresh=False) as live:
            try:
                while True:
                    progress.left = await ask_left()
                    live.update(screen(), refresh=True)
                    await asyncio.sleep(REDRAW_EVERY_S)
            finally:
                live.update(screen(), refresh=True)
    else:
        try:
            while True:
                progress.left = await ask_left()
                console.print(_line(progress, talk))
                await asyncio.sleep(PLAIN_LINE_EVERY_S)
        finally:
            console.print(_line(progress, talk))


def _line(progress: Progress, talk: DemoChat) -> str:
    return (
        f"comments {talk.tally.shown:,}  reserved {progress.reserved:,}  confirmed {progress.confirmed:,}  "
        f"left {progress.left:,}  {progress.orders_per_s:,.0f} orders/s"
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
        p50_p99_text(progress.to_reserved_ms),
        p50_p99_text(progress.to_confirmed_ms),
    )
    return table


def print_verdict(
    console: Console, progress: Progress, talk: DemoChat, report: dict[str, Any], *, holds: bool, sold_out: bool
) -> None:
    if not console.is_terminal:
        console.print(
            f"to reserved p50 / p99: {p50_p99_text(progress.to_reserved_ms)}, "
            f"to confirmed p50 / p99: {p50_p99_text(progress.to_confirmed_ms)}",
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
    console.print(talk.summary(), soft_wrap=True)
    if progress.refused or progress.gave_up:
        console.print(f"{progress.refused} orders were refused later, {progress.gave_up} viewers had no answer.")


def save_picture(console: Console, file: Path, *, title: str) -> None:
    """What a recording console printed, as SVG with the reader's own fonts: a picture fetches nothing."""
    drawn = re.sub(r"<!--.*?-->\s*|@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)
    file.write_text(drawn.replace("Fira Code, monospace", "monospace"), encoding="utf-8")
