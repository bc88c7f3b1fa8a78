"""A real history holds under the audit, whatever waits in it; what cannot be compared is not called broken."""

import pytest

from gateway.domain.acts import Act
from gateway.errors import NotFound
from gateway.hot.audit import HotAudit
from gateway.hot.scripts import find_lua_folder
from gateway.keeper.audit_report import Money, Rule
from gateway.ledger.shards import LedgerShards
from tests.support.audited import CUP, TIN, History, caught, not_auditable
from tests.support.shop_floor import SHARD


async def test_a_history_of_everything_holds_to_the_unit_and_the_cent(history: History) -> None:
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    figures = report.figures
    assert figures.orders.keys() == {"confirmed", "paid", "expired", "cancelled", "refused", "refund_due", "refunded"}
    assert figures.payments.keys() == {"waiting", "applied", "refund_due", "refunded"}
    assert figures.stock == figures.left + figures.held + figures.sold + figures.waiting + figures.releasing
    assert (figures.backlog, figures.waiting) == (4, 2 + 4 + 1)
    kinds = await history.floor.ledger.fetch("SELECT kind, sum(quantity)::int AS units FROM outbox GROUP BY kind")
    assert {row["kind"]: row["units"] for row in kinds} == {"refuse": 3, "paid": 2, "release": 2, "return": 2}
    assert figures.releasing == 3 + 2 + 2
    money = figures.money["EUR"]
    assert money.applied_minor == money.paid_orders_minor == figures.payments["applied"] * 200
    assert money.received_minor == (
        money.applied_minor + money.waiting_minor + money.refund_due_minor + money.refunded_minor
    )
    assert figures.money["?"] == Money(received_minor=77, refund_due_minor=77)


async def test_a_drained_history_holds_and_is_at_the_end(history: History) -> None:
    assert caught(await history.audit(final=True)) == {Rule.DRAINED}
    await history.drained()
    report = await history.audit(final=True)
    assert report.holds, [check for check in report.checks if not check.holds]
    assert [check.name for check in report.checks] == [rule.value for rule in Rule]
    figures = report.figures
    assert (figures.waiting, figures.releasing, figures.backlog, figures.parked) == (0, 0, 0, 0)
    assert figures.payments.get("waiting", 0) == 0
    assert report.as_json()["figures"]["money"]["EUR"]["waiting_minor"] == 0
    assert report.as_json()["checks"][0].keys() == {
        "name",
        "rule",
        "holds",
        "detail",
        "broken",
        "violations",
        "sales",
    }


async def test_one_sale_is_audited_by_its_id_and_an_unknown_one_is_not_found(history: History) -> None:
    report = await history.audit(sale=history.floor.sale.sale)
    assert report.holds
    assert report.figures.sales == 1
    with pytest.raises(NotFound):
        await history.audit(sale="sale_none")


async def test_a_shard_that_nobody_has_opened_holds(history: History) -> None:
    await LedgerShards(history.floor.ledger).ensure(3)
    assert (await history.audit()).holds


async def test_the_cursor_may_stand_inside_a_group(history: History) -> None:
    await history.drained()
    await history.place(("v0", "more", CUP, 4), ("v30", "first", TIN, 3))
    stands = (await history.floor.shards.cursor(SHARD))[1]
    await history.sql("UPDATE sale_items SET held = held + 4 WHERE item_no = 2")
    await history.sql("UPDATE holdings SET units = units + 4 WHERE viewer = 'v0' AND item_no = 2")
    answer = (await history.floor.client.hget(history.answers_key, "v0|more")).decode()
    fingerprint, epoch, seq, at_ms, price = answer.split("|")
    assert int(seq) == stands + 1
    await history.sql(
        "INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status,"
        " epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint)"
        f" VALUES ({history.sale_no}, 'ord_x', 'v0', 'more', 2, 4, {price}, {int(price) * 4}, 'confirmed',"
        f" {epoch}, {seq}, {at_ms}, now(), now() + interval '1 hour', '{fingerprint}')"
    )
    await history.sql("INSERT INTO deadlines VALUES (0, now() + interval '2 hours', 1, 'ord_x', 'ord_x', 1)")
    await history.sql("UPDATE shards SET last_seq = last_seq + 1")
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    assert (report.figures.backlog, report.figures.waiting) == (1, 3)


async def test_acts_behind_the_cursor_change_what_is_offered(history: History) -> None:
    await history.act(Act.PRICE, value=90)
    await history.act(Act.PAUSE)
    assert (await history.audit()).holds
    await history.act(Act.OPEN)
    await history.act(Act.CLOSE)
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    await history.drained()
    assert (await history.audit()).holds


async def test_a_backlog_too_large_for_a_cut_is_not_auditable_and_does_not_hold(history: History) -> None:
    await history.place(*((f"y{at}", "k", CUP, 1) for at in range(11)))
    report = await history.audit(most_behind=10)
    assert not report.holds
    assert not caught(report)
    assert {Rule.CONSERVATION, Rule.STOCK, Rule.HELD, Rule.UNITS, Rule.ANSWERED, Rule.ANSWERS} <= not_auditable(report)
    assert any("backlog too large for one cut (15" in check.detail for check in report.checks)
    assert (await history.audit(most_behind=15)).holds


async def test_a_shard_in_rebuild_is_not_auditable_and_not_called_broken(history: History) -> None:
    await history.floor.written()
    await history.floor.client.hset(history.floor.keys.shard, "open", "0")
    await history.sql(
        "SELECT next_epoch(0::int2, epoch, last_seq, load_token, epoch + 1, run_id, 'test', 'recount') FROM shards"
    )
    report = await history.audit()
    assert caught(report) == set()
    assert Rule.CONSERVATION in not_auditable(report)
    assert any("is being rebuilt, the ledger is in epoch 3" in check.detail for check in report.checks)
    await history.floor.keeper.step()
    assert (await history.audit()).holds


async def test_a_parked_order_is_listed_and_accounts_for_its_number(history: History) -> None:
    await history.drained()
    await history.sql(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = '22000'; END $$"
    )
    await history.sql(
        "CREATE TRIGGER poison BEFORE INSERT ON orders FOR EACH ROW WHEN"
        " (NEW.viewer = 'poison' AND NEW.status <> 'refused')"
        " EXECUTE FUNCTION poison()"
    )
    await history.sold(("y1", "k", CUP, 1), ("poison", "k", CUP, 2), ("y2", "k", CUP, 1))
    for releasing in (2, 0):
        report = await history.audit()
        assert report.holds, [check for check in report.checks if not check.holds]
        assert (report.figures.parked, report.figures.releasing) == (1, releasing)
        assert "22000" in report.figures.parked_entries[0]
        await history.released()


async def test_numbers_recorded_as_lost_are_accounted_for(history: History) -> None:
    await history.sql("UPDATE epochs SET last_seq = last_seq + 3")
    assert caught(await history.audit()) == {Rule.NUMBERS}
    await history.sql("INSERT INTO lost_seqs SELECT shard, epoch, last_seq - 2, last_seq FROM epochs")
    assert (await history.audit()).holds


async def test_nothing_is_overdue_while_the_clocks_are_not_trusted(history: History) -> None:
    await history.sql(
        "UPDATE orders SET confirmed_at = pay_by - interval '3 hours', pay_by = pay_by - interval '2 hours'"
        " WHERE status = 'confirmed'"
    )
    assert caught(await history.audit()) == {Rule.OVERDUE}
    await history.floor.client.hset(history.floor.keys.shard, "opens_up_to", "1")
    report = await history.audit()
    assert report.holds
    check = next(check for check in report.checks if check.name == Rule.OVERDUE)
    assert "whose clocks are not trusted (0)" in check.detail


async def test_a_retired_sale_may_be_gone_from_valkey(history: History) -> None:
    await history.drained()
    await history.sql("UPDATE sales SET retired_at = now()")
    assert (await history.audit()).holds
    await history.floor.client.delete(history.sale_key, history.answers_key, history.units_key)
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    assert report.figures.sales == 1
    running = await history.audit(running=True)
    assert running.holds
    assert running.figures.sales == 0


async def test_an_audit_of_what_runs_looks_through_each_sequence_number_once(history: History) -> None:
    auditor = history.auditor()
    assert (await auditor.run(running=True)).holds
    await history.sql("UPDATE acts SET seq = 900 WHERE act = 'pause'")
    assert (await auditor.run(running=True)).holds, "what was there before its first run is not its business"
    await history.floor.written()
    assert (await auditor.run(running=True)).holds
    await history.place(("y0", "k", CUP, 1), ("y1", "k", CUP, 1))
    await history.act(Act.STOCK, value=1)
    await history.floor.written()
    await history.sql("UPDATE acts SET seq = seq + 1000 WHERE seq = (SELECT last_seq FROM shards)")
    for _ in range(2):
        report = await auditor.run(running=True)
        assert caught(report) == {Rule.NUMBERS}
        assert any(
            "number 1" in check.violations[-1] and "behind the end" in check.violations[-1] for check in report.broken
        )
    await history.sql("UPDATE acts SET seq = seq - 1000 WHERE seq > 1000")
    assert (await auditor.run(running=True)).holds
    await history.floor.shards.want_recount(SHARD, "test")
    await history.floor.keeper.step()
    await history.sold(("y2", "k", CUP, 1))
    assert (await auditor.run(running=True)).holds


async def test_a_long_list_of_violations_is_cut_and_counted(history: History) -> None:
    await history.without_constraints("orders", "UPDATE orders SET discount_minor = 1")
    report = await history.audit()
    check = next(check for check in report.checks if check.name == Rule.AMOUNTS)
    assert len(check.violations) == 20
    assert check.broken == sum(report.figures.orders.values())
    assert check.detail.startswith(f"{check.broken} broken")
    assert check.sales == [history.floor.sale.sale]


def test_the_script_of_the_cut_may_not_write() -> None:
    assert (find_lua_folder() / "audit_cut.lua").read_text(encoding="utf-8").startswith("#!lua flags=no-writes\n")


async def test_a_cut_has_entries_of_its_epoch_up_to_its_bound(history: History) -> None:
    hot = HotAudit(client=history.floor.client, scripts=history.floor.scripts)
    whole = await hot.cut(0, epoch=2, after=0, most=1000)
    assert whole.entries is not None
    assert whole.entries[-1].last == whole.seq
    assert {entry.epoch for entry in whole.entries} == {2}
    assert (await hot.cut(0, epoch=2, after=0, most=1)).entries is None
    assert (await hot.cut(0, epoch=1, after=0, most=1000)).entries is None
    assert (await hot.cut(9, epoch=2, after=0, most=1000)).epoch == 0


async def test_a_snapshot_stays_of_its_moment(history: History) -> None:
    async with history.audited.snapshot() as snapshot:
        before = await snapshot.shards()
        await history.sql("UPDATE shards SET last_seq = last_seq + 1")
        assert await snapshot.shards() == before
    async with history.audited.snapshot() as snapshot:
        assert await snapshot.shards() != before
