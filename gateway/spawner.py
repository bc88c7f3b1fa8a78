"""The spawner's side of starting processes: it has read the code, and forks a child for each order.

Orders come by a socket that keeps messages apart, with the descriptor of the child's stdout; by the same socket it says
which process an order became and how that one ended.
"""

import gc
import os
import select
import signal
import socket
from contextlib import suppress
from typing import Final

import msgspec

from gateway.embedded.process import die_with_parent

MAX_ORDER_BYTES: Final = 131_072


class Order(msgspec.Struct):
    """To the spawner, with the descriptor that becomes the child's stdout."""

    number: int
    argv: list[str]
    environment: dict[str, str]


class Word(msgspec.Struct):
    """Of the spawner: the child of that order runs under `pid`, or has ended with `status` as `Popen` gives it."""

    number: int
    pid: int = 0
    status: int | None = None


def serve(orders: socket.socket) -> list[str]:
    """The spawner: forks a child for each order until nobody is there to give any, and ends then.

    It returns in each child alone, with its argv; stdout, environment and signals are the child's own by then.
    """
    # Who stops everything at once means our children, which drain; we go when their supervisor has gone.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    woken, waking = os.pipe()
    for end in (woken, waking):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    numbers: dict[int, int] = {}
    prepare = die_with_parent(signal.SIGKILL)
    # What all children share is not looked at by any of their collections, which would copy it for each.
    gc.collect()
    gc.freeze()
    while True:
        ready, _, _ = select.select([orders.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(orders, numbers)
        if orders.fileno() not in ready:
            continue
        said, descriptors, _, _ = socket.recv_fds(orders, MAX_ORDER_BYTES, 1)
        if not said:
            os._exit(0)
        [stdout] = descriptors
        order = msgspec.json.decode(said, type=Order)
        pid = os.fork()
        if pid == 0:
            for end in (woken, waking):
                os.close(end)
            orders.close()
            _become(order, stdout)
            prepare()
            return order.argv
        os.close(stdout)
        numbers[pid] = order.number
        _say(orders, Word(order.number, pid=pid))


def _become(order: Order, stdout: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.dup2(stdout, 1)
    os.close(stdout)
    os.environ.update(order.environment)


def _reap(orders: socket.socket, numbers: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _say(orders, Word(numbers.pop(pid), status=os.waitstatus_to_exitcode(status)))


def _say(orders: socket.socket, word: Word) -> None:
    # Our supervisor may be gone: the end of the socket says so next.
    with suppress(OSError):
        orders.send(msgspec.json.encode(word))
