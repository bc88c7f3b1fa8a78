"""What all sockets of a process share: one clock, one timer, and one write a moment."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from gateway.live.wheel import Wheel

if TYPE_CHECKING:
    from gateway.live.socket import Socket

log = structlog.get_logger(__name__)


class Switchboard:
    __slots__ = ("_unflushed", "now_s", "wheel")

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        """Monotonic."""
        self.wheel = Wheel(now_s)
        self._unflushed: list[Socket] = []

    def flush_soon(self, socket: "Socket") -> None:
        """Once all that is ready now has run, so that answers and confirmations of one moment share a write."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(socket)

    def _flush(self) -> None:
        sockets, self._unflushed = self._unflushed, []
        for socket in sockets:
            try:
                socket.flush()
            except Exception:
                log.exception("flush_broke")
