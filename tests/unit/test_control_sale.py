import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from gateway.domain.acts import Act
from gateway.domain.caller import Caller, Role
from gateway.domain.ids import RoomId, SaleId, Sku
from gateway.domain.sale import Item, ItemCounts, Sale, SaleHold, SaleState, StockDisplay
from gateway.errors import (
    Conflict,
    Forbidden,
    HotUnavailable,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
    ShardClosed,
    StockInUse,
)
from gateway.flows import in_force
from gateway.flows.control_sale import ControlSale
from gateway.flows.recent import Recent
from gateway.flows.sales import Sales
from gateway.wire import bus

HOST = Caller(shop="tins", sub="host-1", role=Role.HOST, expires_at_s=0)
NOW_MS = 1_800_000_000_000
SALE = Sale(
    sale=SaleId("sale_7"),
    sale_no=7,
    shop="tins",
    shard=0,
    room=RoomId("room_1"),
    title="Tins",
    currency="CNY",
    hold=SaleHold.ACTIVE,
    opens_at_ms=0,
    closes_at_ms=2 * NOW_MS,
    pay_within_s=300,
    stock_display=StockDisplay.EXACT,
    created_at_ms=0,
    items=(Item(item_no=1, sku=Sku("tin"), title="A tin", price_minor=1900, stock=10, limit_per_viewer=2),),
)


class StillClock:
    passed_s = 0.0

    def monotonic(self) -> float:
        return self.passed_s

    def now_ms(self) -> int:
        return NOW_MS


class ServerTime:
    known, taken_s = True, 0.0

    def ms_at(self, monotonic_s: float) -> int:
        return NOW_MS


class Everything:
    """The ledger, Valkey, the mint, the book and the bus of one sale, each doing what the test says."""

    def __init__(self, answers: Iterable[object] = (), *, loaded: bool = True, reached: bool = True) -> None:
        self.answers = list(answers)
        self.loaded = loaded
        self.is_reached = reached
        self.effect: str | None = None
        self.acts: list[dict[str, Any]] = []
        self.loads = 0
        self.told: list[bus.Message] = []
        self.waited: list[tuple[int, int, int]] = []
        self.epoch = 1
        self.clock = ServerTime()
        self.readable = True
        self.refused: set[int] = set()
        self.states: list[SaleState] = []
        self.moved: list[int] = []

    async def act(self, sale_no: int, act: Act, **asked: Any) -> tuple[int, int, bool]:
        self.acts.append({"sale_no": sale_no, "act": act, **asked})
        answer = self.answers.pop(0) if self.answers else (1, 5, False)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, tuple)
        return answer

    async def reached(self, shard: int, epoch: int, seq: int, *, within_s: float) -> bool:
        self.waited.append((shard, epoch, seq))
        return self.is_reached

    async def find(self, *asked: Any) -> Any:
        if len(asked) == 2:  # an effect; the ledger remembers the key of an act that it took
            kept = self.waited and self.is_reached and not self.refused and self.waited[-1][2]
            return self.effect or ("sale_7" if kept else None)
        if not self.readable and self.acts:
            raise LedgerUnavailable
        return SALE if asked[0] == 7 else None

    async def state(self, sale: Sale, state: SaleState) -> None:
        self.states.append(state)

    async def was_refused(self, **asked: Any) -> bool:
        return bool(asked["seq"] in self.refused)

    async def counts(self, asked: Any) -> Any:
        return {1: ItemCounts(1, 10, 9, 1)} if isinstance(asked, Sale) else {1: (10, 1, 0)}

    async def is_loaded(self, sale_no: int) -> bool:
        return self.loaded

    async def load_sale(self, sale: Sale) -> None:
        self.loads += 1

    async def mark_loaded(self, sale_no: int, epoch: int) -> None:
        self.loaded = True

    async def read_clock(self, monotonic_s: float) -> None: ...

    def read_sale(self, sale_id: str) -> int | None:
        return int(sale_id.removeprefix("sale_"))

    def forget(self, sale_no: int) -> None: ...

    async def publish(self, message: bytes) -> None:
        self.told.append(bus.decode(message))

    def control(self) -> ControlSale:
        everything: Any = self
        sales = Sales(
            ledger=everything,
            book=everything,
            shards={0: everything},
            publisher=everything,
            mint=everything,
            clock=StillClock(),
            min_pay_within_s=60,
        )
        return ControlSale(
            sales=sales,
            controls={0: everything},
            effects=everything,
            acts=everything,
            applied=everything,
            news=everything,
            moved=self.moved.extend,
            clock=StillClock(),
        )


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_force, "_PAUSES_S", (0.0, 0.0))


async def test_an_act_is_answered_once_the_ledger_has_it_and_everybody_is_told() -> None:
    everything = Everything()
    reading = await everything.control().act(HOST, "sale_7", Act.PAUSE)
    assert reading.sale == SALE
    assert [(act["act"], act["actor"], act["key"]) for act in everything.acts] == [(Act.PAUSE, "host-1", "")]
    assert everything.waited == [(0, 1, 5)]
    assert everything.told == [bus.SaleChanged(7)]
    assert everything.states == [reading.state]


async def test_an_act_that_the_ledger_does_not_have_in_time_is_told_and_unknown() -> None:
    everything = Everything(reached=False)
    with pytest.raises(OutcomeUnknown):
        await everything.control().act(HOST, "sale_7", Act.PAUSE)
    assert everything.told == [bus.SaleChanged(7)]


async def test_an_act_of_an_earlier_epoch_is_kept_already() -> None:
    everything = Everything([(1, 0, True)], reached=False)
    await everything.control().act(HOST, "sale_7", Act.PAUSE)
    assert everything.waited == []


async def test_a_lost_reply_is_asked_for_again() -> None:
    everything = Everything([HotUnavailable(), HotUnavailable(), (1, 5, False)])
    await everything.control().act(HOST, "sale_7", Act.PAUSE)
    assert len(everything.acts) == 3


async def test_a_reply_lost_for_good_is_an_unknown_outcome() -> None:
    everything = Everything([HotUnavailable() for _ in range(9)])
    with pytest.raises(OutcomeUnknown):
        await everything.control().act(HOST, "sale_7", Act.PAUSE)
    assert len(everything.acts) == 3


@pytest.mark.parametrize("refusal", [Conflict(), StockInUse(), ShardClosed()])
async def test_a_refusal_after_a_lost_reply_promises_nothing(refusal: Exception) -> None:
    everything = Everything([HotUnavailable(), refusal])
    with pytest.raises(OutcomeUnknown):
        await everything.control().act(HOST, "sale_7", Act.CLOSE)


@pytest.mark.parametrize("refusal", [Conflict(), StockInUse(), ShardClosed()])
async def test_a_refusal_by_itself_says_that_nothing_happened(refusal: Exception) -> None:
    everything = Everything([refusal])
    with pytest.raises(type(refusal)):
        await everything.control().act(HOST, "sale_7", Act.CLOSE)
    assert everything.told == []


async def test_a_sale_that_valkey_never_had_is_given_to_it_and_asked_again() -> None:
    everything = Everything([ShardClosed(), (1, 5, False)], loaded=False)
    await everything.control().act(HOST, "sale_7", Act.PAUSE)
    assert (everything.loads, len(everything.acts)) == (1, 2)


async def test_a_sale_that_valkey_had_and_lost_is_never_loaded_as_if_new() -> None:
    everything = Everything([ShardClosed()], loaded=True)
    with pytest.raises(ShardClosed):
        await everything.control().act(HOST, "sale_7", Act.PAUSE)
    assert everything.loads == 0


async def test_an_act_whose_sale_cannot_be_read_afterwards_is_unknown() -> None:
    everything = Everything()
    everything.readable = False
    with pytest.raises(OutcomeUnknown):
        await everything.control().act(HOST, "sale_7", Act.PAUSE)


async def test_a_stock_change_that_the_ledger_remembers_asks_valkey_nothing() -> None:
    everything = Everything()
    everything.effect = "sale_7"
    _, item, replayed = await everything.control().change_stock(HOST, "sale_7", "tin", add=5, reason="found", key="k")
    assert (item.sku, replayed, everything.acts) == ("tin", True, [])


async def test_a_stock_change_names_the_item_the_units_and_the_key() -> None:
    everything = Everything()
    _, _, replayed = await everything.control().change_stock(HOST, "sale_7", "tin", add=-5, reason="lost", key="k")
    (act,) = everything.acts
    assert (act["act"], act["item_no"], act["value"], act["key"], replayed) == (Act.STOCK, 1, -5, "k", False)
    assert "|" not in act["fingerprint"]
    with pytest.raises(NotFound):
        await everything.control().change_stock(HOST, "sale_7", "cup", add=1, reason="x", key="k")


async def test_a_stock_change_that_the_ledger_could_not_take_is_no_success() -> None:
    everything = Everything()
    everything.refused = {5}
    with pytest.raises(StockInUse):
        await everything.control().change_stock(HOST, "sale_7", "tin", add=-5, reason="lost", key="k")
    # Its key is remembered by Valkey alone, and the ledger still says no.
    everything.answers = [(1, 5, True)]
    with pytest.raises(StockInUse):
        await everything.control().change_stock(HOST, "sale_7", "tin", add=-5, reason="lost", key="k")
    everything.answers = [(2, 0, True)]
    with pytest.raises(StockInUse):
        await everything.control().change_stock(HOST, "sale_7", "tin", add=-5, reason="lost", key="k")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.CLERK, Role.SERVICE])
async def test_only_a_host_steers(role: Role) -> None:
    everything = Everything()
    caller = Caller(shop="tins", sub="host-1", role=role, expires_at_s=0)
    with pytest.raises(Forbidden):
        await everything.control().act(caller, "sale_7", Act.OPEN)
    with pytest.raises(Forbidden):
        await everything.control().change_stock(caller, "sale_7", "tin", add=1, reason="x", key="k")
    assert everything.acts == []


async def test_another_shops_sale_is_not_there() -> None:
    everything = Everything()
    caller = Caller(shop="cups", sub="host-1", role=Role.HOST, expires_at_s=0)
    with pytest.raises(NotFound):
        await everything.control().act(caller, "sale_7", Act.OPEN)
    assert everything.acts == []


async def test_a_crowd_shares_one_read_and_who_leaves_takes_it_from_nobody() -> None:
    clock = StillClock()
    recent: Recent[str, int] = Recent(keep_s=1.0, clock=clock)
    reads, free = 0, asyncio.Event()

    async def read() -> int:
        nonlocal reads
        reads += 1
        await free.wait()
        return reads

    crowd = [asyncio.create_task(recent.get("sale", read)) for _ in range(50)]
    await asyncio.sleep(0)
    crowd[0].cancel()
    free.set()
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [1] * 49
    assert await recent.get("sale", read) == 1
    clock.passed_s = 1.5
    assert await recent.get("sale", read) == 2
    recent.forget("sale")
    assert await recent.get("sale", read) == 3


async def test_a_failed_read_is_kept_for_nobody() -> None:
    recent: Recent[str, int] = Recent(keep_s=1.0, clock=StillClock())

    async def fail() -> int:
        raise HotUnavailable

    async def read() -> int:
        return 1

    with pytest.raises(HotUnavailable):
        await recent.get("sale", fail)
    assert await recent.get("sale", read) == 1


# A sale that left Valkey.


async def test_a_sale_that_left_valkey_is_closed_and_takes_no_other_act(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SALE", msgspec.structs.replace(SALE, retired=True))
    everything = Everything()
    reading = await everything.control().act(HOST, "sale_7", Act.CLOSE)
    assert reading.state is SaleState.CLOSED
    for act in (Act.OPEN, Act.PAUSE, Act.RESUME):
        with pytest.raises(Conflict):
            await everything.control().act(HOST, "sale_7", act)
    with pytest.raises(Conflict):
        await everything.control().change_stock(HOST, "sale_7", "tin", add=5, reason="found", key="k")
    everything.effect = "sale_7"
    assert (await everything.control().change_stock(HOST, "sale_7", "tin", add=5, reason="found", key="k"))[2]
    assert everything.acts == []
