import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Never

import psutil
import pytest

from gateway.children import Executed
from gateway.supervise import ChildSpec, Stage, StartFailed, Supervisor, drain_share_s
from tests.support.servers import eventually, eventually_now

# A child that is ready at once and, told to stop, writes its name down and goes.
GOOD = """
import os, signal, sys
name, notes = sys.argv[1:]
def note(word):
    with open(notes, "a") as file:
        file.write(f"{word} {name} {os.getpid()}\\n")
def stop(*_):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("started")
print("a word of its own", flush=True)
print('{"ready": true, "port": 1}', flush=True)
while True:
    signal.pause()
"""

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"ready": true}', flush=True)
while True:
    signal.pause()
"""


class NotedServers:
    """Stands where the embedded servers stand; notes when it is stopped."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    async def keep_running(self) -> Never:
        await asyncio.Event().wait()
        raise AssertionError

    async def stop(self, *, within_s: float) -> None:
        append(self._notes, f"stopped servers {within_s > 0}\n")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def noted(path: Path, word: str) -> list[list[str]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1:] for line in lines if line.startswith(word)]


def good(name: str, stage: Stage, notes: Path) -> ChildSpec:
    return ChildSpec(name=name, argv=["-c", GOOD, name, str(notes)], stage=stage)


def supervisor(children: list[ChildSpec], on_ready: Callable[[], None], **more: object) -> Supervisor:
    options: dict[str, object] = {"servers": None, "drain_s": 10.0, "starts": Executed((sys.executable,))}
    return Supervisor(children=children, on_ready=on_ready, **{**options, **more})  # type: ignore[arg-type]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


async def test_ready_is_said_once_when_all_are_and_other_words_go_to_stderr(
    notes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ready: list[int] = []
    children = [good("live", Stage.EDGE, notes), good("writer", Stage.WRITER, notes)]

    def on_ready() -> None:
        ready.append(len(noted(notes, "started")))
        running.request_stop()

    running = supervisor(children, on_ready)
    assert await running.run() == 0
    assert ready == [2]
    said = capfd.readouterr()
    assert said.err.count("a word of its own") == 2 and '"port"' not in said.err


async def test_a_signal_drains_the_edge_then_the_writer_then_the_keeper_then_the_servers(notes: Path) -> None:
    children = [
        good("keeper", Stage.KEEPER, notes),
        good("writer", Stage.WRITER, notes),
        good("live", Stage.EDGE, notes),
        good("api", Stage.EDGE, notes),
    ]
    running = supervisor(children, lambda: os.kill(os.getpid(), signal.SIGTERM), servers=NotedServers(notes))
    assert await running.run() == 0
    order = [name for name, *_ in noted(notes, "stopped")]
    assert sorted(order[:2]) == ["api", "live"]
    assert order[2:] == ["writer", "keeper", "servers"]


async def test_a_child_that_dies_is_started_again(notes: Path) -> None:
    ready = asyncio.Event()
    running = supervisor([good("live", Stage.EDGE, notes)], ready.set)
    work = asyncio.create_task(running.run())
    await ready.wait()
    [[_, first]] = noted(notes, "started")
    os.kill(int(first), signal.SIGKILL)

    async def again() -> bool:
        return len(noted(notes, "started")) == 2

    await eventually(again)
    running.request_stop()
    assert await work == 0
    assert len({pid for _, pid in noted(notes, "started")}) == 2


async def test_a_child_that_does_not_listen_is_killed_when_its_time_is_up(notes: Path) -> None:
    stubborn = ChildSpec(name="live", argv=["-c", STUBBORN], stage=Stage.EDGE)
    running = supervisor(
        [stubborn, good("writer", Stage.WRITER, notes)],
        lambda: running.request_stop(),
        drain_s=0.5,
        servers=NotedServers(notes),
    )
    assert await running.run() == 1
    assert [name for name, *_ in noted(notes, "stopped")] == ["writer", "servers"]


async def test_a_second_signal_ends_at_once(notes: Path) -> None:
    stubborn = ChildSpec(name="live", argv=["-c", STUBBORN], stage=Stage.EDGE)

    def twice() -> None:
        running.request_stop()
        running.request_stop()

    running = supervisor([stubborn], twice, drain_s=600.0)
    async with asyncio.timeout(10):
        assert await running.run() == 1


async def test_a_child_with_wrong_settings_ends_the_start_with_its_status(notes: Path) -> None:
    broken = ChildSpec(name="api", argv=["-c", "raise SystemExit(2)"], stage=Stage.EDGE)
    running = supervisor([broken, good("live", Stage.EDGE, notes)], lambda: None, servers=NotedServers(notes))
    with pytest.raises(StartFailed, match="api does not start") as caught:
        await running.run()
    assert caught.value.status == 2
    assert [name for name, *_ in noted(notes, "stopped")] == ["servers"]
    assert not any(psutil.pid_exists(int(pid)) for _, pid in noted(notes, "started"))


async def test_a_child_that_never_starts_is_given_up_after_a_few_attempts(notes: Path) -> None:
    count = f"open({str(notes)!r}, 'a').write('started x 1\\n'); raise SystemExit(7)"
    running = supervisor([ChildSpec(name="api", argv=["-c", count], stage=Stage.EDGE)], lambda: None)
    with pytest.raises(StartFailed):
        await running.run()
    assert len(noted(notes, "started")) == 3


def test_children_die_with_a_supervisor_that_is_killed(notes: Path) -> None:
    owner = f"""
import asyncio, sys
from gateway.supervise import ChildSpec, Stage, Supervisor
spec = ChildSpec(name="live", argv=["-c", {GOOD!r}, "live", {str(notes)!r}], stage=Stage.EDGE)
def ready(): print("all ready", flush=True)
asyncio.run(Supervisor(children=[spec], servers=None, drain_s=5, on_ready=ready).run())
"""
    with subprocess.Popen(
        [sys.executable, "-c", owner], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        # Log lines go to stdout here, as nothing set them up.
        assert any(line == "all ready\n" for line in process.stdout)
        process.kill()
    [[_, pid]] = noted(notes, "started")

    def gone() -> bool:
        return not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE

    eventually_now(gone)


def test_the_shares_of_a_drain_fit_into_the_whole() -> None:
    assert sum(drain_share_s(stage, 10.0) for stage in Stage) < 10.0
    assert all(drain_share_s(stage, 10.0) > 0 for stage in Stage)
