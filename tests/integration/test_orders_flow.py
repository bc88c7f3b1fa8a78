import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import msgspec
import pytest

from gateway.admission.limiter import Limiter
from gateway.domain.caller import Caller, Role
from gateway.domain.coupon import Claim, Coupon
from gateway.domain.ids import ClaimPlace, IdMint, OrderId, SaleId, Sku
from gateway.domain.links import LinkSeal
from gateway.domain.order import MAX_META_BYTES, Order, OrderAnswer, OrderOutcome, OrderRequest, OrderStatus
from gateway.domain.sale import Item, Sale, SaleHold, StockDisplay
from gateway.errors import Forbidden, Invalid, LedgerUnavailable, NotFound, Overloaded, Unavailable
from gateway.flows import order_watch
from gateway.flows.coupon_book import CouponBook
from gateway.flows.order_watch import ASK_AFTER_S, OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.place_order import PlaceOrder
from gateway.flows.sale_book import SaleBook
from gateway.metrics import REFS_IGNORED
from gateway.wire import bus
from gateway.wire.codec import MSGPACK
from tests.support.coupons import coupon
from tests.support.fake_clock import FakeClock
from tests.support.servers import eventually
from tests.support.shop_floor import SHOP, ShopFloor, item, make_sale, shop_floor

MINT = IdMint(b"k" * 32)
LINKS = LinkSeal(b"k" * 32)
REF, OTHER_REF = LINKS.ref("tins", 1_000, 1), LINKS.ref("tins", 1_000, 2)
VIEWER = Caller(shop="tins", sub="vw_1", role=Role.VIEWER, expires_at_s=2**31)
HOST = Caller(shop="tins", sub="host_1", role=Role.HOST, expires_at_s=2**31)


def a_sale(sale_no: int = 7, *, shop: str = "tins") -> Sale:
    return Sale(
        sale=MINT.sale(1_000, sale_no),
        sale_no=sale_no,
        shop=shop,
        shard=0,
        room=None,
        title="Tins",
        currency="EUR",
        hold=SaleHold.ACTIVE,
        opens_at_ms=1_000,
        closes_at_ms=2_000,
        pay_within_s=300,
        stock_display=StockDisplay.EXACT,
        created_at_ms=0,
        items=(Item(item_no=3, sku=Sku("tin"), title="Tin", price_minor=1900, stock=10, limit_per_viewer=2),),
    )


# Placing.


class Sales:
    """The ledger's sales, as slow as a test says."""

    def __init__(self, *sales: Sale) -> None:
        self._sales = {sale.sale_no: sale for sale in sales}
        self.asked: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def find(self, sale_no: int) -> Sale | None:
        self.asked.append(sale_no)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self._sales.get(sale_no)


class Group:
    """Answers every request as it is told, at once."""

    def __init__(self) -> None:
        self.requests: list[OrderRequest] = []
        self.error: Exception | None = None
        self.answer = OrderAnswer(OrderOutcome.RESERVED, order=MINT.order(5, 7, 1, 1), amount_minor=1900)

    def submit(self, request: OrderRequest) -> None:
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        request.answer(self.answer)


class Watch:
    def __init__(self) -> None:
        self.orders: list[tuple[str, bool]] = []

    def placed(self, order: OrderId, *, sale_no: int, shop: str, viewer: str, ask_now: bool) -> None:
        assert (sale_no, shop, viewer) == (7, "tins", "vw_1")
        self.orders.append((order, ask_now))


class Coupons:
    """One of either shop, by their numbers."""

    async def find(self, coupon_no: int) -> Coupon | None:
        shop = {1: "tins", 2: "cups"}.get(coupon_no)
        return shop and coupon(coupon_no=coupon_no, coupon=MINT.coupon(1, coupon_no), shop=shop)


class NoClaims:
    async def claims_by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Claim]:
        raise AssertionError("no claim was made")

    async def lost_claims(self, places: Sequence[ClaimPlace], claim_ids: Sequence[str]) -> set[str]:
        raise AssertionError("no claim was made")


class Counter:
    """An order desk with everything around it in a test's hand."""

    def __init__(self, *, rate: float = 1_000, burst: int = 1_000) -> None:
        self.clock = FakeClock()
        self.sales = Sales(a_sale(), a_sale(8, shop="cups"))
        self.group = Group()
        self.retired = Group()
        self.watch = Watch()
        self.book = SaleBook(sales=self.sales, mint=MINT, clock=self.clock)
        self.coupons = CouponBook(coupons=Coupons(), mint=MINT, clock=self.clock)
        self.flow = PlaceOrder(
            book=self.book,
            coupons=self.coupons,
            mint=MINT,
            groups=lambda shard: self.group,
            retired=self.retired,
            limiter=Limiter(rate=rate, burst=burst),
            watch=self.watch,
            links=LINKS,
            clock=self.clock,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Counter"]:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.flow.run())
            await asyncio.sleep(0)
            try:
                yield self
            finally:
                running.cancel()

    async def ask(self, caller: Caller = VIEWER, **changed: Any) -> OrderAnswer:
        order = {"sale": a_sale().sale, "sku": "tin", "quantity": 1, "key": "k1"} | changed
        return await asyncio.wait_for(self.flow.ask(caller, **order), 5)


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    async with Counter().open() as counter:
        yield counter


async def test_an_order_goes_to_the_group_of_its_sale_and_is_watched(counter: Counter) -> None:
    answer = await counter.ask(quantity=2, expect_amount_minor=3800, ref=REF, meta={"b": 1, "a": [None]})
    assert answer is counter.group.answer
    (request,) = counter.group.requests
    assert (request.sale_no, request.item_no, request.viewer, request.key) == (7, 3, "vw_1", "k1")
    assert (request.quantity, request.expect_amount_minor) == (2, 3800)
    assert json.loads(request.extra) == {"ref": REF, "meta": {"a": [None], "b": 1}}
    assert counter.watch.orders == [(answer.order, False)]


async def test_a_replayed_order_is_asked_for_at_once(counter: Counter) -> None:
    counter.group.answer = msgspec.structs.replace(counter.group.answer, replayed=True)
    await counter.ask()
    assert [ask_now for _, ask_now in counter.watch.orders] == [True]


async def test_the_same_content_has_the_same_fingerprint_and_other_content_another(counter: Counter) -> None:
    contents: list[dict[str, Any]] = [
        {},
        {"quantity": 2},
        {"expect_amount_minor": 1900},
        {"ref": REF},
        {"meta": {"a": 1, "b": 2}},
        {"meta": {"a": 1, "b": 3}},
        {"pickup": True},
        {"pickup": "Front desk"},
        {"pickup": "true"},
    ]
    for content in contents:
        await counter.ask(**content)
    await counter.ask(meta={"b": 2, "a": 1})
    *prints, again = [request.fingerprint for request in counter.group.requests]
    assert len(set(prints)) == len(contents)
    assert again == prints[4], "the order of a map's keys is no content"
    assert all("|" not in each and len(each) < 60 for each in prints)


async def test_the_reference_of_the_token_stands_in_for_one_of_the_order(counter: Counter) -> None:
    caller = msgspec.structs.replace(VIEWER, ref=REF)
    await counter.ask(caller)
    await counter.ask(caller, ref=OTHER_REF)
    assert [json.loads(request.extra)["ref"] for request in counter.group.requests] == [REF, OTHER_REF]


async def test_the_same_order_under_a_token_of_another_link_is_the_same_content(counter: Counter) -> None:
    for ref in (REF, OTHER_REF, None):
        await counter.ask(msgspec.structs.replace(VIEWER, ref=ref), meta=1)
    assert len({request.fingerprint for request in counter.group.requests}) == 1


@pytest.mark.parametrize(
    "ref",
    [
        REF[:-1] + ("0" if REF[-1] != "0" else "1"),
        "ref_" + "0" * 24,
        "guide-7",
        "ref_" + "\N{KELVIN SIGN}" * 24,
        REF + "0",
        LINKS.ref("cups", 1_000, 1),
    ],
)
async def test_a_reference_that_is_none_of_the_shop_is_invalid_in_an_order_and_nothing_in_a_token(
    counter: Counter, ref: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await counter.ask(ref=ref)
    assert refused.value.param == "ref"
    assert counter.group.requests == []
    ignored = REFS_IGNORED.value
    await counter.ask(msgspec.structs.replace(VIEWER, ref=ref))
    assert (counter.group.requests[0].extra, REFS_IGNORED.value) == ("", ignored + 1)


async def test_an_order_without_reference_and_meta_carries_nothing(counter: Counter) -> None:
    await counter.ask()
    await counter.ask(pickup=False)
    assert [request.extra for request in counter.group.requests] == ["", ""]


@pytest.mark.parametrize("role", [Role.HOST, Role.CLERK, Role.SERVICE])
async def test_only_viewers_place_orders(counter: Counter, role: Role) -> None:
    with pytest.raises(Forbidden):
        await counter.ask(msgspec.structs.replace(VIEWER, role=role))
    assert counter.group.requests == []


@pytest.mark.parametrize("sale", ["", "sale_1", "nonsense", MINT.sale(1_000, 99), MINT.sale(2_000, 7), a_sale(8).sale])
async def test_a_sale_that_is_none_of_this_shop_is_not_found(counter: Counter, sale: str) -> None:
    with pytest.raises(NotFound):
        await counter.ask(sale=SaleId(sale))
    with pytest.raises(NotFound):
        await counter.ask(sale=SaleId(sale))
    assert counter.group.requests == []


async def test_a_sku_that_is_none_of_the_sale_is_not_found_and_named(counter: Counter) -> None:
    for _ in range(2):
        with pytest.raises(NotFound) as caught:
            await counter.ask(sku="cup")
        assert caught.value.param == "sku"


async def test_meta_is_bounded(counter: Counter) -> None:
    await counter.ask(meta="x" * (MAX_META_BYTES - 2))
    with pytest.raises(Invalid) as caught:
        await counter.ask(meta="x" * (MAX_META_BYTES - 1))
    assert caught.value.param == "meta"
    with pytest.raises(Invalid):
        await counter.ask(meta="é" * (MAX_META_BYTES // 2))


@pytest.mark.parametrize(
    "meta",
    [{1: "a"}, {b"a": 1}, {None: 1}, {True: 1}, {1: 1, "a": 2}, msgpack.ExtType(5, b"x"), [[{2: 2}]]],
    ids=repr,
)
async def test_meta_that_is_no_json_is_invalid_whatever_the_codec_lets_pass(counter: Counter, meta: object) -> None:
    frame = {"t": "order", "id": "k1", "sale": a_sale().sale, "sku": "tin", "quantity": 1, "meta": meta}
    read = MSGPACK.decode(msgpack.packb(frame))
    with pytest.raises(Invalid) as caught:
        await counter.ask(meta=read.meta)  # type: ignore[union-attr]
    assert caught.value.param == "meta"
    assert counter.group.requests == []


async def test_too_many_attempts_are_told_when_to_come_again_and_reach_nobody() -> None:
    async with Counter(rate=1, burst=2).open() as counter:
        await counter.ask()
        await counter.ask(key="k2")
        answer = await counter.ask(key="k3")
        assert answer.outcome is OrderOutcome.TOO_FAST
        assert 0 < answer.retry_after_ms <= 1_001
        assert len(counter.group.requests) == 2
        counter.clock.advance(answer.retry_after_ms / 1000)
        assert (await counter.ask(key="k3")).outcome is OrderOutcome.RESERVED


async def test_a_sale_is_looked_up_once_however_many_order_in_that_moment(counter: Counter) -> None:
    counter.sales.gate.clear()
    orders = [asyncio.ensure_future(counter.ask(key=f"k{at}")) for at in range(100)]
    while not counter.sales.asked:  # noqa: ASYNC110 - a turn of the loop at a time
        await asyncio.sleep(0)
    counter.sales.gate.set()
    await asyncio.gather(*orders)
    await counter.ask(key="later")
    assert counter.sales.asked == [7]
    assert len(counter.group.requests) == 101


async def test_a_ledger_that_is_away_in_the_look_up_means_that_nothing_happened(counter: Counter) -> None:
    counter.sales.error = LedgerUnavailable("away")
    with pytest.raises(Unavailable):
        await counter.ask()
    counter.sales.error = None
    assert (await counter.ask()).outcome is OrderOutcome.RESERVED


async def test_a_process_that_goes_away_takes_no_more(counter: Counter) -> None:
    counter.flow.stop_admitting()
    with pytest.raises(Unavailable):
        await counter.ask()


async def test_a_full_queue_is_answered_and_not_raised(counter: Counter) -> None:
    await counter.ask()
    counter.group.error = Overloaded(retry_after_ms=300)
    answers: list[object] = []
    counter.flow.submit(VIEWER, sale=a_sale().sale, sku="tin", quantity=1, key="k1", answer=answers.append)
    assert [type(answer) for answer in answers] == [Overloaded]


async def test_a_caller_who_left_before_the_answer_leaves_the_order_watched(counter: Counter) -> None:
    await counter.ask()
    held: list[OrderRequest] = []
    counter.group.submit = held.append  # type: ignore[method-assign]
    asking = asyncio.ensure_future(counter.ask(key="k2"))
    while not held:  # noqa: ASYNC110 - a turn of the loop at a time
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    held[0].answer(counter.group.answer)
    assert len(counter.watch.orders) == 2


# Watching.


class CountingClock(FakeClock):
    """Tells when it was looked at, so that a test knows that the watch has had a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic()


class LedgerOrders:
    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.asked: list[list[tuple[int, str]]] = []
        self.error: Exception | None = None

    async def by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Order]:
        self.asked.append(list(places))
        if self.error is not None:
            raise self.error
        return {order: self.orders[order] for _, order in places if order in self.orders}

    async def lost(self, places: Any, order_ids: Any) -> set[str]:
        return set()

    async def by_keys(self, keys: Any) -> Any: ...
    async def own(self, **page: Any) -> Any: ...
    async def of_sale(self, sale_no: int, **page: Any) -> Any: ...

    def has(self, order: str, *, viewer: str = "vw_1", status: OrderStatus = OrderStatus.CONFIRMED) -> None:
        self.orders[order] = Order(
            order=OrderId(order),
            sale_no=7,
            item_no=1,
            viewer=viewer,
            key="k1",
            quantity=1,
            price_minor=1900,
            discount_minor=0,
            amount_minor=1900,
            status=status,
            reason=None if status is OrderStatus.CONFIRMED else "stock",
            created_at_ms=5,
            pay_by_ms=9_000 if status is OrderStatus.CONFIRMED else None,
            extra="",
        )


class Socket:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, bool]] = []

    def order_changed(self, state: bus.LaterState, *, placed_here: bool) -> None:
        self.told.append((state.order, state.status, placed_here))

    def claim_changed(self, state: bus.LaterClaim, *, placed_here: bool) -> None:
        self.told.append((state.claim, state.state, placed_here))


class Post:
    """A watch at work, and the turns it has taken."""

    def __init__(self) -> None:
        self.clock = CountingClock()
        self.ledger = LedgerOrders()
        self.watch = OrderWatch(ledger=self.ledger, claims=NoClaims(), mint=MINT, clock=self.clock)
        self.socket = Socket()
        self.watch.join("tins", "vw_1", self.socket)

    def placed(self, order: str, *, ask_now: bool = False) -> None:
        self.watch.placed(OrderId(order), sale_no=7, shop="tins", viewer="vw_1", ask_now=ask_now)

    def hear(self, *orders: str, viewer: str = "vw_1", status: str = "confirmed", shop: str = "tins") -> None:
        states = [bus.LaterState(viewer, order, status, 9_000) for order in orders]
        message = bus.Applied(0, 1, 1, msgspec.Raw(bus.encode_shops([bus.ShopOrders(shop, states)])))
        heard = bus.decode(bus.encode(message))
        assert isinstance(heard, bus.Applied)
        self.watch.hear(heard)

    async def turns(self, count: int = 2) -> None:
        until = self.clock.looks + count

        async def taken() -> bool:
            return self.clock.looks >= until

        await eventually(taken)


@pytest.fixture
async def post(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Post]:
    monkeypatch.setattr(order_watch, "_ASK_EVERY_S", 0.002)
    post = Post()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(post.watch.run())
        yield post
        running.cancel()


async def test_a_state_heard_on_the_bus_reaches_every_socket_of_its_viewer_and_nobody_else(post: Post) -> None:
    second, stranger, other_shop = Socket(), Socket(), Socket()
    post.watch.join("tins", "vw_1", second)
    post.watch.join("tins", "vw_2", stranger)
    post.watch.join("cups", "vw_1", other_shop)
    post.placed("ord_1")
    post.hear("ord_1")
    assert post.socket.told == second.told == [("ord_1", "confirmed", True)]
    assert stranger.told == other_shop.told == []


async def test_a_state_of_an_order_placed_elsewhere_reaches_the_viewers_socket_here(post: Post) -> None:
    post.hear("ord_9")
    assert post.socket.told == [("ord_9", "confirmed", False)]


async def test_a_socket_that_left_hears_nothing(post: Post) -> None:
    post.watch.leave("tins", "vw_1", post.socket)
    post.watch.leave("tins", "vw_1", post.socket)
    post.hear("ord_1")
    assert post.socket.told == []
    assert not post.watch.sinks_of("tins", "vw_1")


async def test_a_message_the_bus_lost_is_asked_for_after_two_seconds_and_not_before(post: Post) -> None:
    post.ledger.has("ord_1")
    post.placed("ord_1")
    post.clock.advance(ASK_AFTER_S - 0.1)
    await post.turns()
    assert post.ledger.asked == []
    post.clock.advance(0.2)
    await post.turns()
    assert post.ledger.asked == [[(7, "ord_1")]]
    assert post.socket.told == [("ord_1", "confirmed", True)]


async def test_what_was_heard_is_never_asked_for(post: Post) -> None:
    post.placed("ord_1")
    post.hear("ord_1")
    post.clock.advance(ASK_AFTER_S * 2)
    await post.turns()
    assert post.ledger.asked == []


async def test_what_was_heard_before_it_was_known_to_be_placed_here_is_not_asked_for(post: Post) -> None:
    post.hear("ord_1")
    post.placed("ord_1")
    post.clock.advance(ASK_AFTER_S * 2)
    await post.turns()
    assert post.ledger.asked == []
    assert post.socket.told == [("ord_1", "confirmed", False)]


async def test_an_order_the_ledger_does_not_have_yet_is_asked_for_again(post: Post) -> None:
    post.placed("ord_1")
    post.clock.advance(ASK_AFTER_S + 0.1)
    await post.turns(4)
    assert post.ledger.asked == [[(7, "ord_1")]], "once a while, not at every turn"
    post.ledger.has("ord_1")
    post.clock.advance(ASK_AFTER_S + 0.1)
    await post.turns()
    assert post.socket.told == [("ord_1", "confirmed", True)]


async def test_orders_that_wait_are_asked_for_in_one_query(post: Post) -> None:
    for at in range(500):
        post.ledger.has(f"ord_{at}")
        post.placed(f"ord_{at}")
    post.clock.advance(ASK_AFTER_S + 0.1)
    await post.turns()
    assert [len(asked) for asked in post.ledger.asked] == [500]
    assert len(post.socket.told) == 500


async def test_a_replay_is_asked_for_now(post: Post) -> None:
    post.ledger.has("ord_1", status=OrderStatus.REFUSED)
    post.placed("ord_1", ask_now=True)
    await post.turns()
    assert post.ledger.asked == [[(7, "ord_1")]]
    assert post.socket.told == [("ord_1", "refused", True)]


async def test_a_replay_of_an_order_heard_of_before_is_told_to_the_socket_that_asks(post: Post) -> None:
    """A viewer's first socket was told and is gone; the one that repeats the key must be told as well."""
    post.hear("ord_1")
    post.watch.leave("tins", "vw_1", post.socket)
    fresh = Socket()
    post.watch.join("tins", "vw_1", fresh)
    post.ledger.has("ord_1")
    post.placed("ord_1", ask_now=True)
    post.clock.advance(ASK_AFTER_S * 2)
    await post.turns(4)
    assert [told[:2] for told in fresh.told] == [("ord_1", "confirmed")]


async def test_a_ledger_that_is_away_is_asked_again_later(post: Post) -> None:
    post.ledger.error = LedgerUnavailable("away")
    post.ledger.has("ord_1")
    post.placed("ord_1")
    post.clock.advance(ASK_AFTER_S + 0.1)
    await post.turns()
    assert post.socket.told == []
    post.ledger.error = None
    post.clock.advance(ASK_AFTER_S + 0.1)
    await post.turns()
    assert post.socket.told == [("ord_1", "confirmed", True)]


async def test_a_later_state_after_the_first_is_told_as_well(post: Post) -> None:
    post.placed("ord_1")
    post.hear("ord_1")
    post.hear("ord_1", status="expired")
    assert [status for _, status, _ in post.socket.told] == ["confirmed", "expired"]


@pytest.mark.parametrize("placed_here", [True, False])
async def test_who_listens_to_an_order_hears_its_next_state(post: Post, placed_here: bool) -> None:
    """Also over HTTP, where the viewer has no socket, and wherever the order was placed."""
    post.watch.leave("tins", "vw_1", post.socket)
    if placed_here:
        post.placed("ord_1")
    with post.watch.listening(OrderId("ord_1")) as heard:
        post.hear("ord_2")
        assert not heard.done()
        post.hear("ord_1")
        assert heard.done()
        assert heard.result().status == "confirmed"


async def test_a_listener_who_left_is_forgotten(post: Post) -> None:
    post.placed("ord_1")
    with post.watch.listening(OrderId("ord_1")) as heard:
        heard.cancel()
        post.hear("ord_1")
    with post.watch.listening(OrderId("ord_1")):
        pass
    assert post.watch._futures == {}


async def test_a_claim_goes_with_the_order_and_makes_its_content_another_one() -> None:
    async with Counter().open() as counter:
        claim = MINT.claim(5_000, 1, 3, 4)
        await counter.ask(coupon_claim=claim)
        await counter.ask()
        with_claim, without = counter.group.requests
        assert with_claim.claim == ClaimPlace(5_000, 1, 3, 4)
        assert (with_claim.currency, without.claim) == ("EUR", None)
        assert with_claim.fingerprint != without.fingerprint
        assert "|" not in with_claim.fingerprint


async def test_what_is_no_claim_is_invalid_and_one_of_another_shop_cannot_be_used() -> None:
    async with Counter().open() as counter:
        for wrong in ("", "clm_1", MINT.order(5_000, 1, 3, 4), IdMint(b"other").claim(5_000, 1, 3, 4)):
            with pytest.raises(Invalid) as refused:
                await counter.ask(coupon_claim=wrong)
            assert refused.value.param == "coupon_claim"
        for coupon_no in (2, 3):
            answer = await counter.ask(coupon_claim=MINT.claim(5_000, coupon_no, 3, 4))
            assert answer.outcome is OrderOutcome.COUPON_UNUSABLE
        assert counter.group.requests == []


async def test_a_claim_that_was_lost_with_its_server_is_told_to_be_refused() -> None:
    class Claims:
        async def claims_by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Claim]:
            return {}

        async def lost_claims(self, places: Sequence[ClaimPlace], claim_ids: Sequence[str]) -> set[str]:
            return set(claim_ids)

    clock = FakeClock()
    watch = OrderWatch(ledger=LedgerOrders(), claims=Claims(), mint=MINT, clock=clock)
    socket = Socket()
    watch.join("tins", "vw_1", socket)
    claim = MINT.claim(5_000, 1, 1, 4)
    watch.claimed(claim, coupon_no=1, shop="tins", viewer="vw_1")
    await watch._ask()
    assert socket.told == []
    clock.advance(ASK_AFTER_S)
    await watch._ask()
    await watch._ask()
    assert socket.told == [(claim, "refused", True)]


async def test_a_claim_that_is_heard_of_is_told_to_its_viewer_alone_and_asked_for_no_more() -> None:
    clock = FakeClock()
    watch = OrderWatch(ledger=LedgerOrders(), claims=NoClaims(), mint=MINT, clock=clock)
    mine, others = Socket(), Socket()
    watch.join("tins", "vw_1", mine)
    watch.join("tins", "vw_2", others)
    claim = MINT.claim(5_000, 1, 1, 4)
    watch.claimed(claim, coupon_no=1, shop="tins", viewer="vw_1")
    told = bus.ShopOrders("tins", [], [bus.LaterClaim("vw_1", claim, "confirmed")])
    watch.hear(bus.Applied(0, 1, 1, msgspec.Raw(bus.encode_shops([told]))))
    assert (mine.told, others.told) == ([(claim, "confirmed", True)], [])
    clock.advance(ASK_AFTER_S)
    await watch._ask()
    watch.hear(bus.LaterStates(msgspec.Raw(bus.encode_shops([told]))))
    assert mine.told == [(claim, "confirmed", True), (claim, "confirmed", False)]


# Reading, from real servers.


class Reading:
    def __init__(self, floor: ShopFloor) -> None:
        self.floor = floor
        self.book = SaleBook(sales=floor.sales, mint=floor.mint, clock=floor.clock)
        self.watch = OrderWatch(ledger=floor.ledger_orders, claims=floor.coupons, mint=floor.mint, clock=floor.clock)
        self.reader = OrderReader(
            ledger=floor.ledger_orders, held={0: floor.held}, book=self.book, watch=self.watch, mint=floor.mint
        )

    async def by_key(self, key: str = "k1") -> Order:
        return await self.reader.by_key(VIEWER, self.floor.sale.sale, key)


@pytest.fixture
async def reading(database_url: str, valkey_url: str) -> AsyncIterator[Reading]:
    assert VIEWER.shop == SHOP
    async with shop_floor(database_url, valkey_url, items=[item(stock=20, limit=20)]) as floor:
        yield Reading(floor)


async def test_an_order_is_read_by_its_id_from_the_moment_it_is_reserved(reading: Reading) -> None:
    floor = reading.floor
    ids = await floor.reserve(
        floor.request("vw_0"), floor.request("vw_1", quantity=2, extra='{"ref":"r"}'), floor.request("vw_2")
    )
    before = await reading.reader.by_id(VIEWER, ids[1])
    assert (before.order, before.viewer, before.key, before.status) == (ids[1], "vw_1", "k1", OrderStatus.RESERVED)
    assert (before.quantity, before.price_minor, before.amount_minor, before.extra) == (2, 1900, 3800, '{"ref":"r"}')
    assert before.pay_by_ms is None
    await floor.written()
    after = await reading.reader.by_id(VIEWER, ids[1])
    assert after.status is OrderStatus.CONFIRMED
    assert after.pay_by_ms is not None
    assert msgspec.structs.replace(after, status=before.status, pay_by_ms=None) == before


async def test_an_order_is_found_at_every_moment_between_reserved_and_confirmed(reading: Reading) -> None:
    floor = reading.floor
    ids = await floor.reserve(*(floor.request("vw_1", f"k{at}") for at in range(10)))
    seen = []
    async with floor.writing():
        while not seen or seen[-1] is not OrderStatus.CONFIRMED:
            by_id = await reading.reader.by_id(VIEWER, ids[7])
            by_key = await reading.by_key("k7")
            assert by_id.order == by_key.order == ids[7]
            seen.append(by_key.status)
    assert set(seen) <= {OrderStatus.RESERVED, OrderStatus.CONFIRMED}


async def test_an_order_the_stream_forgot_is_in_the_ledger(reading: Reading) -> None:
    (order,) = await reading.floor.reserve(reading.floor.request("vw_1"))
    await reading.floor.written()
    await reading.floor.client.delete(reading.floor.keys.stream)
    assert (await reading.reader.by_id(VIEWER, order)).status is OrderStatus.CONFIRMED


async def test_who_may_read_an_order_by_its_id(reading: Reading) -> None:
    (order,) = await reading.floor.reserve(reading.floor.request("vw_1"))
    for written in (False, True):
        if written:
            await reading.floor.written()
        assert (await reading.reader.by_id(VIEWER, order)).order == order
        assert (await reading.reader.by_id(HOST, order)).order == order
        for stranger in (
            msgspec.structs.replace(VIEWER, sub="vw_2"),
            msgspec.structs.replace(VIEWER, shop="cups"),
            msgspec.structs.replace(HOST, shop="cups"),
        ):
            with pytest.raises(NotFound):
                await reading.reader.by_id(stranger, order)


def ids_of_nothing(reading: Reading) -> Iterator[str]:
    mint, sale_no = reading.floor.mint, reading.floor.sale.sale_no
    yield "ord_1"
    yield MINT.order(5, sale_no, 1, 1)
    yield mint.order(5, sale_no, 1, 99)
    yield mint.order(5, sale_no + 1, 1, 1)
    yield mint.order(5, sale_no, 2, 1)


async def test_an_id_that_names_no_order_is_not_found(reading: Reading) -> None:
    await reading.floor.reserve(reading.floor.request("vw_1"))
    for order in ids_of_nothing(reading):
        with pytest.raises(NotFound):
            await reading.reader.by_id(VIEWER, order)


async def test_an_id_with_the_wrong_time_for_its_place_is_not_another_orders(reading: Reading) -> None:
    (order,) = await reading.floor.reserve(reading.floor.request("vw_1"))
    place = reading.floor.mint.read_order(order)
    assert place is not None
    other = reading.floor.mint.order(place.at_ms + 1, place.sale_no, place.epoch, place.seq)
    with pytest.raises(NotFound):
        await reading.reader.by_id(VIEWER, other)


async def test_a_key_that_holds_nothing_is_not_found_until_it_does(reading: Reading) -> None:
    with pytest.raises(NotFound):
        await reading.by_key()
    (order,) = await reading.floor.reserve(reading.floor.request("vw_1"))
    assert (await reading.by_key()).order == order
    await reading.floor.written()
    await reading.floor.client.flushall()
    assert (await reading.by_key()).order == order


async def test_keys_of_several_sales_are_answered_in_their_order(reading: Reading) -> None:
    floor = reading.floor
    other = await make_sale(floor, key="sale_2")
    (first,) = await floor.reserve(floor.request("vw_1", "a"))
    await floor.written()
    (second,) = await floor.reserve(floor.request("vw_1", "b"))
    found = await reading.reader.by_keys("vw_1", [(floor.sale, "b"), (other, "a"), (floor.sale, "a")])
    assert [order and order.order for order in found] == [second, None, first]


async def test_a_key_never_says_reserved_of_an_order_the_ledger_has_refused(reading: Reading) -> None:
    """Between the refusal and its release in Valkey the key still points at the stream."""
    floor = reading.floor
    (order,) = await floor.reserve(floor.request("vw_1"))
    await floor.ledger.execute("UPDATE sales SET hold = 'paused'")
    await floor.written()
    found = await reading.by_key()
    assert (found.order, found.status) == (order, OrderStatus.REFUSED)


async def test_a_waiting_reader_learns_of_the_confirmation_by_the_bus_and_of_one_that_was_there_before(
    reading: Reading,
) -> None:
    floor = reading.floor
    (order,) = await floor.reserve(floor.request("vw_1"))
    reading.watch.placed(OrderId(order), sale_no=floor.sale.sale_no, shop=SHOP, viewer="vw_1")
    waiting = asyncio.ensure_future(reading.reader.confirmed(OrderId(order), 10))

    async def listens() -> bool:
        return order in reading.watch._futures

    await eventually(listens)
    await floor.written()
    for message in floor.heard.messages:
        assert isinstance(message, bus.Applied)
        reading.watch.hear(bus.decode(bus.encode(message)))  # type: ignore[arg-type]
    confirmed = await waiting
    assert confirmed is not None and confirmed.status is OrderStatus.CONFIRMED
    again = await reading.reader.confirmed(OrderId(order), 10)
    assert again == confirmed


async def test_a_wait_that_ends_before_the_ledger_has_the_order_says_nothing(reading: Reading) -> None:
    (order,) = await reading.floor.reserve(reading.floor.request("vw_1"))
    assert await reading.reader.confirmed(OrderId(order), 0.01) is None
    assert await reading.reader.confirmed(OrderId("ord_forged"), 0.01) is None


@pytest.mark.parametrize("answers", [0, 1])
async def test_a_wait_ends_in_time_on_a_ledger_that_hangs(reading: Reading, answers: int) -> None:
    """At the first question, and at the one that follows the word of the confirmation."""
    floor = reading.floor
    (order,) = await floor.reserve(floor.request("vw_1"))
    asked = 0

    class HangingLedger:
        def __getattr__(self, name: str) -> Any:
            return getattr(floor.ledger_orders, name)

        async def by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Order]:
            nonlocal asked
            asked += 1
            if asked > answers:
                await asyncio.Event().wait()
            return await floor.ledger_orders.by_place(places)

    reader = OrderReader(
        ledger=HangingLedger(), held={0: floor.held}, book=reading.book, watch=reading.watch, mint=floor.mint
    )
    waiting = asyncio.ensure_future(reader.confirmed(OrderId(order), 1.0))

    async def has_asked() -> bool:
        return asked == 1 and order in reading.watch._futures

    await eventually(has_asked)
    await floor.written()
    for message in floor.heard.messages:
        reading.watch.hear(bus.decode(bus.encode(message)))
    async with asyncio.timeout(5):
        assert await waiting is None
    assert asked == answers + 1
    assert order not in reading.watch._futures


async def test_a_viewers_own_orders_come_newest_first_in_pages(reading: Reading) -> None:
    floor = reading.floor
    ids = []
    for at in range(7):
        ids += await floor.reserve(floor.request("vw_1", f"k{at}"), floor.request("vw_2", f"k{at}"))
    await floor.written()
    mine = ids[0::2]
    found: list[str] = []
    after: str | None = None
    while True:
        page, after = await reading.reader.own(VIEWER, limit=3, after=after)
        found += [order.order for order in page]
        assert len(page) <= 3
        if after is None:
            break
    assert found == mine[::-1]
    assert await reading.reader.own(msgspec.structs.replace(VIEWER, shop="cups"), limit=3, after=None) == ([], None)


async def test_a_hosts_orders_of_a_sale_come_in_the_order_they_were_decided_of_one_status_or_all(
    reading: Reading,
) -> None:
    floor = reading.floor
    ids = await floor.reserve(*(floor.request(f"vw_{at}") for at in range(5)))
    await floor.written()
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "1:price", "1")
    ids += await floor.reserve(floor.request("vw_9"))
    await floor.written()
    sale = floor.sale.sale
    everything, end = await reading.reader.of_sale(HOST, sale, status=None, limit=10, after=None)
    assert ([order.order for order in everything], end) == (ids, None)
    refused, _ = await reading.reader.of_sale(HOST, sale, status="refused", limit=10, after=None)
    assert [order.order for order in refused] == ids[5:]
    page, after = await reading.reader.of_sale(HOST, sale, status=None, limit=6, after=None)
    assert (len(page), after) == (6, None)
    with pytest.raises(NotFound):
        await reading.reader.of_sale(msgspec.structs.replace(HOST, shop="cups"), sale, status=None, limit=1, after=None)
