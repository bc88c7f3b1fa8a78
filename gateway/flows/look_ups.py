"""Asking at the peak: what a request needs to know first is looked up beside the others, and who can await gets a
future."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from gateway.errors import Forbidden, GatewayError, Invalid, NotFound, Overloaded, Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Each waiting request holds one place.
LOOK_UPS_MAX = 10_000


class LookUps:
    """At most `LOOK_UPS_MAX` at once; a further one is refused as overloaded."""

    def __init__(self) -> None:
        self._tasks: asyncio.TaskGroup | None = None
        self._now = 0

    async def run(self) -> None:
        """Owns the look-ups; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    def begin(
        self, find: Callable[[], Awaitable[T]], then: Callable[[T], None], refuse: Callable[[Exception], None]
    ) -> None:
        """Finds, then goes on with what was found; an error of either is what the request is refused with."""
        if self._tasks is None or self._now >= LOOK_UPS_MAX:
            raise Overloaded(retry_after_ms=random.randint(200, 1000))
        self._now += 1

        async def look_up() -> None:
            try:
                then(await find())
            except GatewayError as error:
                # Nothing was sent, so whatever went wrong with the look-up, nothing happened.
                known = error if isinstance(error, NotFound | Invalid | Overloaded | Forbidden) else Unavailable()
                refuse(known)
            except Exception as error:
                log.exception("look_up_broke")
                refuse(error)
            finally:
                self._now -= 1

        self._tasks.create_task(look_up())


async def answer_of(submit: Callable[[Callable[[T | Exception], None]], None]) -> T:
    """What `submit` answers through the callback it is given; raises the error instead of passing it."""
    waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def answer(given: T | Exception) -> None:
        if waiting.done():
            return  # the caller left; the effect stands and is told by its key
        if isinstance(given, Exception):
            waiting.set_exception(given)
        else:
            waiting.set_result(given)

    submit(answer)
    return await waiting
