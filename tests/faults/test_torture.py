"""A short run of the fault harness: every kind of fault once, on real processes under load."""

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

SEED = 2_718_281
ROUNDS = 25


@pytest.mark.filterwarnings("always:NOT INJECTED")
def test_every_kind_of_fault_leaves_every_promise_kept(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "tests.faults.torture",
        "--rounds",
        str(ROUNDS),
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
    kinds = {each["kind"] for each in told["rounds"] if each["injected"]}
    assert kinds == {kind.name for kind in all_kinds()} - set(told["left_out"])
    if told["left_out"]:
        warnings.warn(f"{NO_COMPILER}: {', '.join(told['left_out'])}", stacklevel=1)
    assert set(told["zeros"].values()) == {0}
    assert told["promises"].keys() >= kinds - {"two at once"}
    assert len(told["rounds"]) >= ROUNDS


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
