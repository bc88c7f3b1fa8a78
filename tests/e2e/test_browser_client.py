"""The client that pages use, in Node: its rules against a scripted network, and itself against a real gateway."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import Show
from tests.support.gateway import Gateway

HERE: Final = Path(__file__).resolve().parent.parent / "js"
NODE: Final = shutil.which("node")
FIRST_WITH_SOCKETS: Final = (20, 10)


def _version() -> tuple[int, ...]:
    if NODE is None:
        return (0,)
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", told)[:2])


pytestmark = pytest.mark.skipif(
    _version() < FIRST_WITH_SOCKETS, reason="NO NODE 20.10 OR NEWER: the browser's client is not tested"
)


def _node(*files: Path, **environment: str) -> None:
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--experimental-websocket", "--test", *map(str, files)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    ran = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert ran is not None and int(ran[1]) > 0


def test_its_rules_hold_on_a_scripted_network() -> None:
    _node(*sorted(HERE.glob("*.test.mjs")))


def test_it_holds_them_against_a_real_gateway(gateway: Gateway, show: Show) -> None:
    _node(
        *sorted((HERE / "real").glob("*.test.mjs")),
        PEAKGATE_LIVE_URL=show.live_url,
        PEAKGATE_SALE=show.sale,
        PEAKGATE_TOKENS=",".join(gateway.tokens("page", 6)),
    )
