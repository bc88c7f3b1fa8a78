"""`python -m loadtests.conformance`: RFC 6455 as the Autobahn suite reads it, in a table.

Ends with 0 when no case failed, with 1 when any did or some were not run. Without a CPython 2.7 it says so and ends
with 0: nothing was proved.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from .echo import SERVERS
from .suite import CASE_COUNT, NoPython27, Verdicts, prepared, run

# The suite's words, in the order of how good they are.
COLUMNS = {
    "OK": "ok",
    "NON-STRICT": "non-strict",
    "INFORMATIONAL": "informational",
    "UNIMPLEMENTED": "unimplemented",
    "FAILED": "failed",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.conformance", description=__doc__)
    parser.add_argument("--beside", action="store_true", help="the other servers too; only ours has to pass")
    parser.add_argument("--reports", type=Path, help="keep the suite's own pages in this folder")
    return parser.parse_args(arguments)


async def judge(python: Path, name: str, folder: Path) -> Verdicts:
    async with SERVERS[name]() as port:
        return await run(python, name=name, port=port, folder=folder)


def show(verdicts: dict[str, Verdicts]) -> None:
    table = Table("server", "cases", *COLUMNS.values(), title="RFC 6455, Autobahn suite")
    for name, of in verdicts.items():
        count = of.count()
        table.add_row(name, str(len(of.behaviour)), *(str(count[word]) for word in COLUMNS))
    console = Console()
    console.print(table)
    for name, of in verdicts.items():
        for word in ("NON-STRICT", "UNIMPLEMENTED"):
            if of.named(word):
                console.print(f"{name}, {COLUMNS[word]}: {', '.join(of.named(word))}")
        for case in of.failed():
            console.print(f"{name}, failed: {case} ({of.behaviour[case]}, close {of.close[case]})")


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        python = prepared()
    except NoPython27:
        print("SKIPPED: conformance was not looked at. The suite needs a CPython 2.7; PYTHON27 may name one.")
        return 0
    verdicts: dict[str, Verdicts] = {}
    with tempfile.TemporaryDirectory(prefix="peakgate-conformance-") as scratch:
        folder = options.reports or Path(scratch)
        for name in SERVERS if options.beside else ("peakgate",):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                (folder / name).mkdir(parents=True, exist_ok=True)
                verdicts[name] = runner.run(judge(python, name, (folder / name).absolute()))
    show(verdicts)
    ours = verdicts["peakgate"]
    return 1 if ours.failed() or len(ours.behaviour) != CASE_COUNT else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
