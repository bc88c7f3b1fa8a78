"""Every script in any order, beside the rules in plain words, as Hypothesis plays it. After each step the whole state
of the shard must be what the rules say."""

from collections.abc import Callable
from typing import Any

import msgpack
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gateway.hot.keys import ShardKeys
from tests.properties.profiles import Count
from tests.properties.rules import MINUTE_MS, Item, Row, Sale, Shard
from tests.support.lua_shard import LONG_AGO_MS, NEVER_LATE_MS, LuaShard, order

# Few names, so that requests meet each other.
VIEWERS = ("vw_1", "vw_2", "vw|3", "vw_4")
KEYS = ("a", "b", "c", "d", "e")
PRICES = (100, 250)
ITEMS = {7: {1: (100, 2), 2: (2500, 3)}, 8: {1: (100, 4)}}
"""By sale and item number: price and limit."""
NOWHERE = 99
OWN_KEY = "its own"
"""Made of what is asked, so that it is never used with other content."""
NEVER_FULL = 50_000


@st.composite
def requests(draw: st.DrawFn) -> list[Any]:
    item, quantity = draw(st.integers(1, 2)), draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
    expect = draw(st.sampled_from([*[-1] * 16, 100 * quantity, 2500 * quantity, 1]))
    until_ms = draw(st.sampled_from([*[NEVER_LATE_MS] * 20, LONG_AGO_MS]))
    viewer, key = draw(st.sampled_from(VIEWERS)), draw(st.sampled_from(KEYS))
    return order(viewer, key, item=item, quantity=quantity, expect=expect, until_ms=until_ms, extra=key * quantity)


often = st.sampled_from([True, True, True, False])
seldom = st.sampled_from([False] * 9 + [True])
sales = st.sampled_from([7, 7, 8])
some = st.integers(0, 99)
"""A number by which one of a list is taken, as long as the list may be."""


class Scripts(RuleBasedStateMachine):
    def __init__(self, shard: LuaShard, number: int, count: Count) -> None:
        super().__init__()
        self.shard = shard
        # Keys of its own for each example: that is quicker than emptying the server.
        self.shard.keys = ShardKeys(number)
        self.count = count
        self.model: Shard
        self.token = 0
        self.loading: int | None = None
        """The token of the rebuild that fills the shard."""
        self.kept_from = (0, 0)
        """Entries of the stream before this place may be gone."""
        self.rebuild: list[Callable[[], None]] = []
        """Steps that a rebuild has yet to do."""

    @initialize(stocks=st.tuples(*[st.integers(1, 12)] * 3), opens_in=st.sampled_from([*[-1] * 9, 1]))
    def load(self, stocks: tuple[int, int, int], opens_in: int) -> None:
        now_ms, left = self.shard.now_ms(), list(stocks)
        offer = {
            no: Sale(
                no,
                "active",
                now_ms + opens_in * MINUTE_MS,
                now_ms + 60 * MINUTE_MS,
                {item: Item(*facts, left.pop()) for item, facts in items.items()},
            )
            for no, items in ITEMS.items()
        }
        self.model = Shard(offer)
        assert self.shard.open() == ("created", 1, 0)
        for sale in offer.values():
            assert self._load(sale) == "loaded"

    def _load(self, sale: Sale) -> str:
        items = [[no, item.price, item.limit, item.stock] for no, item in sale.items.items()]
        word: bytes = self.shard.call(
            "load_sale",
            [self.shard.keys.shard, self.shard.keys.sale(sale.no)],
            [self.model.ledger_epoch, sale.hold, sale.opens_at, sale.closes_at, msgpack.packb(items)],
        )
        return word.decode()

    # Orders.

    @rule(
        sale_no=st.sampled_from([*[7] * 12, *[8] * 6, NOWHERE]),
        group=st.lists(requests(), min_size=1, max_size=8),
        backlog=st.sampled_from([*[NEVER_FULL] * 8, 12]),
        epoch=st.sampled_from([*[0] * 12, -1, 1]),
        seen=st.sampled_from([*[0] * 12, 1]),
        reply_lost=seldom,
    )
    def place(
        self, sale_no: int, group: list[list[Any]], backlog: int, epoch: int, seen: int, reply_lost: bool
    ) -> None:
        model = self.model
        for request in group:
            request[3] = min(request[3], len(ITEMS.get(sale_no, ())) or 1)
        for _ in range(2 if reply_lost else 1):
            asked = {"epoch": model.ledger_epoch + epoch, "seen": model.seq + seen}
            placed = self.shard.place(*group, sale_no=sale_no, backlog=backlog, **asked)
            no = model.stands(**asked)
            if no is None and sale_no == NOWHERE:
                assert (placed.state, placed.seq, placed.answers) == ("unloaded", model.seq, [])
            elif no is None:
                expected = model.place(sale_no, group, now_ms=placed.now_ms, backlog=backlog)
                assert placed[:3] == ("open", model.epoch, model.seq)
                assert placed.answers == expected
            else:
                assert placed[:3] == (no.word, no.epoch, no.seq)
                assert placed.answers == []

    # Acts, and time.

    @rule(
        what=st.sampled_from([*["act"] * 8, "time", "clocks"]),
        act=st.sampled_from([*["open", "resume", "stock", "price"] * 3, "pause", "close"]),
        sale_no=sales,
        item=st.integers(1, 2),
        value=st.integers(-9, 4),
        who=st.sampled_from(["host_1", "host_2"]),
        key=st.sampled_from(["", "", "x", OWN_KEY, OWN_KEY]),
        late=seldom,
        epoch=st.sampled_from([*[0] * 12, 1]),
        reply_lost=seldom,
    )
    def hosts_act_and_time_passes(self, what: str, act: str, sale_no: int, value: int, **more: Any) -> None:
        if what == "time":
            self._time_passes(sale_no, [(-1, 60), (-1, 60), (-1, 60), (1, 60), (-60, -1)][value % 5])
        elif what == "clocks":
            self._judge_clocks([None, None, None, 0, -2][value % 5])
        else:
            more["item"] = min(more["item"], len(ITEMS[sale_no]))
            if more["key"] == OWN_KEY:
                more["key"] = f"{act}{sale_no}{more['item']}{value}"
            for _ in range(2 if more.pop("reply_lost") else 1):
                self._act(act, sale_no, value=PRICES[value % 2] if act == "price" else value, **more)

    def _act(
        self, act: str, sale_no: int, *, item: int, value: int, who: str, key: str, late: bool, epoch: int
    ) -> None:
        model = self.model
        done = self.shard.act(
            act,
            sale_no=sale_no,
            item=item,
            value=value,
            actor=who,
            key=key,
            fingerprint=f"{act}.{sale_no}.{item}.{value}",
            reason="why",
            until_ms=LONG_AGO_MS if late else NEVER_LATE_MS,
            epoch=model.ledger_epoch + epoch,
        )
        no = model.stands(model.ledger_epoch + epoch)
        if no is not None:
            assert done[:3] == ("epoch", no.epoch, no.seq)
            return
        word, seq = model.act(sale_no, act, item, value, actor=who, key=key, late=late, now_ms=done.now_ms)
        assert done[:3] == (word, model.epoch, seq)

    def _time_passes(self, sale_no: int, window: tuple[int, int]) -> None:
        """The server's clock is its own: the sale is moved past it instead."""
        if not self.model.there:
            return
        now_ms = self.shard.now_ms()
        opens_at, closes_at = (now_ms + minutes * MINUTE_MS for minutes in window)
        for sale in (self.model.sales[sale_no], self.model.ledger_sales[sale_no]):
            sale.opens_at, sale.closes_at = opens_at, closes_at
        self.shard.valkey.hset(self.shard.keys.sale(sale_no), mapping={"opens_at": opens_at, "closes_at": closes_at})

    def _judge_clocks(self, minutes: int | None) -> None:
        up_to = None if minutes is None else self.shard.now_ms() + minutes * MINUTE_MS
        word = self.shard.call("pause_opening", [self.shard.keys.shard], ["" if up_to is None else up_to])
        if up_to is None:
            assert word == b"resumed"
            self.model.opens_up_to = None
        elif not self.model.there:
            assert word == b"none"
        else:
            assert word == b"paused"
            self.model.opens_up_to = self.model.opens_up_to or up_to

    # What the ledger does, and what comes back of it.

    @rule(
        count=st.integers(0, 6),
        refuse=st.lists(seldom, min_size=6, max_size=6),
        mark=st.booleans(),
        acts=st.lists(
            st.tuples(some, st.sampled_from(["pay", "pay", "expire", "expire", "expire", "cancel", "refund"])),
            max_size=4,
        ),
    )
    def the_ledger_works(self, count: int, refuse: list[bool], mark: bool, acts: list[tuple[int, str]]) -> None:
        model = self.model
        for one in range(min(count, len(model.waiting()))):
            model.apply_next(refuse=refuse[one])
        for which, act in acts:
            open_ones = [each for each in model.orders if each.status in ("confirmed", "expired", "paid")]
            if open_ones:
                model.settle(open_ones[which % len(open_ones)], act)
        if mark:
            keep_from = max(0, model.cursor - 5)
            for _ in range(2):  # the same mark again changes nothing
                word = self.shard.call(
                    "mark_applied",
                    [self.shard.keys.shard, self.shard.keys.stream],
                    [model.ledger_epoch, model.cursor, keep_from],
                )
                if model.there and model.epoch == model.ledger_epoch:
                    assert word == b"marked"
                    model.applied = model.cursor
                    self.kept_from = (model.epoch, keep_from) if keep_from else (model.epoch - 1, 0)
                else:
                    assert word == b"epoch"

    def _release(self, rows: list[Row], *, epoch: int) -> None:
        model = self.model
        packed = []
        for row in rows:
            claim, key = row.claim, "" if row.order is None else row.order.key
            where = (row.no, claim.sale_no, claim.item, claim.viewer)
            packed.append([*where, key, row.epoch, row.seq, claim.quantity, row.kind])
        word, released = self.shard.release(*packed, epoch=epoch, sales=(7, 8))
        if not model.there:
            assert (word, released) == ("epoch", 0)
        elif epoch != model.epoch:
            assert (word, released) == ("epoch", model.released)
        elif rows and rows[0].no > model.released + 1:
            assert (word, released) == ("gap", model.released)
        else:
            model.release(rows)
            assert (word, released) == ("released", model.released)

    @rule(
        count=st.integers(0, 9),
        overlap=st.integers(0, 3),
        gap=seldom,
        reply_lost=seldom,
        epoch=st.sampled_from([*[0] * 12, -1, 1]),
    )
    def releases_reach_valkey(self, count: int, overlap: int, gap: bool, reply_lost: bool, epoch: int) -> None:
        first = max(0, self.model.released - overlap) + (overlap + 1 if gap else 0)
        rows = self.model.outbox[first : first + count]
        for _ in range(2 if reply_lost else 1):
            self._release(rows, epoch=self.model.ledger_epoch + epoch)

    @rule(which=some, reply_lost=seldom, known=often, epoch=st.sampled_from([*[0] * 12, 1]))
    @precondition(lambda self: self.model.payments or any(each.status == "expired" for each in self.model.orders))
    def late_money_asks(self, which: int, reply_lost: bool, known: bool, epoch: int) -> None:
        """Also for payments that were settled since: whoever asks may have read them long ago."""
        model = self.model
        expired = [each for each in model.orders if each.status == "expired"]
        if expired:
            model.settle(expired[which % len(expired)], "pay")
        waiting = [each for each in model.payments if each.state == "waiting" or not known]
        if not waiting:
            return
        payment = waiting[which % len(waiting)]
        claim = payment.order.claim
        for _ in range(2 if reply_lost else 1):
            before_ms = self.shard.now_ms()
            word, at_epoch, seq = self.shard.revive(
                payment.no,
                viewer=claim.viewer,
                item=claim.item,
                quantity=claim.quantity,
                order_id=payment.order.id,
                sale_no=claim.sale_no,
                epoch=model.ledger_epoch + epoch,
            )
            no = model.stands(model.ledger_epoch + epoch)
            if no is not None:
                assert (word, at_epoch, seq) == ("epoch", no.epoch, no.seq)
                continue
            # Its time is in no answer; it is the stream's.
            now_ms = self.shard.stream()[-1].body[2] if word == "revived" else 0
            assert word != "revived" or before_ms <= now_ms <= self.shard.now_ms()
            assert (word, seq) == model.revive(payment, now_ms)
            assert at_epoch == model.epoch
        if known and word in ("sold_out", "limit_reached"):
            model.refund(payment)

    # Epochs.

    @rule(
        how=st.sampled_from([*["stays"] * 4, "shut", "emptied", "moved"]),
        drained=st.booleans(),
        steps=st.sampled_from([1, 2, 9, 9, 9]),
        crash=seldom,
        repeat=seldom,
    )
    def epochs_end_and_begin(self, how: str, drained: bool, steps: int, crash: bool, repeat: bool) -> None:
        if not self.rebuild:
            self._shut(how, drained)
        elif crash and self.model.ledger_epoch != self.model.epoch:
            # Another one begins from the ledger; the one before is gone, or a zombie.
            self._fence()
            self.rebuild = [self._begin]
        for _ in range(steps):
            if self.rebuild:
                step = self.rebuild.pop(0)
                step()
                if repeat and step in (self._begin, self._drop):
                    step()

    def _shut(self, how: str, drained: bool) -> None:
        model, keys = self.model, self.shard.keys
        if how == "stays":
            for sale in model.sales.values():
                assert self._load(sale) == "there"
            assert self.shard.open(epoch=model.epoch) == ("there", model.epoch, model.seq)
        elif how == "moved":
            assert self.shard.call("shut_shard", [keys.shard], [model.epoch - 1, self.token + 1]) == b"moved"
        else:
            if how == "emptied":
                self.shard.valkey.delete(keys.shard, keys.stream, *self._hashes())
                model.there, model.emptied = False, True
                model.stream, model.opens_up_to, model.loaded = [], None, None
                self.loading = None
            self._fence()
            assert self._load(model.sales[7]) == "epoch"
            self.rebuild = [lambda: self._the_ledger_moves(drained)]

    def _fence(self) -> None:
        """A rebuild takes its token and shuts the shard; none that began before changes it any more."""
        model, keys = self.model, self.shard.keys
        self.token += 1
        seen, word = model.epoch if model.there else 0, b"shut" if self.loading is None else b"filling"
        assert self.shard.call("shut_shard", [keys.shard], [seen, self.token]) == word
        model.open, self.loading = False, None
        if not model.emptied:
            model.loaded = self.token - 1
            if self.token > 1:
                assert self.shard.call("shut_shard", [keys.shard], [seen, self.token - 1]) == b"moved"
                assert self._as(self.token - 1, "begin_load", []) == "stale"

    def _the_ledger_moves(self, drained: bool) -> None:
        model = self.model
        while drained and model.waiting():
            model.apply_next(refuse=False)
        whole = model.there and not model.waiting() and model.cursor == model.seq
        ended = model.cursor
        model.next_epoch()
        model.astray = model.there and not whole
        self.token += 1
        self.rebuild = [lambda: self._advance(ended, whole)]

    def _advance(self, ended: int, whole: bool) -> None:
        model = self.model
        was, now = model.ledger_epoch - 1, model.ledger_epoch
        late = self.token - 2
        for wrong in ([now, ended, now, self.token], [was, model.seq + 1, now, self.token], [was, ended, now, late]):
            assert self.shard.call("advance_shard", [self.shard.keys.shard], wrong) == b"other"
        word = self.shard.call(
            "advance_shard",
            [self.shard.keys.shard],
            [model.ledger_epoch - 1, ended, model.ledger_epoch, self.token],
        )
        assert word == (b"advanced" if whole else b"other")
        if whole:
            model.epoch, model.seq, model.applied, model.open = model.ledger_epoch, 0, 0, True
            model.loaded = self.token
            self.rebuild = []
        else:
            self.rebuild = [self._begin]

    def _as(self, token: int, script: str, keys: list[str], *args: Any) -> str:
        word: bytes = self.shard.call(script, [self.shard.keys.shard, *keys], [token, *args])
        return word.decode()

    def _begin(self) -> None:
        assert self._as(self.token, "begin_load", []) == "begun"
        assert self._as(self.token - 1, "begin_load", []) == "stale"
        self.model.there = self.model.emptied = self.model.astray = False
        self.loading = self.token
        self.rebuild = [self._drop]

    def _drop(self) -> None:
        hashes = list(self._hashes())
        assert self._as(self.token - 1, "drop_keys", hashes) == "stale"
        assert self._as(self.token, "drop_keys", hashes) == "dropped"
        assert not self.shard.valkey.exists(*hashes)
        self.rebuild = [self._read]

    def _read(self) -> None:
        """All from one look at the ledger; what the ledger does from here on comes as rows behind it."""
        self.model.recount()
        released = self.model.released
        chunks = [(name, fields) for name, fields in self._hashes().items() if fields]
        self.rebuild = [
            lambda: self._fill(chunks[0::2]),
            lambda: self._fill(chunks[1::2]),
            lambda: self._open(released),
        ]

    def _fill(self, chunks: list[tuple[str, dict[str, str]]]) -> None:
        for name, fields in chunks:
            flat = msgpack.packb([part for pair in fields.items() for part in pair])
            assert self._as(self.token - 1, "load_fields", [name], flat) == "stale"
            assert self._as(self.token, "load_fields", [name], flat) == "loaded"

    def _open(self, released: int) -> None:
        model = self.model
        assert self._as(self.token - 1, "open_loaded", [], model.ledger_epoch, released) == "stale"
        assert self._as(self.token, "open_loaded", [], model.ledger_epoch, released) == "opened"
        assert self._as(self.token, "open_loaded", [], model.ledger_epoch, released) == "stale"
        model.there, model.open, model.loaded, self.loading = True, True, self.token, None
        model.epoch, model.seq, model.applied = model.ledger_epoch, 0, 0

    # After every step.

    def _hashes(self) -> dict[str, dict[str, str]]:
        """All but the shard's own, as the rules have them."""
        model, keys = self.model, self.shard.keys
        acts = {f"|{who}|{key}": f"{content}|{epoch}|{seq}" for (who, key), (content, epoch, seq) in model.acts.items()}
        found = {keys.acts: acts}
        for no, sale in model.sales.items():
            facts: dict[str, Any] = {"hold": sale.hold, "opens_at": sale.opens_at, "closes_at": sale.closes_at}
            for at, item in sale.items.items():
                facts |= {f"{at}:price": item.price, f"{at}:limit": item.limit, f"{at}:stock": item.stock}
                facts |= {f"{at}:left": model.left(no, at), f"{at}:held": model.held(no, at)}
            found[keys.sale(no)] = {name: str(value) for name, value in facts.items()}
            found[keys.units(no)] = {f"{viewer}|{at}": str(n) for (viewer, at), n in model.units(no).items()}
            found[keys.answers(no)] = {
                f"{viewer}|{key}": f"{held.fingerprint}|{held.epoch}|{held.seq}|{held.at_ms}|{held.price}"
                for (viewer, key), held in model.answering(no).items()
            }
            late = [each for each in model.revivals if each.remembered and each.claim.sale_no == no]
            found[keys.late(no)] = {str(each.payment.no): f"{each.epoch}|{each.seq}" for each in late}
        return found

    def _facts(self) -> dict[str, str]:
        model = self.model
        if model.emptied:
            return {}
        facts: dict[str, Any] = {"open": int(model.open)}
        if model.there:
            facts |= {"epoch": model.epoch, "seq": model.seq, "applied": model.applied, "released": model.released}
        elif self.loading is not None:
            facts["loading"] = self.loading
        if model.loaded is not None:
            facts["loaded"] = model.loaded
        if model.opens_up_to is not None:
            facts["opens_up_to"] = model.opens_up_to
        return {name: str(value) for name, value in facts.items()}

    @invariant()
    def valkey_is_what_the_rules_say(self) -> None:
        self.count.operations += 1
        expected = self._hashes()
        pipe = self.shard.valkey.pipeline(transaction=False)
        for name in (self.shard.keys.shard, *expected):
            pipe.hgetall(name)
        pipe.xrange(self.shard.keys.stream)
        facts, *hashes, entries = pipe.execute()
        assert _text(facts) == self._facts()
        if self.model.there and not self.model.astray:
            assert dict(zip(expected, map(_text, hashes), strict=True)) == expected
        found = [(id.decode(), msgpack.unpackb(fields[b"o"])) for id, fields in entries]
        # The server trims by the page: of what may go it lets go what it likes, from the front.
        stream = self.model.stream
        gone = stream[: len(stream) - len(found)]
        assert all((entry.epoch, entry.last) < self.kept_from for entry in gone)
        assert found == [(f"{entry.epoch}-{entry.last}", entry.body) for entry in stream[len(gone) :]]

    @invariant()
    def units_and_numbers_are_accounted_for(self) -> None:
        model = self.model
        assert model.conserved()
        for no, sale in model.sales.items():
            assert all(had <= sale.items[item].limit for (_, item), had in model.units(no).items())
        last: dict[int, int] = {}
        for entry in model.stream:
            assert entry.first == last.get(entry.epoch, 0) + 1
            last[entry.epoch] = entry.last


def _text(found: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in found.items()}
