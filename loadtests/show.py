"""A whole show, played: bookings, the room, a coupon, a sale of 10,000 units, paying, collecting, the report.

    python loadtests/show.py                            a gateway of its own, everybody, an hour in a minute and a half
    python loadtests/show.py --scale 0.02 --speed 360   84 people, 200 units, ten seconds
    python loadtests/show.py --url URL --data DIR       a gateway in development that runs on DIR

Ends with 1 unless every invariant holds and the report tells the shares that were played.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from gateway.client.local import free_port, local_gateway
from loadtests.show_check import judge
from loadtests.show_plan import Show
from loadtests.show_stage import Stage, say
from loadtests.surge import peakgate_on, raise_file_limit

OPEN_FILES = 10_000


def main() -> None:
    arguments = _parser().parse_args()
    raise_file_limit(OPEN_FILES)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_play(arguments))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    sys.exit(0 if result["holds"] else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="times the people and the units (default %(default)s)")
    parser.add_argument("--speed", type=float, default=40.0, help="times as fast as it was (default %(default)s)")
    parser.add_argument("--seed", type=int, help="of all dice (default: another each time, which is printed)")
    parser.add_argument("--codec", choices=("json", "msgpack"), default="json", help="default %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="live processes of its gateway (default %(default)s)")
    parser.add_argument("--url", help="instead: a gateway in development that runs")
    parser.add_argument("--data", type=Path, help="its data folder, for tokens and the audit (default .peakgate)")
    parser.add_argument("--shop", default="show", help="the shop that sells (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


async def _play(arguments: argparse.Namespace) -> dict[str, Any]:
    seed = random.SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    dice = random.Random(seed)
    show, began_s = Show.of(scale=arguments.scale, speed=arguments.speed, dice=dice), time.monotonic()
    async with AsyncExitStack() as stack:
        url, peakgate = arguments.url, peakgate_on(arguments.data)
        if url is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peakgate-show-")))
            say("starting a gateway")
            options = ["--dev", "--workers", str(arguments.workers)]
            gateway = await stack.enter_async_context(local_gateway(data, port=free_port(), options=options))
            url, peakgate = gateway.url, gateway.run
        stage = await Stage.set_up(stack, show, url, peakgate, shop=arguments.shop, codec=arguments.codec, dice=dice)
        found = await stage.play()
        verdict = judge(show, stage.journal, found)
        audit = await peakgate("audit", "--json", expect=None)
        verdict.check("the audit holds", [] if audit.status == 0 else [audit.out[-2000:] or audit.last_words])
        return {
            "holds": verdict.holds,
            "conditions": {
                "people": len(show.people),
                "units": show.units,
                "copies": show.copies,
                "scale": arguments.scale,
                "speed": arguments.speed,
                "pay_within_s": show.pay_within_s,
                "seed": seed,
                "took_s": round(time.monotonic() - began_s, 1),
            },
            "answers": dict(stage.journal.answers),
            "claims": dict(stage.journal.claim_answers),
            "reconnects": stage.journal.reconnects,
            "figures": found.report["figures"],
            "error": found.report["error"],
            "checks": verdict.checks,
        }


def _print(result: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in result["conditions"].items()), soft_wrap=True)
    console.print(f"orders {result['answers']}, claims {result['claims']}, {result['reconnects']} reconnects")
    for name, value in result["figures"].items():
        console.print(f"  {name:<34} {value:,}" if isinstance(value, int) else f"  {name:<34} {value}")
    for check in result["checks"]:
        console.print(f"  {'holds ' if check['holds'] else 'BROKEN'} {check['check']}", soft_wrap=True)
        for example in check["examples"]:
            console.print(f"         {example}", soft_wrap=True, markup=False)
    console.print("The show is as it was played." if result["holds"] else "The show is NOT as it was played.")


if __name__ == "__main__":
    main()
