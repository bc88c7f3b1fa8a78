from typing import Any

import pytest

from gateway.keeper.clock_rule import AGREE_FOR_S, TOLERANCE_S, ClockRule, Place, Reading, Shift, Verdict

HOUR_S = 3600.0
UNIX_S = 1_800_000_000.0


def place(seq: int, *, epoch: int = 1, steps: int = 0, shift_ms: int = 0) -> Place:
    return Place(epoch, seq, steps, shift_ms)


class Servers:
    """Two servers' clocks, and a stream that the ledger applies; one look a second."""

    def __init__(self, before: Reading | None = None) -> None:
        self.rule = ClockRule(before)
        self.at_s = 100.0
        self.valkey_s = self.ledger_s = UNIX_S
        self.seq = 0

    def reading(self, **instead: Any) -> Reading:
        facts: dict[str, Any] = {
            "at_s": self.at_s,
            "valkey_s": self.valkey_s,
            "ledger_s": self.ledger_s,
            "places": {0: place(self.seq)},
        }
        return Reading(**{**facts, **instead})

    def look(self, **instead: Any) -> Verdict:
        verdict = self.rule.look(self.reading(**instead))
        self.at_s += 1
        self.seq += 10
        return verdict

    def look_for(self, seconds: float) -> Verdict:
        for _ in range(int(seconds)):
            verdict = self.look()
        return verdict

    def set_both(self, by_s: float) -> None:
        self.valkey_s += by_s
        self.ledger_s += by_s


@pytest.fixture
def servers() -> Servers:
    """Trusted, at second 101 and sequence number 10."""
    servers = Servers()
    assert servers.look() is Verdict.TRUSTED
    return servers


def test_nothing_is_trusted_before_the_first_comparison() -> None:
    servers = Servers()
    assert not servers.rule.trusted
    assert servers.look(valkey_s=None) is Verdict.DISTRUSTED
    assert servers.look(ledger_s=None) is Verdict.DISTRUSTED
    assert servers.look() is Verdict.TRUSTED


def test_servers_that_differ_at_first_sight_are_not_trusted_until_they_agreed_for_a_while() -> None:
    servers = Servers()
    servers.valkey_s += 3
    assert servers.look() is Verdict.DISTRUSTED
    assert servers.rule.reason == "skew"
    servers.valkey_s -= 3
    assert servers.look_for(AGREE_FOR_S) is Verdict.DISTRUSTED
    assert servers.look() is Verdict.SETTLED


def test_a_slow_drift_is_no_step(servers: Servers) -> None:
    for _ in range(10_000):
        servers.set_both(0.001)
        assert servers.look() is Verdict.TRUSTED


@pytest.mark.parametrize("by_s", [TOLERANCE_S * 0.9, -TOLERANCE_S * 0.9])
def test_less_than_the_tolerance_is_believed(servers: Servers, by_s: float) -> None:
    servers.valkey_s += by_s
    assert servers.look() is Verdict.TRUSTED


@pytest.mark.parametrize("by_s", [2.5, -2.5, HOUR_S, -HOUR_S])
def test_a_skew_lasts_until_it_is_gone(servers: Servers, by_s: float) -> None:
    servers.valkey_s += by_s
    assert servers.look_for(1000) is Verdict.DISTRUSTED
    assert servers.rule.reason == "skew" and servers.rule.skew_s == pytest.approx(by_s)
    servers.valkey_s -= by_s
    assert servers.look_for(AGREE_FOR_S) is Verdict.DISTRUSTED
    assert servers.look() is Verdict.SETTLED
    assert servers.rule.step(0) is None, "the ledger's clock was right all the time"


@pytest.mark.parametrize("by_s", [2.5, HOUR_S, -HOUR_S])
def test_a_step_of_both_is_accepted_after_ten_seconds(servers: Servers, by_s: float) -> None:
    servers.set_both(by_s)
    assert servers.look() is Verdict.DISTRUSTED
    assert servers.rule.reason == "step of PostgreSQL"
    assert servers.look_for(AGREE_FOR_S - 1) is Verdict.DISTRUSTED
    assert servers.look() is Verdict.SETTLED
    assert servers.rule.step_s == pytest.approx(by_s)
    servers.rule.accept(servers.reading())
    assert servers.rule.trusted and servers.rule.reason == ""
    assert servers.look() is Verdict.TRUSTED


def test_settled_is_said_again_until_it_was_accepted(servers: Servers) -> None:
    servers.set_both(HOUR_S)
    assert servers.look_for(AGREE_FOR_S + 1) is Verdict.SETTLED
    assert servers.look() is Verdict.SETTLED


def test_another_step_begins_the_wait_anew(servers: Servers) -> None:
    servers.set_both(HOUR_S)
    servers.look_for(AGREE_FOR_S)
    servers.set_both(5)
    assert servers.look_for(AGREE_FOR_S) is Verdict.DISTRUSTED
    assert servers.look() is Verdict.SETTLED
    assert servers.rule.step_s == pytest.approx(HOUR_S + 5)


def test_the_ledger_alone_is_enough_to_see_its_step_and_not_to_accept_it(servers: Servers) -> None:
    servers.set_both(HOUR_S)
    assert servers.look(valkey_s=None) is Verdict.DISTRUSTED
    for _ in range(60):
        assert servers.look(valkey_s=None) is Verdict.DISTRUSTED


def test_valkey_away_changes_nothing(servers: Servers) -> None:
    for _ in range(60):
        assert servers.look(valkey_s=None) is Verdict.TRUSTED
    assert servers.look() is Verdict.TRUSTED


def test_what_was_written_down_before_is_compared_with() -> None:
    before = Reading(at_s=50, valkey_s=UNIX_S, ledger_s=UNIX_S, places={0: place(7)})
    assert Servers(before).look() is Verdict.TRUSTED
    stepped = Servers(before)
    stepped.set_both(-HOUR_S)
    assert stepped.look() is Verdict.DISTRUSTED
    assert stepped.look_for(AGREE_FOR_S) is Verdict.SETTLED
    step = stepped.rule.step(0)
    assert step is not None
    assert step.shifts == (Shift((0, 0), (1, 7), -HOUR_S * 1000),)


# Which orders are moved, and by how much.


def test_a_step_forward_moves_also_what_was_confirmed_around_it(servers: Servers) -> None:
    """Confirmed up to 10 before it, 20 when it was seen: in between, nobody knows; later is what hurts nobody."""
    servers.look()
    servers.set_both(HOUR_S)
    servers.look_for(AGREE_FOR_S + 1)
    step = servers.rule.step(0)
    assert step is not None
    assert step.total_ms == HOUR_S * 1000
    assert step.shifts == (Shift((0, 0), (1, 20), HOUR_S * 1000),)
    assert step.before == place(10)


def test_a_step_back_leaves_what_was_confirmed_around_it(servers: Servers) -> None:
    servers.look()
    servers.set_both(-HOUR_S)
    servers.look_for(AGREE_FOR_S + 1)
    step = servers.rule.step(0)
    assert step is not None and step.shifts == (Shift((0, 0), (1, 10), -HOUR_S * 1000),)


def test_a_clock_that_jumps_and_comes_back_moves_only_what_was_confirmed_meanwhile(servers: Servers) -> None:
    servers.set_both(-HOUR_S)
    servers.look_for(5)  # the readings show 10 to 50
    servers.set_both(HOUR_S)
    servers.look_for(AGREE_FOR_S + 1)
    step = servers.rule.step(0)
    assert step is not None and step.total_ms == 0
    # Those confirmed by the wrong clock lie an hour too early.
    assert step.shifts == (Shift((1, 0), (1, 60), HOUR_S * 1000),)


def test_a_clock_that_jumps_ahead_and_comes_back_moves_only_what_was_surely_confirmed_meanwhile(
    servers: Servers,
) -> None:
    servers.set_both(HOUR_S)
    servers.look_for(5)
    servers.set_both(-HOUR_S)
    servers.look_for(AGREE_FOR_S + 1)
    step = servers.rule.step(0)
    assert step is not None
    assert step.shifts == (Shift((1, 10), (1, 50), -HOUR_S * 1000),)


def test_epochs_count_before_sequence_numbers(servers: Servers) -> None:
    servers.set_both(HOUR_S)
    servers.look(places={0: place(3, epoch=2)})
    servers.look_for(AGREE_FOR_S)
    step = servers.rule.step(0)
    assert step is not None and step.shifts[0].up_to == (2, 3)


def test_a_shard_that_was_not_there_before_has_nothing_to_move(servers: Servers) -> None:
    servers.set_both(HOUR_S)
    servers.look_for(AGREE_FOR_S + 1)
    assert servers.rule.step(1) is None
