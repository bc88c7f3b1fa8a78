"""A process seen from inside: when it is to stop, its memory, its loop's stalls."""

import asyncio
import gc
import signal

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


async def measure_stalls(clock: Clock) -> None:
    """How late the loop runs a due timer: the longest of the last second."""
    step_s, worst_s, shown_at_s = 0.1, 0.0, clock.monotonic()
    while True:
        due_s = clock.monotonic() + step_s
        await asyncio.sleep(step_s)
        now_s = clock.monotonic()
        worst_s = max(worst_s, now_s - due_s)
        if now_s - shown_at_s >= 1:
            LOOP_STALL_SECONDS.set(worst_s)
            worst_s, shown_at_s = 0.0, now_s
