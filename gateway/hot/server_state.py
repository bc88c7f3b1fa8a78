"""What the keeper reads of the orders Valkey as a server, not as a store of sales: its clock, its file."""

from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from gateway.hot.connect import Client, hot_errors


class FileState(NamedTuple):
    """The append-only file: its size, what it was after the last rewrite, and whether one runs."""

    size: int
    base: int
    rewriting: bool
    last_failed: bool


class ServerState:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def time_s(self) -> float:
        """By its own clock, in seconds."""
        with hot_errors():
            seconds, micros = await self._client.time()
        return int(seconds) + int(micros) / 1_000_000

    async def file(self) -> FileState | None:
        """None when the server keeps no append-only file."""
        with hot_errors():
            facts: dict[str, Any] = await self._client.info("persistence")
        if not facts.get("aof_enabled"):
            return None
        return FileState(
            size=int(facts["aof_current_size"]),
            base=int(facts["aof_base_size"]),
            rewriting=bool(facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"]),
            last_failed=facts["aof_last_bgrewrite_status"] != "ok",
        )

    async def rewrites_by_itself(self) -> bool:
        """Whether the server decides about rewrites. One that does not tell is taken to look after itself."""
        with hot_errors():
            try:
                found: dict[Any, Any] = await self._client.config_get("auto-aof-rewrite-percentage")
            except ResponseError:
                return True  # a managed server may not let its clients ask
        values = [int(value) for value in found.values()]
        return not values or values[0] != 0

    async def rewrite(self) -> None:
        """Asks for a rewrite in the background; harmless when one runs."""
        with hot_errors():
            try:
                await self._client.bgrewriteaof()
            except ResponseError as error:
                # One is running, or a snapshot is: the next look finds it done or asks again.
                if "in progress" not in str(error):
                    raise
