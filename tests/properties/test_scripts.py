"""Every script in any order, on each server there is, against the rules in plain words."""

import itertools
from typing import Any

import msgpack
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.profiles import OPERATIONS, OPERATIONS_ELSEWHERE, REPORT, SEED, Count
from tests.properties.script_machine import Scripts
from tests.support.lua_shard import LuaShard
from tests.support.servers import flush

STEPS = 40
EXAMPLES_A_ROUND = 30


def _words(name: str, reply: Any) -> list[str]:
    if name in ("place_orders", "claim_coupons"):
        state, *_, answers = msgpack.unpackb(reply)
        return [state, *(answer[0] for answer in answers)]
    word: bytes = reply[0] if isinstance(reply, list) else reply
    return [word.decode()]


class CountingShard(LuaShard):
    def __init__(self, url: str, count: Count) -> None:
        super().__init__(url)
        self._count = count

    def call(self, name: str, keys: list[str], args: list[Any]) -> Any:
        reply = super().call(name, keys, args)
        self._count.calls += 1
        self._count.words.update(f"{name} {word}" for word in _words(name, reply))
        return reply


def play(url: str, *, operations: int, server: str) -> None:
    flush(url)
    count, rounds, numbers = Count(), 0, itertools.count()
    shard = CountingShard(url, count)
    try:
        while count.operations < operations:
            machine = seed(SEED + rounds)(lambda: Scripts(shard, next(numbers), count))
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES_A_ROUND,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            rounds += 1
    finally:
        REPORT.append(
            f"every script in any order on {server}: {count.operations:,} operations, {count.calls:,} calls,"
            f" {len(count.words)} different answers, PEAKGATE_SEED={SEED}"
        )
        shard.close()


def test_every_script_in_any_order_keeps_the_rules(lua_server: tuple[str, str]) -> None:
    server, url = lua_server
    play(url, operations=OPERATIONS if server.startswith("valkey") else OPERATIONS_ELSEWHERE, server=server)
