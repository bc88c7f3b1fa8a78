"""The Autobahn suite: found or made, run once against a server, and its verdicts counted.

It is written for CPython 2.7, which it gets in a folder of its own, made by the last virtualenv that can.
"""

import asyncio
import json
import os
import shutil
import subprocess
import venv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".venv-conformance"
VIRTUALENV, SUITE = "virtualenv==20.15.1", "autobahntestsuite==25.10.1"
# Chapter 9 measures how fast megabytes are echoed and 12 and 13 are about compression: a room knows neither.
CASES, EXCLUDED = ["*"], ["9.*", "12.*", "13.*"]
# What the chapters that are left hold; a suite that runs fewer has proved less.
CASE_COUNT = 247
AT_MOST_S = 300.0


class NoPython27(Exception):
    """There is no CPython 2.7 here; PYTHON27 may name one."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """By case: what the suite says of the messages, and of how the connection was closed."""

    behaviour: dict[str, str]
    close: dict[str, str]

    def count(self) -> Counter[str]:
        return Counter(self.behaviour.values())

    def failed(self) -> list[str]:
        """Of either kind. The suite's own words for a pass are three."""
        passes = {"OK", "NON-STRICT", "INFORMATIONAL"}
        return sorted(
            (case for case in self.behaviour if not {self.behaviour[case], self.close[case]} <= passes), key=_chapter
        )

    def named(self, verdict: str) -> list[str]:
        return sorted((case for case, is_verdict in self.behaviour.items() if is_verdict == verdict), key=_chapter)


def prepared() -> Path:
    """The suite's `python`; made at first. Raises NoPython27."""
    python = FOLDER / "suite" / "bin" / "python"
    done = FOLDER / SUITE
    if done.exists() and python.exists():
        return python
    old = _python27()
    maker = FOLDER / "maker"
    venv.create(maker, with_pip=True, clear=True)
    _run(maker / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", VIRTUALENV)
    _run(maker / "bin" / "virtualenv", "--quiet", "--clear", "-p", old, FOLDER / "suite")
    _run(python, "-m", "pip", "install", "--quiet", SUITE)
    done.touch()
    return python


def _python27() -> str:
    candidates = [
        os.environ.get("PYTHON27"),
        shutil.which("python2.7"),
        shutil.which("python2"),
        *map(str, Path.home().glob(".pyenv/versions/2.7.*/bin/python2.7")),
    ]
    for candidate in filter(None, candidates):
        # A name on the path may be a stand-in for a version that is not there.
        said = subprocess.run(
            [candidate, "-c", "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.stdout == "2.7":
            return candidate
    raise NoPython27


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


async def run(python: Path, *, name: str, port: int, folder: Path) -> Verdicts:
    """All cases against the echo server on `port`; the reports stay in `folder`."""
    spec = folder / "spec.json"
    outcome = folder / "reports"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(outcome),
                "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"}],
                "cases": CASES,
                "exclude-cases": EXCLUDED,
                "exclude-agent-cases": {},
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        str(python),
        "-c",
        "from autobahntestsuite.wstest import run; run()",
        "-m",
        "fuzzingclient",
        "-s",
        str(spec),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    try:
        async with asyncio.timeout(AT_MOST_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    index = outcome / "index.json"
    if process.returncode != 0 or not index.exists():
        raise RuntimeError(f"the suite did not run: {said.decode(errors='replace')[-2000:]}")
    cases = json.loads(index.read_text())[name]
    return Verdicts(
        behaviour={case: found["behavior"] for case, found in cases.items()},
        close={case: found["behaviorClose"] for case, found in cases.items()},
    )


def _chapter(case: str) -> tuple[int, ...]:
    return tuple(map(int, case.split(".")))
