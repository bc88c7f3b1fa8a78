"""Groups, acts and releases in any order against a plain model of the rules."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.hot.keys import ShardKeys
from tests.support.lua_shard import LONG_AGO_MS, MINUTE_MS, NEVER_LATE_MS, SALE, LuaShard, order

ITEMS = {1: (100, 2), 2: (2500, 3)}
"""By item number: price and limit."""


@dataclass(slots=True)
class Order:
    viewer: str
    key: str
    fingerprint: str
    item: int
    quantity: int
    seq: int
    at_ms: int
    released: bool = False


@dataclass(slots=True)
class Model:
    """The rules in plain words, one request after the other."""

    stock: dict[int, int]
    hold: str = "active"
    started: bool = True
    seq: int = 0
    applied: int = 0
    released: int = 0
    orders: list[Order] = field(default_factory=list)
    acts: dict[str, tuple[str, int]] = field(default_factory=dict)
    entries: list[tuple[str, int, int]] = field(default_factory=list)

    def live(self, item: int, viewer: str | None = None) -> int:
        return sum(
            each.quantity
            for each in self.orders
            if not each.released and each.item == item and viewer in (None, each.viewer)
        )

    def left(self, item: int) -> int:
        return self.stock[item] - self.live(item)

    def place(self, requests: list[list[Any]], *, now_ms: int, opens_at_ms: int, backlog: int) -> list[list[Any]]:
        full = self.seq - self.applied + len(requests) > backlog
        first = self.seq + 1
        answers = [self._judge(each, now_ms=now_ms, opens_at_ms=opens_at_ms, full=full) for each in requests]
        if self.seq >= first:
            self.entries.append(("orders", first, self.seq))
        return answers

    def _judge(self, request: list[Any], *, now_ms: int, opens_at_ms: int, full: bool) -> list[Any]:
        viewer, key, fingerprint, item, quantity, expect, _, until_ms = request
        price, limit = ITEMS[item]
        for held in self.orders:
            if (held.viewer, held.key, held.released) == (viewer, key, False):
                if held.fingerprint != fingerprint:
                    return ["key_reused"]
                return ["replayed", 1, held.seq, held.at_ms, ITEMS[held.item][0]]
        if now_ms > until_ms:
            return ["late"]
        if self.hold == "closed":
            return ["ended"]
        if self.hold == "paused":
            return ["paused"]
        if not self.started:
            return ["not_started", opens_at_ms]
        if expect >= 0 and expect != price * quantity:
            return ["price_changed", price]
        if self.live(item, viewer) + quantity > limit:
            return ["limit_reached"]
        if self.left(item) < quantity:
            return ["sold_out", self.left(item), 1 if self.live(item) else 0]
        if full:
            return ["backlog"]
        self.seq += 1
        self.orders.append(Order(viewer, key, fingerprint, item, quantity, self.seq, now_ms))
        return ["reserved", self.seq, price]

    def act(self, act: str, *, item: int, value: int, key: str) -> str:
        content = f"{act}.{item}.{value}"
        if key in self.acts:
            return "replayed" if self.acts[key][0] == content else "key_reused"
        if act == "close":
            if self.hold == "closed":
                return "same"
            self.hold = "closed"
        elif self.hold == "closed":
            return "ended"
        elif act == "pause":
            if self.hold == "paused":
                return "same"
            self.hold = "paused"
        elif act == "resume":
            if self.hold == "active":
                return "same"
            self.hold = "active"
        elif act == "open":
            if self.hold == "active" and self.started:
                return "same"
            self.hold, self.started = "active", True
        elif act == "stock":
            if self.left(item) + value < 0:
                return "in_use"
            self.stock[item] += value
        self.seq += 1
        self.entries.append(("act", self.seq, self.seq))
        if key:
            self.acts[key] = (content, self.seq)
        return "done"


# Few names, so that requests meet each other.
VIEWERS = st.sampled_from(["vw_1", "vw_2", "vw|3"])
KEYS = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def requests(draw: st.DrawFn) -> list[Any]:
    item = draw(st.sampled_from(list(ITEMS)))
    quantity = draw(st.integers(1, 4))
    price = ITEMS[item][0]
    expect = draw(st.sampled_from([-1, -1, price * quantity, price * quantity + 1]))
    until_ms = draw(st.sampled_from([NEVER_LATE_MS, NEVER_LATE_MS, NEVER_LATE_MS, LONG_AGO_MS]))
    return order(draw(VIEWERS), draw(KEYS), item=item, quantity=quantity, expect=expect, until_ms=until_ms)


class OrdersOfOneSale(RuleBasedStateMachine):
    def __init__(self, shard: LuaShard, number: int) -> None:
        super().__init__()
        self.shard = shard
        # Keys of its own for each example: that is quicker than emptying the server.
        self.shard.keys = ShardKeys(number)
        self.model = Model({})

    @initialize(stocks=st.tuples(st.integers(0, 8), st.integers(0, 8)), started=st.booleans())
    def load(self, stocks: tuple[int, int], started: bool) -> None:
        self.model = Model(dict(zip(ITEMS, stocks, strict=True)), started=started)
        self.shard.open()
        items = [(no, price, limit, self.model.stock[no]) for no, (price, limit) in ITEMS.items()]
        self.shard.load(items, opens_in_ms=-MINUTE_MS if started else MINUTE_MS)

    @rule(group=st.lists(requests(), min_size=1, max_size=8), backlog=st.sampled_from([50_000, 50_000, 12]))
    def place(self, group: list[list[Any]], backlog: int) -> None:
        opens_at_ms = int(self.shard.sale()["opens_at"])
        placed = self.shard.place(*group, seen=self.model.seq, backlog=backlog)
        expected = self.model.place(group, now_ms=placed.now_ms, opens_at_ms=opens_at_ms, backlog=backlog)
        assert (placed.state, placed.seq, placed.answers) == ("open", self.model.seq, expected)

    @rule(
        act=st.sampled_from(["open", "pause", "resume", "resume", "stock", "stock", "close"]),
        item=st.sampled_from(list(ITEMS)),
        value=st.integers(-4, 4),
        key=st.sampled_from(["", "", "x", "y"]),
    )
    def act(self, act: str, item: int, value: int, key: str) -> None:
        done = self.shard.act(act, item=item, value=value, key=key, fingerprint=f"{act}.{item}.{value}")
        earlier = self.model.acts.get(key)
        expected = self.model.act(act, item=item, value=value, key=key)
        assert done.word == expected
        assert done.seq == (earlier[1] if expected == "replayed" and earlier else self.model.seq)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """What the ledger ended comes back, and once more when the reply was lost."""
        live = [each for each in self.model.orders if not each.released]
        chosen = data.draw(st.lists(st.sampled_from(live), unique_by=lambda each: each.seq)) if live else []
        rows = []
        for each in chosen:
            self.model.released += 1
            each.released = True
            rows.append(
                [self.model.released, SALE, each.item, each.viewer, each.key, 1, each.seq, each.quantity, "refuse"]
            )
        for _ in range(data.draw(st.integers(1, 2))):
            assert self.shard.release(*rows) == ("released", self.model.released)

    @rule()
    def the_ledger_catches_up(self) -> None:
        self.model.applied = self.model.seq
        self.shard.valkey.hset(self.shard.keys.shard, "applied", self.model.applied)

    @invariant()
    def the_counters_are_those_of_the_model(self) -> None:
        if not self.model.stock:
            return
        sale = self.shard.sale()
        assert sale["hold"] == self.model.hold
        for item in ITEMS:
            counted = {name: int(sale[f"{item}:{name}"]) for name in ("stock", "left", "held")}
            assert counted == {
                "stock": self.model.stock[item],
                "left": self.model.left(item),
                "held": self.model.live(item),
            }
            assert counted["left"] >= 0
        live = [each for each in self.model.orders if not each.released]
        units = {f"{each.viewer}|{each.item}": str(self.model.live(each.item, each.viewer)) for each in live}
        assert self.shard.units() == units
        assert set(self.shard.answers()) == {f"{each.viewer}|{each.key}" for each in live}

    @invariant()
    def the_stream_accounts_for_every_sequence_number(self) -> None:
        found = []
        for entry in self.shard.stream():
            kind, first, last = entry.body[0], entry.body[3], int(entry.id.split("-")[1])
            if kind == "orders":
                assert len(entry.body[4]) == last - first + 1
            found.append((kind, first, last))
        assert found == self.model.entries


def test_groups_acts_and_releases_keep_the_rules_in_any_order(valkey_url: str) -> None:
    shard = LuaShard(valkey_url)
    numbers = itertools.count()
    try:
        run_state_machine_as_test(
            lambda: OrdersOfOneSale(shard, next(numbers)),
            settings=settings(
                max_examples=80,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    finally:
        shard.close()
