"""The crowd of `peakgate demo`: viewers on real sockets who buy one unit after the other, and what they were told."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from gateway.client import NoAnswer, Viewer, ViewerAway
from gateway.client.codec import codec_named
from gateway.client.orders import KnownOrder
from gateway.domain.order import OrderOutcome, OrderStatus

CONNECT_AT_ONCE: Final = 64


class Progress:
    """What the simulated viewers were told so far, and how long they waited for it."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.left: int | None = units
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
        self._settled = asyncio.Event()

    def asked(self, key: str) -> None:
        self._asked_s[key] = time.perf_counter()

    def answered(self, key: str, outcome: str) -> None:
        if outcome == OrderOutcome.RESERVED:
            self.reserved += 1
            self.to_reserved_ms.append((time.perf_counter() - self._asked_s[key]) * 1000)
        else:
            self.refusals[outcome] = self.refusals.get(outcome, 0) + 1

    def changed(self, known: KnownOrder) -> None:
        if known.status == OrderStatus.REFUSED:
            self.refused += 1
        elif known.status == OrderStatus.CONFIRMED:
            self.confirmed += 1
            self.latest_s = time.perf_counter()
            asked_s = self._asked_s.pop(known.key or "", None)
            if asked_s is not None:
                self.to_confirmed_ms.append((self.latest_s - asked_s) * 1000)
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
            "reserved_ms": {"p50": quantile(self.to_reserved_ms, 0.5), "p99": quantile(self.to_reserved_ms, 0.99)},
            "confirmed_ms": {"p50": quantile(self.to_confirmed_ms, 0.5), "p99": quantile(self.to_confirmed_ms, 0.99)},
        }


@contextlib.asynccontextmanager
async def crowd(live_url: str, tokens: Sequence[str], progress: Progress) -> AsyncIterator[list[Viewer]]:
    """A connected viewer a token."""
    codec = codec_named("json")
    connecting = asyncio.Semaphore(CONNECT_AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:

        async def enter(token: str) -> Viewer:
            async with connecting:
                return await stack.enter_async_context(Viewer(live_url, token, codec=codec, on_order=progress.changed))

        async with asyncio.TaskGroup() as group:
            entering = [group.create_task(enter(token)) for token in tokens]
        yield [task.result() for task in entering]


async def buy(viewer: Viewer, sale: str, sku: str, number: int, progress: Progress, *, within_s: float) -> None:
    """One order after the other, each with a key of its own, until the gateway says no."""
    bought = 0
    while True:
        key = f"v{number}-{bought}"
        progress.asked(key)
        try:
            answer = await viewer.order(sale=sale, sku=sku, key=key, insist=True, within_s=within_s)
        except (NoAnswer, ViewerAway):
            progress.gave_up += 1
            return
        progress.answered(key, answer.outcome)
        if not answer.is_reserved:
            return
        bought += 1


def quantile(values: list[float], share: float) -> float | None:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 1) if values else None
