"""What the machine and its disk give: without it no figure of this bench can be compared with another machine's."""

import os
import time

import asyncpg
import psutil
import redis.asyncio

from .servers import Servers, require_durable, versions

SAMPLES = 400
WARM_UP = 30


async def conditions(servers: Servers) -> dict[str, object]:
    """Everything that holds for the whole run."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "processor": _processor(),
        "servers": servers.started_by,
        "settings": await require_durable(servers),
        "versions": await versions(servers),
        "load_before": os.getloadavg()[0],
        "generator": "on the same machine",
    }


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"


async def commit_cost(servers: Servers) -> dict[str, float]:
    """Milliseconds of one single-row commit in PostgreSQL and of one one-command write in Valkey, one after another."""
    return {**await _postgres_cost(servers.rivals_url), **await _valkey_cost(servers.valkey_url)}


async def _postgres_cost(url: str) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS commit_cost (n int NOT NULL)")
        insert = await connection.prepare("INSERT INTO commit_cost VALUES ($1)")
        took: list[float] = []
        for number in range(WARM_UP + SAMPLES):
            started = time.perf_counter()
            await insert.fetch(number)
            took.append(time.perf_counter() - started)
        await connection.execute("DROP TABLE commit_cost")
    finally:
        await connection.close()
    return _cost("postgresql_commit", took)


async def _valkey_cost(url: str) -> dict[str, float]:
    client = redis.asyncio.Redis.from_url(url)
    try:
        took: list[float] = []
        for number in range(WARM_UP + SAMPLES):
            started = time.perf_counter()
            await client.set("bench:commit_cost", number)
            took.append(time.perf_counter() - started)
        await client.unlink("bench:commit_cost")
    finally:
        await client.aclose()
    return _cost("valkey_write", took)


def _cost(name: str, took: list[float]) -> dict[str, float]:
    samples = sorted(took[WARM_UP:])
    return {
        f"{name}_median_ms": round(samples[len(samples) // 2] * 1000, 3),
        f"{name}_p99_ms": round(samples[len(samples) * 99 // 100] * 1000, 3),
    }
