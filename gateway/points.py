"""Labelled points: places between two steps of our code where a test can kill or stop the process that gets there.

Nothing happens at a point unless the process was armed with a folder when it started. Then a file of the point's name
in that folder is an order for the next process to come by: it is claimed by renaming it, so that one process takes it,
the strike is written down, and the process acts on itself. A test can so strike at run time, at an exact boundary, in
processes that were started long before, and read what was struck. Used by the fault harness only.
"""

import os
import signal
import time
from enum import StrEnum
from pathlib import Path
from typing import Final

STRUCK: Final = "struck"
"""The file of the folder that each strike adds one line to: point, action, pid, time in ms."""

POINTS: Final = {
    "group.call.before": "a group of orders or claims is about to go to Valkey",
    "group.call.after": "Valkey has decided a group, nobody was answered",
    "control.script.before": "a host's act is about to go to Valkey",
    "control.script.after": "a host's act is in force, the host was not answered",
    "writer.commit.before": "a batch was read from the stream, the ledger has nothing of it",
    "writer.commit.after": "a batch is committed, nobody was told",
    "settle.commit.before": "a payment, cancel or refund is about to be judged by the ledger",
    "settle.commit.after": "a payment, cancel or refund is committed, nobody was told",
    "expire.commit.before": "due orders are about to be ended in the ledger",
    "expire.commit.after": "due orders are ended in the ledger, nobody was told",
    "release.script.before": "rows of the outbox were read, Valkey has nothing of them",
    "release.script.after": "Valkey has rows of the outbox that the ledger still keeps",
    "release.forget.after": "rows of the outbox are applied and deleted",
    "late.script.before": "late money was taken down, Valkey was not asked",
    "late.script.after": "Valkey has judged late money, the ledger has not heard",
    "late.settle.after": "the ledger has settled late money, revived or to be refunded, nobody was told",
    "news.commit.before": "news of orders were read, nothing of them is queued",
    "news.commit.after": "news of orders are queued and the cursor moved, nobody was woken",
    "rebuild.shut": "a lost shard was shut",
    "rebuild.drained": "the stream of a shard in rebuild is drained",
    "rebuild.moved": "the ledger is in the new epoch, Valkey is not",
    "rebuild.loading": "Valkey has a part of the recount",
    "rebuild.loaded": "Valkey has all of the recount and is shut",
    "rebuild.opened": "the shard sells again, the ledger has not heard",
    "retire.script.before": "a settled sale is about to leave Valkey",
    "retire.script.after": "a settled sale left Valkey, the ledger has not heard",
}


class Action(StrEnum):
    KILL = "kill"  # SIGKILL: nothing of the process runs on
    STOP = "stop"  # SIGSTOP: the process stands still until somebody sends SIGCONT
    EXIT = "exit"  # ends at once, with the status of a failure, and runs no clean-up


_folder: str | None = None


def arm(folder: Path | None) -> None:
    """Called once, at the start of a process; None (the default everywhere) leaves all points without effect."""
    global _folder
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"labelled points are to be armed by {folder}, which is no folder")
    _folder = None if folder is None else str(folder)


def is_armed() -> bool:
    return _folder is not None


def reach(point: str) -> None:
    """Called by the code at its labelled points; one comparison unless the process is armed."""
    if _folder is not None:
        _strike(_folder, point)


def order(folder: Path, point: str, action: Action) -> Path:
    """A test's order: the next process to reach `point` does this to itself. The file is gone once it is claimed."""
    if point not in POINTS:
        raise ValueError(f"{point!r} is no labelled point; there are {', '.join(POINTS)}")
    path = folder / point
    # Complete or not there at all: a process may come by at any time.
    written = folder / f".{point}.written"
    written.write_text(action)
    os.replace(written, path)
    return path


def _strike(folder: str, point: str) -> None:
    claimed = f"{folder}/.{point}.{os.getpid()}"
    try:
        os.rename(f"{folder}/{point}", claimed)
    except FileNotFoundError:
        return
    with open(claimed, encoding="ascii") as file:
        action = Action(file.read())
    os.unlink(claimed)
    line = f"{point} {action} {os.getpid()} {time.time_ns() // 1_000_000}\n"
    fd = os.open(f"{folder}/{STRUCK}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # One write: lines of several processes stay whole.
        os.write(fd, line.encode("ascii"))
    finally:
        os.close(fd)
    match action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.EXIT:
            os._exit(1)
