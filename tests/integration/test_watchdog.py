"""The keeper's own audit: what two audits found stops the sale it is of, once; what heals or was not seen does not."""

from typing import Any

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateway.domain.acts import Act
from gateway.keeper.audit import Auditor
from gateway.keeper.watchdog import STOPPING, OnViolation, Watchdog
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.verdicts import LedgerVerdicts
from gateway.wire import bus
from tests.support.audited import History
from tests.support.shop_floor import SHARD


def watchdog(history: History, *, does: OnViolation = "close", auditor: Auditor | None = None) -> Watchdog:
    floor = history.floor
    return Watchdog(
        auditor=auditor or history.auditor(),
        sales=floor.sales,
        mint=floor.mint,
        controls={SHARD: floor.control},
        publisher=floor.heard,
        verdicts=LedgerVerdicts(floor.ledger),
        clock=floor.clock,
        every_s=60.0,
        on_violation=does,
    )


async def lose_a_unit(history: History, by: int = -1) -> None:
    await history.floor.client.hincrby(history.sale_key, "1:left", by)


async def hold(history: History) -> str:
    return str((await history.floor.client.hget(history.sale_key, "hold")).decode())


async def acts_of_the_audit(history: History) -> list[tuple[str, str]]:
    await history.floor.written()
    rows = await history.floor.ledger.fetch("SELECT act, reason FROM acts WHERE actor = 'peakgate-audit' ORDER BY seq")
    return [(row["act"], row["reason"]) for row in rows]


def events(logs: list[Any], level: str) -> list[str]:
    return [line["event"] for line in logs if line["log_level"] == level]


async def test_a_sale_that_two_audits_found_broken_is_closed_once_with_the_reason(history: History) -> None:
    dog = watchdog(history)
    await lose_a_unit(history)
    with capture_logs() as logs:
        assert await dog.look(), "another audit is wanted soon"
        assert await hold(history) == "active"
        assert events(logs, "critical") == []
        assert not await dog.look()
        assert await hold(history) == "closed"
        assert not await dog.look()
    assert await acts_of_the_audit(history) == [("close", "the audit found: conservation")]
    (line,) = [line for line in logs if line["log_level"] == "critical"]
    assert line["event"] == "audit_violation"
    assert (line["rule"], line["sale"], line["does"]) == ("conservation", history.floor.sale.sale, "close")
    assert bus.SaleChanged(history.sale_no) in history.floor.heard.messages
    assert REGISTRY.get_sample_value("peakgate_audit_violations", {"rule": "conservation"}) == 1
    assert REGISTRY.get_sample_value("peakgate_audit_violations", {"rule": "held"}) == 0
    assert REGISTRY.get_sample_value("peakgate_audit_violations_all") == 1
    assert (REGISTRY.get_sample_value("peakgate_audit_seconds") or 0) > 0


async def test_what_is_gone_at_the_second_look_stops_nothing(history: History) -> None:
    dog = watchdog(history)
    await lose_a_unit(history)
    assert await dog.look()
    await lose_a_unit(history, by=1)
    assert not await dog.look()
    await lose_a_unit(history)
    assert await dog.look()
    assert await hold(history) == "active"


async def test_it_may_be_told_to_pause_and_does_not_pause_again_what_a_host_resumed(history: History) -> None:
    dog = watchdog(history, does="pause")
    await lose_a_unit(history)
    await dog.look()
    await dog.look()
    assert await hold(history) == "paused"
    await history.act(Act.RESUME)
    await dog.look()
    assert await hold(history) == "active"
    await lose_a_unit(history, by=1)
    await dog.look()
    await lose_a_unit(history)
    await dog.look()
    await dog.look()
    assert await hold(history) == "paused", "it was whole in between"


async def test_it_may_be_told_only_to_report(history: History) -> None:
    dog = watchdog(history, does="report")
    await lose_a_unit(history)
    with capture_logs() as logs:
        await dog.look()
        await dog.look()
        await dog.look()
    assert events(logs, "critical") == ["audit_violation"]
    assert await hold(history) == "active"


async def test_what_could_not_be_audited_stops_nothing_and_refutes_nothing(history: History) -> None:
    dog = watchdog(history)
    await history.sql("UPDATE shards SET reopen = 'recount'")
    for _ in range(3):
        assert not await dog.look()
    assert REGISTRY.get_sample_value("peakgate_audit_unmade") == 14
    await history.sql("UPDATE shards SET reopen = NULL")
    await lose_a_unit(history)
    assert await dog.look()
    await history.sql("UPDATE shards SET reopen = 'recount'")
    assert not await dog.look()
    assert await hold(history) == "active"
    await history.sql("UPDATE shards SET reopen = NULL")
    assert not await dog.look()
    assert await hold(history) == "closed"


async def test_a_shard_that_valkey_lost_is_told_and_its_sales_are_not_closed(history: History) -> None:
    dog = watchdog(history)
    await history.floor.written()
    await history.floor.client.flushall()
    with capture_logs() as logs:
        await dog.look()
        await dog.look()
        await history.floor.keeper.step()
        assert not await dog.look()
    assert [(line["rule"], line["does"]) for line in logs if line["event"] == "audit_violation"] == [
        ("epoch", "report")
    ]
    assert await hold(history) == "active"
    assert REGISTRY.get_sample_value("peakgate_audit_violations_all") == 0


async def test_what_is_only_late_is_told_and_stops_nothing(history: History) -> None:
    dog = watchdog(history)
    await history.sql("UPDATE payments SET received_at = now() - interval '1 hour' WHERE state = 'waiting'")
    with capture_logs() as logs:
        await dog.look()
        await dog.look()
    assert [(line["rule"], line["does"]) for line in logs if line["event"] == "audit_violation"] == [
        ("late_waits", "report")
    ]
    assert await hold(history) == "active"
    assert "late_waits" not in STOPPING and "money" in STOPPING


async def test_a_sale_that_cannot_be_stopped_just_now_is_stopped_later(history: History) -> None:
    dog = watchdog(history)
    await lose_a_unit(history)
    await dog.look()
    await history.floor.client.hset(history.floor.keys.shard, "open", "0")
    assert await dog.look(), "it is tried again soon"
    assert await hold(history) == "active"
    await history.floor.client.hset(history.floor.keys.shard, "open", "1")
    assert not await dog.look()
    assert await hold(history) == "closed"


async def test_a_sale_that_a_rebuild_healed_is_not_stopped_for_what_was(history: History) -> None:
    dog = watchdog(history)
    await history.floor.written()
    await lose_a_unit(history)
    await dog.look()
    await history.floor.client.hset(history.floor.keys.shard, "open", "0")
    assert await dog.look(), "it is confirmed, and a shut shard takes no act"
    await history.floor.shards.want_recount(SHARD, "test")
    assert await dog.look() is False, "what is to be rebuilt is not judged"
    await history.floor.keeper.step()
    assert not await dog.look()
    assert await hold(history) == "active"
    assert await acts_of_the_audit(history) == []


async def test_an_audit_that_fails_is_told_and_the_next_one_is_made(history: History) -> None:
    away = LedgerAudit("postgresql://nobody@127.0.0.1:9/none")
    dog = watchdog(history, auditor=history.auditor(ledger=away))
    with capture_logs() as logs:
        assert not await dog.look()
    assert events(logs, "warning") == ["audit_not_made"]
    # What is cut off in the middle is opened anew.
    dog = watchdog(history)
    assert not await dog.look()
    await history.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    with capture_logs() as logs:
        await dog.look()
        await dog.look()
    assert REGISTRY.get_sample_value("peakgate_audit_unmade") == 0
