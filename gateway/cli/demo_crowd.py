"""The crowd of `peakgate demo`: viewers on real sockets who buy one unit after the other, and what they were told."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar

from gateway.cli.figures import p50_p99
from gateway.client import NoAnswer, Viewer, ViewerAway
from gateway.client.codec import codec_named
from gateway.client.orders import KnownOrder
from gateway.domain.order import OrderStatus

CONNECT_AT_ONCE: Final = 64

T = TypeVar("T")


class Progress:
    """What the simulated viewers were told so far, and how long they waited for it."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.left = units
        self.reserved = 0
        self.confirmed = 0
        self.refused = 0
        self.refusals: dict[str, int] = {}
        self.gave_up = 0
        self.started_s = time.perf_counter()
        self.latest_s = self.started_s
        self.to_reserved_ms: list[float] = []
        self.to_confirmed_ms: list[float] = []
        self._asked_s: dict[str, float] = {}
        self._reserved_s: dict[str, float] = {}
        """When each key that is only reserved was asked."""
        self._settled = asyncio.Event()

    def asked(self, key: str) -> None:
        self._asked_s[key] = time.perf_counter()

    def refused_at_once(self, outcome: str) -> None:
        self.refusals[outcome] = self.refusals.get(outcome, 0) + 1

    def changed(self, known: KnownOrder) -> None:
        """An order was first told of, or its status changed."""
        key, now_s = known.key or "", time.perf_counter()
        asked_s = self._asked_s.pop(key, None)
        if asked_s is not None:
            self.reserved += 1
            self.to_reserved_ms.append((now_s - asked_s) * 1000)
            self._reserved_s[key] = asked_s
        if known.status == OrderStatus.REFUSED:
            self.refused += 1
        elif known.status == OrderStatus.CONFIRMED:
            self.confirmed += 1
            self.latest_s = now_s
            self.to_confirmed_ms.append((now_s - self._reserved_s.pop(key, now_s)) * 1000)
        if self.confirmed + self.refused >= self.reserved:
            self._settled.set()

    async def settled(self, *, within_s: float) -> None:
        """Until every order reserved so far has a later state, or the time is over."""
        self._settled.clear()
        if self.confirmed + self.refused < self.reserved:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._settled.wait()

    @property
    def orders_per_s(self) -> float:
        """Confirmed orders a second, from the first tap to the latest confirmation."""
        seconds = self.latest_s - self.started_s
        return self.confirmed / seconds if seconds > 0 else 0.0

    def figures(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "reserved": self.reserved,
            "confirmed": self.confirmed,
            "refused_later": self.refused,
            "left": self.left,
            "other_outcomes": self.refusals,
            "gave_up": self.gave_up,
            "seconds": round(self.latest_s - self.started_s, 3),
            "orders_per_s": round(self.orders_per_s),
            "reserved_ms": p50_p99(self.to_reserved_ms),
            "confirmed_ms": p50_p99(self.to_confirmed_ms),
        }


@contextlib.asynccontextmanager
async def crowd(live_url: str, tokens: Sequence[str], progress: Progress) -> AsyncIterator[list[Viewer]]:
    """A connected viewer a token."""
    codec = codec_named("json")
    connecting = asyncio.Semaphore(CONNECT_AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:

        async def enter(token: str) -> Viewer:
            async with connecting:
                return await stack.enter_async_context(
                    Viewer(live_url, token, codec=codec, on_order=progress.changed, follow=False)
                )

        yield await all_of(enter(token) for token in tokens)


async def all_of(works: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """All results; the first failure ends the others and is raised as itself, so that its message reaches people."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def buy(viewer: Viewer, sale: str, sku: str, number: int, progress: Progress, *, within_s: float) -> None:
    """One order after the other, each with a key of its own, until the gateway says no."""
    viewer.enter(sale)
    bought = 0
    while True:
        key = f"v{number}-{bought}"
        progress.asked(key)
        try:
            answer = await viewer.order(sale=sale, sku=sku, key=key, insist=True, within_s=within_s)
        except (NoAnswer, ViewerAway):
            progress.gave_up += 1
            return
        if not answer.is_reserved:
            progress.refused_at_once(answer.outcome)
            return
        bought += 1
