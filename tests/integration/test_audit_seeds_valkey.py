"""Violations seeded into Valkey: each alone, in a history that holds, caught by the right rules and no other."""

from collections.abc import Awaitable, Callable

import pytest

from gateway.keeper.audit_report import Rule
from tests.support.audited import CUP, History, caught

Seed = Callable[[History], Awaitable[object]]


async def _behind(history: History) -> list[bytes]:
    """Three groups behind the cursor; their entries' ids."""
    await history.drained()
    for at in range(3):
        await history.place((f"y{at}", "k", CUP, 1), (f"z{at}", "k", CUP, 1))
    return [id for id, _ in (await history.floor.client.xrevrange(history.floor.keys.stream, count=3))][::-1]


async def _trim(history: History) -> None:
    await history.floor.client.xdel(history.floor.keys.stream, (await _behind(history))[0])


async def _cut_out(history: History) -> None:
    await history.floor.client.xdel(history.floor.keys.stream, (await _behind(history))[1])


async def _cut_off(history: History) -> None:
    await history.floor.client.xdel(history.floor.keys.stream, (await _behind(history))[2])


async def _unreadable(history: History) -> None:
    seq = await history.floor.client.hincrby(history.floor.keys.shard, "seq", 1)
    await history.floor.client.xadd(history.floor.keys.stream, {"o": b"\xc1"}, id=f"2-{seq}")


async def _answer_moved(history: History) -> None:
    answer = await history.floor.client.hget(history.answers_key, "v1|tin")
    await history.floor.client.hset(history.answers_key, "v2|tin", answer)


def _sale_field(field: str, by: int) -> Seed:
    return lambda history: history.floor.client.hincrby(history.sale_key, field, by)


def _sale_set(field: str, value: str | int) -> Seed:
    return lambda history: history.floor.client.hset(history.sale_key, field, value)


def _answer(field: str | bytes, value: str | bytes) -> Seed:
    return lambda history: history.floor.client.hset(history.answers_key, field, value)


def _shard(field: str, value: int) -> Seed:
    return lambda history: history.floor.client.hset(history.floor.keys.shard, field, value)


async def _released_and_lost(history: History) -> None:
    """Valkey says that it was told of the first rows of the outbox, and was not."""
    await history.floor.client.hincrby(history.floor.keys.shard, "released", 1)


async def _rows_applied_twice(history: History) -> None:
    released = await history.floor.client.hget(history.floor.keys.shard, "released")
    await history.released()
    await history.floor.client.hset(history.floor.keys.shard, "released", released)


VALKEY_SEEDS: dict[str, tuple[Seed, set[Rule]]] = {
    "units left from nowhere": (_sale_field("1:left", 1), {Rule.CONSERVATION}),
    "units left lost": (_sale_field("2:left", -1), {Rule.CONSERVATION}),
    "a counter under zero": (_sale_set("1:left", -1), {Rule.CONSERVATION, Rule.NEGATIVE}),
    "a counter that is no number": (_sale_set("1:left", "many"), {Rule.CONSERVATION, Rule.NEGATIVE}),
    "held units from nowhere": (_sale_field("1:held", 1), {Rule.HELD}),
    "another stock": (_sale_field("1:stock", 1), {Rule.STOCK}),
    "another price": (_sale_set("2:price", 1), {Rule.OFFER}),
    "another limit": (_sale_set("1:limit", 100), {Rule.OFFER}),
    "a sale that is closed": (_sale_set("hold", "closed"), {Rule.OFFER}),
    "a sale that opens earlier": (_sale_field("opens_at", -1), {Rule.OFFER}),
    "a sale that goes on": (_sale_field("closes_at", 1), {Rule.OFFER}),
    "a running sale gone": (lambda h: h.floor.client.delete(h.sale_key), {Rule.STOCK}),
    "an item gone": (
        lambda h: h.floor.client.hdel(h.sale_key, "1:stock", "1:left", "1:held", "1:price", "1:limit"),
        {Rule.STOCK},
    ),
    "an answer gone": (lambda h: h.floor.client.hdel(h.answers_key, "v1|tin"), {Rule.ANSWERS}),
    "the answer of an expired order gone": (lambda h: h.floor.client.hdel(h.answers_key, "e0|tin"), {Rule.ANSWERS}),
    "the answer of an order that waits gone": (lambda h: h.floor.client.hdel(h.answers_key, "x0|cup"), {Rule.ANSWERS}),
    "all answers gone": (lambda h: h.floor.client.delete(h.answers_key), {Rule.ANSWERS}),
    "an answer of another order": (_answer_moved, {Rule.ANSWERS}),
    "an answer without an order": (_answer("v1|never", "f|1|7|1000|100"), {Rule.ANSWERED}),
    "an answer of a number to come": (_answer("v1|never", "f|2|9999|1000|100"), {Rule.ANSWERED}),
    "an unreadable answer": (_answer(b"\xff|\x00", b"\xff"), {Rule.ANSWERED}),
    "more units by viewer": (lambda h: h.floor.client.hincrby(h.units_key, "v1|1", 1), {Rule.UNITS}),
    "units by viewer gone": (lambda h: h.floor.client.hdel(h.units_key, "v1|1"), {Rule.UNITS}),
    "units of late money gone": (lambda h: h.floor.client.hdel(h.units_key, "e2|1"), {Rule.UNITS}),
    "units of a release still to be told gone": (lambda h: h.floor.client.hdel(h.units_key, "w1|1"), {Rule.UNITS}),
    "units of a viewer without orders": (lambda h: h.floor.client.hset(h.units_key, "ghost|1", 1), {Rule.UNITS}),
    "another epoch": (_shard("epoch", 1), {Rule.EPOCH}),
    "the whole shard gone": (lambda h: h.floor.client.flushall(), {Rule.EPOCH}),
    "Valkey behind the ledger": (_shard("seq", 1), {Rule.AHEAD}),
    "releases nobody wrote": (_shard("released", 999), {Rule.AHEAD}),
    "told of more than there is": (_shard("applied", 9999), {Rule.AHEAD}),
    "releases forgotten": (_shard("released", 0), {Rule.OUTBOX}),
    "a release passed over": (
        _released_and_lost,
        {Rule.CONSERVATION, Rule.HELD, Rule.UNITS, Rule.ANSWERED},
    ),
    "releases applied beside their numbers": (
        _rows_applied_twice,
        {Rule.OUTBOX},
    ),
    "trimmed past the cursor": (_trim, {Rule.TRIM}),
    "an entry gone": (_cut_out, {Rule.STREAM}),
    "the last entry gone": (_cut_off, {Rule.STREAM}),
    "an unreadable entry": (_unreadable, {Rule.STREAM}),
}


@pytest.mark.parametrize("name", VALKEY_SEEDS)
async def test_a_violation_in_valkey_is_caught_by_the_right_rule(history: History, name: str) -> None:
    seed, expected = VALKEY_SEEDS[name]
    await seed(history)
    report = await history.audit()
    assert caught(report) == expected, report.broken
    assert not report.holds
