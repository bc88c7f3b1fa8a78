"""Pub/sub between the processes, on the rooms Valkey: at most once. Whoever hears nothing asks the truth instead."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog
from redis.asyncio.client import PubSub

from gateway.errors import HotUnavailable
from gateway.hot.connect import Client, connect, hot_errors
from gateway.hot.keys import BUS_CHANNEL, RoomKeys

log = structlog.get_logger(__name__)
_CHANNEL = BUS_CHANNEL.encode()
# A server or a way to it that went without a word: asked after this silence, given up after as much again.
_SILENT_S = 2.0


class Bus:
    """Publishes and hears opaque messages, and the ticks of the rooms that are followed. `on_gap` is called after each
    time the subscription was away."""

    def __init__(self, *, url: str, client: Client) -> None:
        self._url = url
        self._client = client
        self.on_tick: Callable[[int, bytes], None] = lambda room_no, payload: None
        self._rooms: dict[bytes, int] = {}
        self._subscription: PubSub | None = None

    async def follow(self, room_no: int) -> None:
        """From here on the room's ticks are heard, also over reconnects."""
        channel = RoomKeys(room_no).channel
        self._rooms[channel.encode()] = room_no
        if self._subscription is not None:
            with hot_errors():
                await self._subscription.subscribe(channel)

    async def unfollow(self, room_no: int) -> None:
        channel = RoomKeys(room_no).channel
        self._rooms.pop(channel.encode(), None)
        if self._subscription is not None:
            with hot_errors():
                await self._subscription.unsubscribe(channel)

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
            client = connect(self._url, max_connections=1)
            try:
                with hot_errors():
                    subscription = client.pubsub()
                    asked = set(self._rooms)
                    await subscription.subscribe(BUS_CHANNEL, *asked)
                    pause_s = 0.05
                    self._subscription = subscription
                    meanwhile = self._rooms.keys() - asked
                    if meanwhile:
                        await subscription.subscribe(*meanwhile)
                    await on_gap()
                    await self._hear(subscription, on_message)
            except HotUnavailable as error:
                log.warning("bus_away", error=str(error))
            finally:
                self._subscription = None
                await client.aclose()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, 1.0)

    async def _hear(self, subscription: PubSub, on_message: Callable[[bytes], None]) -> None:
        """Raises HotUnavailable when nothing comes, not even an answer."""
        asked = False
        while True:
            message = await subscription.get_message(timeout=_SILENT_S)
            if message is None:
                if asked:
                    raise HotUnavailable("the subscription does not answer")
                await subscription.ping()
                asked = True
                continue
            asked = False
            if message["type"] != "message":
                continue
            room_no = self._rooms.get(message["channel"])
            if room_no is not None:
                self.on_tick(room_no, message["data"])
            elif message["channel"] == _CHANNEL:
                on_message(message["data"])
