"""Whoever is woken by an alarm finds it in the runbook: every event logged as an error, every metric it names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from gateway import metrics
from gateway.settings import Settings, name_of

ROOT = Path(__file__).resolve().parent.parent.parent
RUNBOOK = (ROOT / "deploy" / "RUNBOOK.md").read_text(encoding="utf-8")
ALARMS = {"critical", "error", "exception"}
# Where the event is not written in the call: the module, and what it logs there.
ELSEWHERE = {
    "gateway/keeper/rebuild.py": {"shard_lost"},
    "gateway/writer/steps.py": {"entry_parked", "order_parked", "claim_parked"},
}


def alarm_calls() -> Iterator[tuple[str, str | None]]:
    """(module, event) of every use of `log.critical` and the like; None where the event is not a plain string."""
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        events = {
            id(node.func): node.args[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
        }
        for node in ast.walk(tree):
            is_alarm = isinstance(node, ast.Attribute) and node.attr in ALARMS
            if is_alarm and isinstance(node.value, ast.Name) and node.value.id == "log":
                yield str(path.relative_to(ROOT)), events.get(id(node))


def test_every_alarm_in_the_log_stands_in_the_runbook() -> None:
    calls = list(alarm_calls())
    assert len(calls) > 20
    named = {event for _, event in calls if event is not None}.union(*ELSEWHERE.values())
    assert {event for event in named if f"`{event}`" not in RUNBOOK} == set()
    unnamed = {module for module, event in calls if event is None}
    assert unnamed == ELSEWHERE.keys(), "an event that a test cannot read is to be listed here"


def test_the_runbook_names_only_metrics_there_are() -> None:
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    there = set(re.findall(r'"(peakgate_\w+)"', source))
    told = set(re.findall(r"peakgate_\w+", RUNBOOK))
    assert {name for name in told if name.removesuffix("_total") not in there} == set()


def test_the_runbook_names_only_settings_there_are() -> None:
    there = {name_of(field) for field in Settings.model_fields}
    assert set(re.findall(r"PEAKGATE_[A-Z_]+", RUNBOOK)) - there == set()


def test_every_section_that_is_pointed_to_is_there() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.removeprefix("## ").lower()).replace(" ", "-")
        for line in RUNBOOK.splitlines()
        if line.startswith("## ")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) - headings == set()
