"""What a pre-flight reads of the two Valkeys. Nothing is written but scripts, which every caller may bring."""

import os
from pathlib import Path
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.domain.preflight_servers import ShardFacts, ValkeyFacts
from gateway.hot.connect import Client, hot_errors
from gateway.hot.keys import PROCESSES, ShardKeys
from gateway.hot.scripts import find_lua_folder

# What decides and frees units in a peak; the first call of a script that the server lacks takes a second one.
SCRIPTS: Final = ("place_orders", "claim_coupons", "control_sale", "release_orders", "mark_applied")


class HotPreflight:
    def __init__(self, *, orders: Client, rooms: Client) -> None:
        self._orders = orders
        self._rooms = rooms

    async def time_s(self) -> float:
        with hot_errors():
            seconds, micros = await self._orders.time()
        return int(seconds) + int(micros) / 1_000_000

    async def shard(self, shard: int) -> ShardFacts | None:
        """None when Valkey does not have it."""
        with hot_errors():
            epoch, seq, applied, opens_up_to = await self._orders.hmget(
                ShardKeys(shard).shard, ["epoch", "seq", "applied", "opens_up_to"]
            )
        if epoch is None:
            return None
        return ShardFacts(int(epoch), int(seq or 0), int(applied or 0), opens_up_to is not None)

    async def live_processes(self) -> int:
        """Processes that hold sockets and said so a moment ago."""
        with hot_errors():
            seconds, micros = await self._rooms.time()
            return int(await self._rooms.zcount(PROCESSES, int(seconds) * 1000 + int(micros) // 1000, "+inf"))

    async def server(self) -> ValkeyFacts:
        with hot_errors():
            memory: dict[str, Any] = await self._orders.info("memory")
            file: dict[str, Any] = await self._orders.info("persistence")
        most = int(memory.get("maxmemory") or 0)
        keeps_file = bool(file.get("aof_enabled"))
        return ValkeyFacts(
            used_bytes=int(memory["used_memory"]),
            most_bytes=most or int(memory.get("total_system_memory") or 0),
            is_bounded=most > 0,
            file_bytes=int(file["aof_current_size"]) if keeps_file else None,
            file_base_bytes=int(file["aof_base_size"]) if keeps_file else 0,
            rewriting=bool(file.get("aof_rewrite_in_progress") or file.get("aof_rewrite_scheduled")),
            last_failed=any(
                file.get(name, "ok") != "ok" for name in ("aof_last_bgrewrite_status", "aof_last_write_status")
            ),
            disk_free_bytes=await self._disk_free() if keeps_file else None,
            loaded=await self._load_missing(),
        )

    async def _disk_free(self) -> int | None:
        """Of the folder of its file, where that lies on this machine."""
        with hot_errors():
            try:
                told: dict[Any, Any] = await self._orders.config_get("dir", "appenddirname")
            except ResponseError:
                return None  # a managed server may not let its clients ask
        places = {_text(name): _text(value) for name, value in told.items()}
        folder = Path(places.get("dir") or ".") / (places.get("appenddirname") or "appendonlydir")
        if not folder.is_absolute() or not folder.is_dir():
            return None
        free = os.statvfs(folder)
        return free.f_bavail * free.f_frsize

    async def _load_missing(self) -> list[str]:
        texts = {name: (find_lua_folder() / f"{name}.lua").read_text(encoding="utf-8") for name in SCRIPTS}
        with hot_errors():
            scripts = {name: self._orders.register_script(text) for name, text in texts.items()}
            known = await self._orders.script_exists(*(script.sha for script in scripts.values()))
            missing = [name for name, there in zip(scripts, known, strict=True) if not there]
            for name in missing:
                await self._orders.script_load(texts[name])
        return missing


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
