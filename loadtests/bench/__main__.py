"""`python -m loadtests.bench`: run the parts on one set of servers, print the tables, write the JSON.

Ends with 0 when everything that was promised in a run is in its ledger, with 1 when anything is not.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from rich.console import Console

from .bench import Bench, NotAvailable
from .drive import DriveError
from .expiry_storm import expiry_storm
from .fanout import fanout
from .figures import Report, cell
from .grabs import grabs
from .idle_rooms import idle_rooms
from .machine import commit_cost, conditions
from .outage import forced_checkpoint, outage
from .peak_second import peak_second
from .rebuild import rebuild
from .retirement import retirement
from .room_capacity import room_capacity
from .room_faults import room_faults
from .room_replay import room
from .script_alone import script_alone
from .servers import shared_servers
from .sizes import sizes
from .socket_servers import socket_servers
from .throughput import open_loop, throughput
from .ways import WAYS
from .writer_alone import writer_alone

Part = Callable[[Bench], Awaitable[None]]
PARTS: dict[str, Part] = {
    "throughput": throughput,
    "open_loop": open_loop,
    "outage": outage,
    "checkpoint": forced_checkpoint,
    "script_alone": script_alone,
    "writer_alone": writer_alone,
    "grabs": grabs,
    "peak_second": peak_second,
    "sizes": sizes,
    "expiry_storm": expiry_storm,
    "retirement": retirement,
    "rebuild": rebuild,
    "fanout": fanout,
    "room": room,
    "room_capacity": room_capacity,
    "room_faults": room_faults,
    "idle_rooms": idle_rooms,
    "socket_servers": socket_servers,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="Peakgate beside the other ways to take an order, on the same servers.",
        epilog=f"parts: {', '.join(PARTS)}. ways: {', '.join(way.name for way in WAYS)}.",
    )
    names = [*PARTS, *(way.name for way in WAYS)]
    parser.add_argument(
        "--only", nargs="+", action="extend", metavar="NAME", choices=names, help="only these parts, only these ways"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures with their conditions")
    parser.add_argument("--quick", action="store_true", help="one short round of each: to see that it runs")
    parser.add_argument("--rounds", type=int, help="rounds a figure (default 3, quick 1)")
    parser.add_argument("--sockets", type=int, default=500, help="sockets of the generator (default 500)")
    parser.add_argument("--seconds", type=float, help="measured span of a run (default 5, quick 2)")
    chat = os.environ.get("CHAT")
    parser.add_argument(
        "--chat",
        type=Path,
        metavar="FILE",
        default=Path(chat) if chat else None,
        help="CSV with offset_s, viewer, text that `room` replays (default: $CHAT, else the shipped sample)",
    )
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace, console: Console) -> int:
    only = set(options.only or [])
    ways = tuple(way for way in WAYS if way.name in only) or WAYS
    parts = [name for name in PARTS if name in only] or list(PARTS)
    report = Report(console)
    scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="peakgate-bench-runs-"))
    try:
        async with shared_servers() as servers:
            report.conditions = await conditions(servers)
            report.conditions["commit_cost_before"] = await commit_cost(servers)
            show_conditions(report)
            bench = Bench(
                servers=servers,
                report=report,
                scratch=scratch,
                ways=ways,
                rounds=options.rounds or (1 if options.quick else 3),
                warm_up_s=1.0 if options.quick else 1.5,
                measure_s=options.seconds or (2.0 if options.quick else 5.0),
                sockets=options.sockets,
                quick=options.quick,
                chat=options.chat,
            )
            for name in parts:
                try:
                    await PARTS[name](bench)
                except (NotAvailable, DriveError) as error:
                    report.skip(name, str(error))
                if options.json:
                    await asyncio.to_thread(report.write, options.json)
            report.conditions["commit_cost_after"] = await commit_cost(servers)
            report.conditions["load_after"] = os.getloadavg()[0]
        report.show_ratios()
        if options.json:
            await asyncio.to_thread(report.write, options.json)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    return 1 if report.mismatches else 0


def show_conditions(report: Report) -> None:
    for name, value in report.conditions.items():
        report.console.print(f"[bold]{name.replace('_', ' ')}[/]: {cell(value)}", highlight=False)


def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 200)
    options = parse(sys.argv[1:])
    # As with SIGINT: the servers are stopped and their files removed, whoever ends us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(options, console))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
