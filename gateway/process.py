"""A process seen from inside: when it is to stop, its memory, its loop's stalls."""

import asyncio
import gc
import signal
from pathlib import Path

from gateway.clock import Clock
from gateway.metrics import LOOP_STALL_SECONDS


def stop_signal() -> asyncio.Event:
    """Set at SIGTERM or SIGINT from here on, instead of ending the process."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    return stopping


def settle_memory() -> None:
    """What start made stays for good: taken out of the collector, whose passes then only see what is new."""
    gc.collect()
    gc.freeze()
    # A collection looks at everything that lives; with 50,000 sockets the defaults would do that many times a second.
    gc.set_threshold(50_000, 20, 100)


def memory_available_bytes() -> int | None:
    """What this machine could give to who asks; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024


async def measure_stalls(clock: Clock) -> None:
    """How late the loop runs a due timer: the longest of the last second."""
    loop, step_s, worst_s, steps = asyncio.get_running_loop(), 0.1, 0.0, 0
    timer: asyncio.TimerHandle

    def look(due_s: float) -> None:
        nonlocal worst_s, steps, timer
        now_s = clock.monotonic()
        worst_s, steps = max(worst_s, now_s - due_s), steps + 1
        if steps == 10:
            LOOP_STALL_SECONDS.set(worst_s)
            worst_s, steps = 0.0, 0
        timer = loop.call_later(step_s, look, now_s + step_s)

    # A timer and no task: it comes ten times a second in every process, also in one that has nothing to do.
    timer = loop.call_later(step_s, look, clock.monotonic() + step_s)
    try:
        await asyncio.Event().wait()
    finally:
        timer.cancel()
