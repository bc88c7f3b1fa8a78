"""The binding of `lua/pause_opening.lua`: while clocks are not trusted no further sale opens."""

from gateway.hot.keys import ShardKeys
from gateway.hot.scripts import Scripts


class HotOpening:
    """Says nothing about what is open: those sales go on. Repeating a call is harmless."""

    def __init__(self, scripts: Scripts) -> None:
        self._pause = scripts.named("pause_opening")

    async def pause(self, shard: int, *, up_to_ms: int) -> bool:
        """No sale of the shard that opens later than `up_to_ms` opens; an earlier pause stands. False: Valkey does not
        have the shard, so nothing sells there."""
        return bool(await self._pause([ShardKeys(shard).shard], [up_to_ms]) == b"paused")

    async def resume(self, shard: int) -> None:
        await self._pause([ShardKeys(shard).shard], [""])
