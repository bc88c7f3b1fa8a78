"""A whole show in small: what people, till and clerk did is what the ledger, the counters and the report say."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_whole_show_is_reported_as_it_was_played() -> None:
    played = subprocess.run(
        [sys.executable, "-m", "loadtests.show", "--scale", "0.02", "--speed", "360", "--seed", "7", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert played.stdout, played.stderr[-3000:]
    told = json.loads(played.stdout)
    broken = [check for check in told["checks"] if not check["holds"]]
    assert (played.returncode, broken) == (0, []), played.stderr[-2000:]
    assert len(told["checks"]) == 10
    # It was a show: what was reserved was mostly paid for, and there was less than was wanted.
    figures, conditions = told["figures"], told["conditions"]
    assert told["answers"]["reserved"] == figures["orders_placed"] >= figures["orders_paid"] > 20
    assert 0.6 < figures["payment_rate"] <= 1 and 0.5 < figures["pickup_share"] <= 1
    assert told["claims"]["claimed"] == conditions["copies"] == 8 and told["claims"]["gone"] > 0
