"""The peak second: every viewer taps within one second, on bad networks, and insists until the answer is true.

Compared with nothing: it is `loadtests/surge.py` on a gateway of its own (embedded servers, default settings), run as
a user runs it. Latencies count from the intended tap and include the injected delays, 30 to 300 ms each way.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from .bench import Bench
from .drive import DriveError

PART = "peak_second"
VIEWERS, QUICK_VIEWERS, SHARE_SOLD = 10_000, 1_000, 0.1
SURGE = Path(__file__).resolve().parent.parent / "surge.py"


async def peak_second(bench: Bench) -> None:
    viewers = QUICK_VIEWERS if bench.quick else VIEWERS
    units = int(viewers * SHARE_SOLD)
    for _ in range(bench.rounds):
        result = await _surge("--viewers", str(viewers), "--units", str(units))
        answered = result["to_answer_ms"]
        broken = [check["check"] for check in result["checks"] if not check["holds"]]
        if broken:
            bench.report.mismatch(f"{PART}: {', '.join(broken)}")
        bench.report.add(
            part=PART,
            way="peakgate",
            name="true_answer_p99",
            unit="ms",
            value=answered["p99"],
            conditions={"viewers": viewers, "units": units},
            detail={
                "p50_ms": answered["p50"],
                "p999_ms": answered["p99.9"],
                "max_ms": answered["max"],
                "pause_ms": result["pause_ms"],
                "cuts": result["cuts"],
                "answers": result["answers"],
            },
        )
    bench.report.show(
        PART,
        "the peak second, delays of the network included",
        detail_columns=["p50_ms", "p999_ms", "max_ms", "pause_ms", "cuts"],
    )


async def _surge(*arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SURGE), "--up", "--json", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    try:
        result: dict[str, Any] = msgspec.json.decode(output)
    except msgspec.DecodeError as error:
        raise DriveError(f"the surge ended with {process.returncode} and no result") from error
    return result
