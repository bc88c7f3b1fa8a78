"""Several callers that wait for one answer, each with its own patience."""

import asyncio
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def wait_as_one_of(waiters: list[asyncio.Future[T]], within_s: float, too_late: Exception) -> T:
    """Wait as one of several for what `tell` or `fail` brings to all of them.

    A future a caller and a bare timer: half the cost of `asyncio.timeout` around a shared, shielded one.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[T] = loop.create_future()
    timer = loop.call_later(within_s, fail, (waiter,), too_late)
    waiters.append(waiter)
    try:
        return await waiter
    finally:
        timer.cancel()
        waiters.remove(waiter)


def tell(waiters: Iterable[asyncio.Future[T]], result: T) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(result)


def fail(waiters: Iterable[asyncio.Future[Any]], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)
            waiter.exception()  # seen: a waiter whose caller is gone is not reported as forgotten
