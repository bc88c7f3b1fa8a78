"""The load test of the grab, run small: what it checks holds, on two live processes."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.gateway import Gateway

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_small_grab_gives_each_copy_once_and_the_ledger_agrees(gateway: Gateway) -> None:
    argv = ["--url", gateway.url, "--data", str(gateway.data), "--viewers", "90", "--wave", "45", "--copies", "30"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.grab", *argv, "--cut-share", "0.2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["outcomes"] == {"claimed": 30, "gone": 60}
    assert all(check["holds"] for check in result["checks"])
