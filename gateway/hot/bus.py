"""Pub/sub between the processes, on the rooms Valkey: at most once. Whoever hears nothing asks the truth instead."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from gateway.errors import HotUnavailable
from gateway.hot.connect import Client, connect, hot_errors
from gateway.hot.keys import BUS_CHANNEL

log = structlog.get_logger(__name__)


class Bus:
    """Publishes and hears opaque messages. `on_gap` is called after each time the subscription was away."""

    def __init__(self, *, url: str, client: Client) -> None:
        self._url = url
        self._client = client

    async def publish(self, message: bytes) -> None:
        """Best effort: a message that cannot be sent is dropped, since nobody may rely on it."""
        try:
            with hot_errors():
                await self._client.publish(BUS_CHANNEL, message)
        except HotUnavailable as error:
            log.warning("bus_publish_failed", error=str(error))

    async def listen(self, on_message: Callable[[bytes], None], on_gap: Callable[[], Awaitable[None]]) -> None:
        """Hears messages until cancelled, over reconnects."""
        pause_s = 0.05
        while True:
            client = connect(self._url, max_connections=1, reply_timeout_s=None)
            try:
                with hot_errors():
                    subscription = client.pubsub(ignore_subscribe_messages=True)
                    await subscription.subscribe(BUS_CHANNEL)
                    pause_s = 0.05
                    await on_gap()
                    async for message in subscription.listen():
                        on_message(message["data"])
            except HotUnavailable as error:
                log.warning("bus_away", error=str(error))
            finally:
                await client.aclose()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, 1.0)
