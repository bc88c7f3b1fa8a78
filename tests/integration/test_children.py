"""Children that are forked by a spawner: to their supervisor they are as those that an interpreter is started for."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from gateway.children import Child, Executed, Forked, Starts
from tests.support.servers import eventually

# A spawner of small children: each writes what it sees of itself, and does what its argv says.
SPAWNER = """
import json, os, signal, socket, sys, time
from gateway.spawner import serve
argv = serve(socket.socket(fileno=int(sys.argv[1])))
if argv[0] == "see":
    print(json.dumps({
        "argv": argv, "given": os.environ["GIVEN"], "session": os.getsid(0) == os.getpid(),
        "ignored": [each for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
                    if signal.getsignal(each) is signal.SIG_IGN],
        "stdin": os.read(0, 1).decode(), "descriptors": len(os.listdir("/proc/self/fd")),
    }), flush=True)
elif argv[0] == "wait":
    print("waits", flush=True)
    time.sleep(60)
elif argv[0] == "drain":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    print("waits", flush=True)
    time.sleep(60)
sys.exit(int(argv[1]))
"""


@pytest.fixture
async def forked() -> AsyncIterator[Forked]:
    async with Forked((sys.executable, "-c", SPAWNER)) as forked:
        yield forked


async def line_of(child: Child) -> str:
    assert child.stdout is not None
    return (await asyncio.wait_for(child.stdout.readline(), 10)).decode()


async def ended(child: Child) -> int:
    return await asyncio.wait_for(child.wait(), 10)


def gone(pid: int) -> Callable[[], Awaitable[bool]]:
    async def is_gone() -> bool:
        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    return is_gone


async def waiting(starts: Starts, argv: str = "wait") -> Child:
    child = await starts.start([argv, "0"], {})
    assert await line_of(child) == "waits\n"
    return child


async def test_a_child_has_its_own_words_settings_and_signals_and_nothing_of_the_spawners(forked: Forked) -> None:
    child = await forked.start(["see", "0"], {"GIVEN": "one"})
    seen = json.loads(await line_of(child))
    assert (seen["argv"], seen["given"], seen["session"], seen["ignored"]) == (["see", "0"], "one", True, [])
    # stdin, stdout, stderr, and the one that lists them.
    assert (seen["stdin"], seen["descriptors"]) == ("", 4)
    assert await ended(child) == 0
    assert await line_of(child) == ""


async def test_how_a_child_ended_is_told_as_of_any_process(forked: Forked) -> None:
    assert await ended(await forked.start(["end", "7"], {})) == 7
    killed, drained = await waiting(forked), await waiting(forked, "drain")
    killed.kill()
    assert await ended(killed) == -signal.SIGKILL
    drained.terminate()
    assert await ended(drained) == 3
    # Of one that has ended a signal is no error and reaches nobody.
    drained.kill()


async def test_many_at_once_are_each_told_their_own(forked: Forked) -> None:
    children = await asyncio.gather(*(forked.start(["end", str(status)], {}) for status in range(40)))
    assert [await ended(child) for child in children] == list(range(40))


async def test_a_killed_spawner_takes_its_children_along_and_the_next_start_brings_up_another(forked: Forked) -> None:
    child = await waiting(forked)
    spawner = psutil.Process(child.pid).ppid()
    assert spawner != os.getpid()
    os.kill(spawner, signal.SIGKILL)
    assert await ended(child) == -signal.SIGKILL
    await eventually(gone(child.pid))
    assert await ended(await forked.start(["end", "5"], {})) == 5


async def test_a_term_to_everybody_leaves_the_spawner_until_its_children_have_drained(forked: Forked) -> None:
    child = await waiting(forked, "drain")
    for pid in (psutil.Process(child.pid).ppid(), child.pid):
        os.kill(pid, signal.SIGTERM)
    assert await ended(child) == 3


async def test_a_spawner_that_cannot_start_is_an_ended_child_and_no_hanging() -> None:
    async with Forked((sys.executable, "-c", "raise SystemExit(1)")) as forked:
        child = await asyncio.wait_for(forked.start(["see", "0"], {}), 10)
        assert await ended(child) == -signal.SIGKILL


async def test_children_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    owner = f"""
import asyncio, sys
from gateway.children import Forked
async def main():
    async with Forked((sys.executable, "-c", {SPAWNER!r})) as forked:
        child = await forked.start(["wait", "0"], {{}})
        await child.stdout.readline()
        print(child.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    process = await Executed((sys.executable, "-c")).start([owner], {})
    pid = int(await line_of(process))
    process.kill()
    await ended(process)
    await eventually(gone(pid))
