"""A short run of the fault harness on real processes under load: of each sort of fault one, and by night every kind."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.faults.kinds import all_kinds, points_in_code
from tests.faults.plan import make_plan
from tests.faults.report import NO_COMPILER
from tests.properties.profiles import NIGHTLY

SEED = 2_718_281
# Each has its own way of hurting: a process of ours or a server gone, one that stands still, a bent network, a death
# between two steps or in the middle of a rebuild, a bad disk, a file of the past, and two at once.
SHORT = {
    "kill live",
    "kill writer",
    "kill orders",
    "stop writer",
    "restart ledger",
    "link lose reply",
    "link half open",
    "kill at point",
    "stop in a rebuild",
    "failing sync",
    "older file",
    "two at once",
}


@pytest.mark.filterwarnings("always:NOT INJECTED")
def test_no_fault_breaks_a_promise(tmp_path: Path) -> None:
    kinds = {kind.name for kind in all_kinds()} if NIGHTLY else SHORT
    argv = [
        sys.executable,
        "-m",
        "tests.faults.torture",
        "--kinds",
        ",".join(kinds),
        "--rounds",
        str(len(kinds)),
        "--seed",
        str(SEED),
        "--without-compiler",
    ]
    report = tmp_path / "report.json"
    ended = subprocess.run(
        [*argv, "--json", str(report), "--journal", str(tmp_path)], capture_output=True, text=True, timeout=900
    )
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    told = json.loads(report.read_text())
    injected = {each["kind"] for each in told["rounds"] if each["injected"]}
    assert injected == kinds - set(told["left_out"])
    if told["left_out"]:
        warnings.warn(f"{NO_COMPILER}: {', '.join(told['left_out'])}", stacklevel=1)
    assert set(told["zeros"].values()) == {0}
    assert told["promises"].keys() >= injected - {"two at once"}


def test_without_a_compiler_a_run_says_so_at_the_start_and_runs_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.faults.torture", "--only", "slow sync", "--rounds", "1"]
    ended = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": str(tmp_path)}, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout.startswith(f"{NO_COMPILER} (cc or gcc) on this machine")
    assert "slow sync, slow sync ledger" in ended.stdout and "Nothing was run." in ended.stdout


def test_the_same_seed_plans_the_same_rounds() -> None:
    kinds = all_kinds()
    names = [[(kind.name, target) for kind, target in make_plan(kinds, seed=7, rounds=300)] for _ in range(2)]
    assert names[0] == names[1]


def test_a_long_run_strikes_at_every_point_and_link_in_every_way() -> None:
    kinds = all_kinds()
    planned = {(kind.name, target) for kind, target in make_plan(kinds, seed=7, rounds=300)}
    assert planned >= {(kind.name, target) for kind in kinds if not kind.many for target in kind.targets}


def test_every_listed_point_is_in_the_code() -> None:
    from gateway.points import POINTS

    assert points_in_code() == sorted(POINTS)
