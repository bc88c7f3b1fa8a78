"""Ticks of rooms on the rooms Valkey: numbered there, so that every process shows the same number for the same tick."""

from gateway.hot import keys
from gateway.hot.connect import Client, hot_errors


class RoomTicks:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def next(self, room: str) -> int:
        """The number of a tick to be."""
        with hot_errors():
            return int(await self._client.incr(keys.room_seq(room)))

    async def last(self, room: str) -> int:
        """The number of the last tick; 0 before the first."""
        with hot_errors():
            return int(await self._client.get(keys.room_seq(room)) or 0)
