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
from tests.properties.coupon_rules import Coupon, Coupons
from tests.properties.profiles import Count
from tests.properties.rules import Shard
from tests.properties.things import MINUTE_MS, Item, Order, Row, Sale
from tests.support.lua_coupons import LARGEST, LuaCoupons, claim
from tests.support.lua_shard import LONG_AGO_MS, NEVER_LATE_MS, LuaShard, order

# Few names, so that requests meet each other.
VIEWERS = ("vw_1", "vw_2", "vw|3", "vw_4")
KEYS = ("a", "b", "c", "d", "e")
PRICES = (100, 250)
ITEMS = {7: {1: (100, 2, 0), 2: (2500, 3, 2300)}, 8: {1: (100, 4, 60)}}
"""By sale and item number: price, limit and floor."""
COUPONS = {31: {"kind": "amount", "value": 90}, 32: {"kind": "percent", "percent": 33, "sales": (7,)}, 33: {}}
"""By number. The last one draws between 1 and 300, and is good from 200 on."""
BUDGET_A_COPY = 40
NOWHERE = 99
OWN_KEY = "its own"
"""Made of what is asked, so that it is never used with other content."""
NEVER_FULL = 50_000
ANY = 99


@st.composite
def requests(draw: st.DrawFn) -> list[Any]:
    item, quantity = draw(st.integers(1, 2)), draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
    expect = draw(st.sampled_from([*[-1] * 16, 100 * quantity, 2500 * quantity, 1]))
    until_ms = draw(st.sampled_from([*[NEVER_LATE_MS] * 20, LONG_AGO_MS]))
    viewer, key = draw(st.sampled_from(VIEWERS)), draw(st.sampled_from(KEYS))
    asked = order(viewer, key, item=item, quantity=quantity, expect=expect, until_ms=until_ms, extra=key * quantity)
    return [*asked, draw(st.sampled_from([None, None, 0, 1, 2, 3, ANY]))]


@st.composite
def claims(draw: st.DrawFn) -> list[Any]:
    until_ms = draw(st.sampled_from([*[NEVER_LATE_MS] * 20, LONG_AGO_MS]))
    chance = draw(st.one_of(st.integers(0, LARGEST), st.just(LARGEST)))
    return claim(draw(st.sampled_from(VIEWERS)), draw(st.sampled_from(KEYS)), until_ms=until_ms, draw=chance)


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
        self.coupons = LuaCoupons(shard)
        self.count = count
        self.model: Shard
        self.token = 0
        self.loading: int | None = None
        """The token of the rebuild that fills the shard."""
        self.kept_from = (0, 0)
        """Entries of the stream before this place may be gone."""
        self.rebuild: list[Callable[[], None]] = []
        """Steps that a rebuild has yet to do."""

    @initialize(
        stocks=st.tuples(*[st.integers(1, 12)] * 3),
        opens_in=st.sampled_from([*[-1] * 9, 1]),
        copies=st.tuples(*[st.integers(1, 9)] * 3),
        by_drop=seldom,
    )
    def load(self, stocks: tuple[int, int, int], opens_in: int, copies: tuple[int, int, int], by_drop: bool) -> None:
        now_ms, left = self.shard.now_ms(), list(stocks)
        offer = {
            no: Sale(
                no,
                "active",
                now_ms + opens_in * MINUTE_MS,
                now_ms + 60 * MINUTE_MS,
                {item: Item(price, limit, left.pop(), floor) for item, (price, limit, floor) in items.items()},
            )
            for no, items in ITEMS.items()
        }
        self.model = Shard(offer, coupons=Coupons(_offered(copies, now_ms, by_drop)))
        assert self.shard.open() == ("created", 1, 0)
        for sale in offer.values():
            assert self._load(sale) == "loaded"
        for coupon_no in COUPONS:
            assert self._load_coupon(coupon_no) == "loaded"

    def _load(self, sale: Sale) -> str:
        items = [[no, item.price, item.limit, item.stock, item.floor, ""] for no, item in sale.items.items()]
        word: bytes = self.shard.call(
            "load_sale",
            [self.shard.keys.shard, self.shard.keys.sale(sale.no)],
            [self.model.ledger_epoch, sale.hold, sale.opens_at, sale.closes_at, msgpack.packb(items)],
        )
        return word.decode()

    def _load_coupon(self, coupon_no: int) -> str:
        facts, *_ = self.model.coupons.hashes(coupon_no, [])
        packed = msgpack.packb([part for pair in facts.items() for part in pair])
        names = [self.shard.keys.shard, self.shard.keys.coupon(coupon_no)]
        word: bytes = self.shard.call("load_coupon", names, [self.model.ledger_epoch, packed])
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
            self._name_claim(request, request.pop())
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

    def _name_claim(self, request: list[Any], which: int | None) -> None:
        """One of the viewer's claims that is free; now and then anybody's, or one that was never made."""
        if which is None:
            return
        model = self.model
        free = [each for each in model.coupons.claims if each.viewer == request[0] and model.holder(each) is None]
        named = model.coupons.claims if which == ANY else free
        if named:
            one = named[-1 - which % len(named)]
            coupon_no, place = one.coupon_no, one.field
        elif which == ANY:
            coupon_no, place = 33, "1|9999"
        else:
            return
        request[2] += f".{coupon_no}.{place.replace('|', '.')}"
        request += [coupon_no, place]

    # Claims.

    @rule(
        coupon_no=st.sampled_from([31, 32, 33, 33]),
        group=st.lists(claims(), min_size=1, max_size=6),
        backlog=st.sampled_from([*[NEVER_FULL] * 8, 12]),
        epoch=st.sampled_from([*[0] * 12, -1, 1]),
        seen=st.sampled_from([*[0] * 12, 1]),
        reply_lost=seldom,
    )
    def viewers_claim(
        self, coupon_no: int, group: list[list[Any]], backlog: int, epoch: int, seen: int, reply_lost: bool
    ) -> None:
        model = self.model
        for _ in range(2 if reply_lost else 1):
            asked = {"epoch": model.ledger_epoch + epoch, "seen": model.seq + seen}
            placed = self.coupons.claim(*group, coupon_no=coupon_no, backlog=backlog, **asked)
            no = model.stands(**asked)
            if no is None:
                expected = model.claim(coupon_no, group, now_ms=placed.now_ms, backlog=backlog)
                assert placed[:3] == ("open", model.epoch, model.seq)
                assert placed.answers == expected
            else:
                assert placed[:3] == (no.word, no.epoch, no.seq)
                assert placed.answers == []

    def _drop_coupon(self, coupon_no: int, for_ms: int, *, key: str, late: bool, epoch: int) -> None:
        model = self.model
        done = self.coupons.drop(
            coupon_no=coupon_no,
            for_ms=for_ms,
            key=key,
            fingerprint=f"drop.{coupon_no}.{for_ms}",
            until_ms=LONG_AGO_MS if late else NEVER_LATE_MS,
            epoch=model.ledger_epoch + epoch,
        )
        no = model.stands(model.ledger_epoch + epoch)
        if no is not None:
            assert done[:3] == ("epoch", no.epoch, no.seq)
            return
        word, seq, until_ms = model.drop(coupon_no, for_ms, actor="host_1", key=key, late=late, now_ms=done.now_ms)
        assert (*done[:3], done.claim_until_ms) == (word, model.epoch, seq, until_ms)

    def _coupon_ends(self, coupon_no: int, what: str) -> None:
        """The server's clock is its own: the coupon is moved past it instead."""
        if not self.model.there:
            return
        now_ms = self.shard.now_ms()
        until_ms = now_ms + 90 * MINUTE_MS if what == "is valid again" else now_ms - 1
        for coupon in (self.model.coupons.offered[coupon_no], self.model.coupons.ledger[coupon_no]):
            coupon.claim_until = until_ms
            if what != "claims end":
                coupon.valid_until = until_ms
        moved = self.model.coupons.offered[coupon_no]
        mapping = {"claim_until": moved.claim_until, "valid_until": moved.valid_until}
        self.shard.valkey.hset(self.shard.keys.coupon(coupon_no), mapping=mapping)

    # Acts, and time.

    @rule(
        what=st.sampled_from([*["act"] * 12, "time", "clocks", "drop", "drop", "coupons"]),
        act=st.sampled_from([*["open", "resume", "stock", "price", "plan"] * 3, "window", "window", "pause", "close"]),
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
        elif what == "coupons":
            self._coupon_ends(31 + value % 3, ["claims end", "expires", "is valid again", "is valid again"][value % 4])
        elif what == "drop":
            coupon_no, for_ms = 31 + value % 3, [0, 0, 30_000, 9 * 60 * MINUTE_MS][value % 4]
            key = f"drop{coupon_no}{for_ms}" if more["key"] == OWN_KEY else more["key"]
            for _ in range(2 if more["reply_lost"] else 1):
                self._drop_coupon(coupon_no, for_ms, key=key, late=more["late"], epoch=more["epoch"])
        else:
            more["item"] = min(more["item"], len(ITEMS[sale_no]))
            if more["key"] == OWN_KEY:
                more["key"] = f"{act}{sale_no}{more['item']}{value}"
            value, text = self._content(act, sale_no, value)
            for _ in range(2 if more.pop("reply_lost") else 1):
                self._act(act, sale_no, value=value, text=text, **more)

    def _content(self, act: str, sale_no: int, chance: int) -> tuple[int, str]:
        """Value and text of an act. A step in a moment is passed while the machine goes on."""
        now_ms, sale = self.shard.now_ms(), self.model.sales[sale_no]
        if act == "price":
            return PRICES[chance % 2], ""
        if act == "plan":
            steps = [(now_ms - 5, 130), (now_ms + 9, 40), (now_ms + MINUTE_MS, 300)]
            return 0, ";".join(f"{at}:{price}" for at, price in steps[: chance % 4])
        if act == "window":
            opens_at = sale.opens_at if chance % 3 else now_ms + MINUTE_MS
            return opens_at, str([sale.closes_at, now_ms + 70 * MINUTE_MS, now_ms - 1, opens_at][chance % 4])
        return chance, ""

    def _act(
        self, act: str, sale_no: int, *, item: int, value: int, text: str, who: str, key: str, late: bool, epoch: int
    ) -> None:
        model = self.model
        done = self.shard.act(
            act,
            sale_no=sale_no,
            item=item,
            value=value,
            actor=who,
            key=key,
            fingerprint=f"{act}.{sale_no}.{item}.{value}.{text}",
            reason="why",
            text=text,
            until_ms=LONG_AGO_MS if late else NEVER_LATE_MS,
            epoch=model.ledger_epoch + epoch,
        )
        no = model.stands(model.ledger_epoch + epoch)
        if no is not None:
            assert done[:3] == ("epoch", no.epoch, no.seq)
            return
        word, seq = model.act(sale_no, act, item, value, text, actor=who, key=key, late=late, now_ms=done.now_ms)
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
        count=st.sampled_from([6, 6, 6, 3, 1, 0]),
        refuse=st.lists(st.sampled_from([False] * 4 + [True]), min_size=6, max_size=6),
        mark=st.booleans(),
        acts=st.lists(
            st.tuples(some, st.sampled_from(["pay", "pay", "expire", "expire", "expire", "cancel", "refund"])),
            min_size=2,
            max_size=6,
        ),
    )
    def the_ledger_works(self, count: int, refuse: list[bool], mark: bool, acts: list[tuple[int, str]]) -> None:
        model = self.model
        for one in range(min(count, len(model.waiting()))):
            model.apply_next(refuse=refuse[one])
        for which, act in acts:
            open_ones = [each for each in model.orders if each.status in ("confirmed", "expired", "paid")]
            if open_ones:
                model.settle(_one_of(open_ones, which), act)
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
        packed = [_outbox_row(row) for row in rows]
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
        count=st.sampled_from([9, 9, 9, 4, 1, 0]),
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
            model.settle(_one_of(expired, which), "pay")
        waiting = [each for each in model.payments if each.state == "waiting" or not known]
        if not waiting:
            return
        payment = waiting[which % len(waiting)]
        hold = payment.order.hold
        for _ in range(2 if reply_lost else 1):
            before_ms = self.shard.now_ms()
            word, at_epoch, seq = self.shard.revive(
                payment.no,
                viewer=hold.viewer,
                item=hold.item,
                quantity=hold.quantity,
                order_id=payment.order.id,
                sale_no=hold.sale_no,
                epoch=model.ledger_epoch + epoch,
                claim=_named(payment.order),
                holder=f"{payment.order.epoch}:{payment.order.seq}",
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
        if known and word in ("sold_out", "limit_reached", "coupon_unusable"):
            model.refund(payment)

    # Epochs.

    @rule(
        how=st.sampled_from([*["stays"] * 12, "shut", "emptied", "moved"]),
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
            for coupon_no in COUPONS:
                assert self._load_coupon(coupon_no) == "there"
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
                facts |= {f"{at}:floor": item.floor} if item.floor else {}
                facts |= {f"{at}:plan": ";".join(f"{ms}:{price}" for ms, price in item.plan)} if item.plan else {}
            found[keys.sale(no)] = {name: str(value) for name, value in facts.items()}
            found[keys.units(no)] = {f"{viewer}|{at}": str(n) for (viewer, at), n in model.units(no).items()}
            found[keys.answers(no)] = {
                f"{viewer}|{key}": f"{held.fingerprint}|{held.epoch}|{held.seq}|{held.at_ms}|{held.price}"
                + (f"|{held.discount}" if held.discount else "")
                for (viewer, key), held in model.answering(no).items()
            }
            late = [each for each in model.revivals if each.remembered and each.hold.sale_no == no]
            found[keys.late(no)] = {str(each.payment.no): f"{each.epoch}|{each.seq}" for each in late}
        for no in COUPONS:
            found |= zip(self.coupons.keys_of(no), model.coupons.hashes(no, model.orders), strict=True)
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
        assert model.coupons.keeps_its_promises()
        assert model.discounts_are_fair()
        last: dict[int, int] = {}
        for entry in model.stream:
            assert entry.first == last.get(entry.epoch, 0) + 1
            last[entry.epoch] = entry.last


def _text(found: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in found.items()}


def _offered(copies: tuple[int, int, int], now_ms: int, by_drop: bool) -> dict[int, Coupon]:
    offered = {}
    for count, (no, facts) in zip(copies, COUPONS.items(), strict=True):
        window = (None if by_drop else now_ms - MINUTE_MS, now_ms + 60 * MINUTE_MS, now_ms + 90 * MINUTE_MS)
        drawn = {"kind": "random", "least": 1, "most": 300, "budget": BUDGET_A_COPY * count, "threshold": 200}
        terms: dict[str, Any] = facts or drawn
        offered[no] = Coupon(no=no, copies=count, limit=2, **terms, **dict(zip(_WINDOW, window, strict=True)))
    return offered


_WINDOW = ("claim_from", "claim_until", "valid_until")


def _one_of(orders: list[Order], which: int) -> Order:
    """One that redeems a claim, as often as not: most orders have none."""
    redeeming = [order for order in orders if order.claim is not None]
    return redeeming[which % len(redeeming)] if redeeming and which % 2 else orders[which % len(orders)]


def _named(asked: Order | None) -> tuple[int, str] | None:
    return None if asked is None or asked.claim is None else (asked.claim.coupon_no, asked.claim.field)


def _outbox_row(row: Row) -> list[Any]:
    """As the ledger has it, whose rows of orders that redeem a claim name it."""
    if row.hold is None:
        claim = row.claim
        assert claim is not None
        told = [row.no, 0, 0, claim.viewer, claim.key, row.epoch, row.seq, 0, row.kind]
        return [*told, claim.coupon_no, claim.field]
    hold, key = row.hold, "" if row.order is None else row.order.key
    told = [row.no, hold.sale_no, hold.item, hold.viewer, key, row.epoch, row.seq, hold.quantity, row.kind]
    return [*told, *(_named(row.order) or ())]
