import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from gateway.domain.coupon import COUPONS_A_GROUP, ClaimAnswer, ClaimOutcome, ClaimRequest
from gateway.domain.ids import ClaimPlace
from gateway.domain.order import DECIDE_WITHIN_S, OrderAnswer, OrderOutcome, OrderRequest
from gateway.errors import GatewayError, HotUnavailable, OutcomeUnknown, Overloaded, ShardClosed, Unavailable
from gateway.hot.group import CALLS_IN_FLIGHT, GroupCalls
from tests.support.fake_clock import ShiftedClock

RESERVED = OrderAnswer(OrderOutcome.RESERVED)
CLAIMED, GONE = ClaimAnswer(ClaimOutcome.CLAIMED), ClaimAnswer(ClaimOutcome.GONE)


class Decider:
    """Records the groups it is asked for; holds them back while its gate is shut, and fails as it is told."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Condition()
        self.fails: list[Exception] = []
        self.fails_always: Exception | None = None

    async def decide(self, sale_no: int, group: Sequence[OrderRequest]) -> list[OrderAnswer | GatewayError]:
        async with self.asked:
            self.groups.append([request.key for request in group])
            self.asked.notify_all()
        await self.gate.wait()
        if self.fails:
            raise self.fails.pop(0)
        if self.fails_always is not None:
            raise self.fails_always
        return [RESERVED for _ in group]

    async def was_asked(self, times: int) -> None:
        async with self.asked, asyncio.timeout(5):
            await self.asked.wait_for(lambda: len(self.groups) >= times)


class Waiting:
    """Requests of one test and their answers, of which each may have one only."""

    def __init__(self, clock: ShiftedClock) -> None:
        self._clock = clock
        self.answers: dict[str, OrderAnswer | Exception] = {}
        self._made = 0
        self._told = asyncio.Condition()

    def request(
        self,
        key: str,
        *,
        sale_no: int = 7,
        coupon_no: int = 0,
        answer: Callable[[object], None] | None = None,
    ) -> OrderRequest:
        self._made += 1
        return OrderRequest(
            sale_no=sale_no,
            item_no=1,
            viewer="vw_1",
            key=key,
            fingerprint="f",
            quantity=1,
            expect_amount_minor=-1,
            extra="",
            arrived_s=self._clock.monotonic(),
            answer=answer or (lambda given: self._answer(key, given)),
            claim=ClaimPlace(0, coupon_no, 1, 1) if coupon_no else None,
        )

    def _answer(self, key: str, given: OrderAnswer | Exception) -> None:
        assert key not in self.answers, "an answer is given once"
        self.answers[key] = given

    async def all(self) -> dict[str, OrderAnswer | Exception]:
        async with asyncio.timeout(10):
            while len(self.answers) < self._made:  # noqa: ASYNC110 - answers come by plain calls
                await asyncio.sleep(0.001)
        return self.answers


@asynccontextmanager
async def running(
    decider: Decider, clock: ShiftedClock, *, group_max: int = 8, queue_max: int = 100
) -> AsyncIterator[GroupCalls]:
    groups = GroupCalls(decider=decider, clock=clock, group_max=group_max, queue_max=queue_max)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(groups.run())
        await asyncio.sleep(0)
        try:
            yield groups
        finally:
            task.cancel()


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def decider() -> Decider:
    return Decider()


@pytest.fixture
def waiting(clock: ShiftedClock) -> Waiting:
    return Waiting(clock)


async def test_a_lone_order_is_a_group_of_one(decider: Decider, clock: ShiftedClock, waiting: Waiting) -> None:
    async with running(decider, clock) as groups:
        groups.submit(waiting.request("a"))
        assert await waiting.all() == {"a": RESERVED}
        await asyncio.wait_for(groups.drained(), 5)
    assert decider.groups == [["a"]]


async def test_what_comes_while_a_call_is_in_flight_goes_together_in_the_next_one_in_its_order(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.gate.clear()
    async with running(decider, clock, group_max=100) as groups:
        groups.submit(waiting.request("first"))
        await decider.was_asked(1)
        for key in "abcde":
            groups.submit(waiting.request(key))
        decider.gate.set()
        assert set((await waiting.all()).values()) == {RESERVED}
    assert decider.groups == [["first"], list("abcde")]


async def test_a_group_has_at_most_so_many_and_two_calls_of_a_sale_are_in_flight(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.gate.clear()
    async with running(decider, clock, group_max=8) as groups:
        groups.submit(waiting.request("first"))
        await decider.was_asked(1)
        for at in range(30):
            groups.submit(waiting.request(f"k{at}"))
        await decider.was_asked(2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(decider.groups) == CALLS_IN_FLIGHT
        decider.gate.set()
        assert len(await waiting.all()) == 31
    assert max(map(len, decider.groups)) == 8
    assert sorted(key for group in decider.groups for key in group) == sorted(waiting.answers)


async def test_a_full_queue_refuses_the_next_order_and_keeps_the_others(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.gate.clear()
    async with running(decider, clock, group_max=1, queue_max=5) as groups:
        groups.submit(waiting.request("first"))
        await decider.was_asked(1)
        for at in range(5):
            groups.submit(waiting.request(f"k{at}"))
        assert groups.waiting == 5
        refused = Waiting(clock)
        with pytest.raises(Overloaded) as caught:
            groups.submit(refused.request("one too many"))
        assert caught.value.retry_after_ms is not None and caught.value.retry_after_ms > 0
        groups.submit(waiting.request("another sale", sale_no=8))
        decider.gate.set()
        assert set((await waiting.all()).values()) == {RESERVED}
        assert refused.answers == {}
    assert "one too many" not in [key for group in decider.groups for key in group]


async def test_orders_of_more_coupons_than_a_call_takes_go_into_the_next_one_in_their_order(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.gate.clear()
    async with running(decider, clock, group_max=100) as groups:
        groups.submit(waiting.request("first"))
        await decider.was_asked(1)
        for at in range(COUPONS_A_GROUP):
            groups.submit(waiting.request(f"a{at}", coupon_no=at + 1))
        groups.submit(waiting.request("none"))
        groups.submit(waiting.request("one of them again", coupon_no=3))
        groups.submit(waiting.request("one too many", coupon_no=99))
        groups.submit(waiting.request("behind it"))
        decider.gate.set()
        assert set((await waiting.all()).values()) == {RESERVED}
    _, full, rest = decider.groups
    assert full == [*(f"a{at}" for at in range(COUPONS_A_GROUP)), "none", "one of them again"]
    assert rest == ["one too many", "behind it"]


async def test_claims_are_grouped_by_their_coupon_and_what_was_claimed_after_a_lost_reply_stands(
    clock: ShiftedClock,
) -> None:
    """A reply was lost: what was claimed stands at once, a refusal only when its time is over."""

    class Claims:
        def __init__(self) -> None:
            self.asked: list[tuple[int, list[str]]] = []

        async def decide(self, coupon_no: int, group: Sequence[ClaimRequest]) -> list[ClaimAnswer | GatewayError]:
            self.asked.append((coupon_no, [request.key for request in group]))
            if len(self.asked) == 1:
                raise HotUnavailable("the reply was lost")
            clock.advance(DECIDE_WITHIN_S / 2)
            return [CLAIMED if request.key == "a" else GONE for request in group]

    claims, answers = Claims(), {}
    groups = GroupCalls[ClaimRequest](decider=claims, clock=clock, group_max=8, queue_max=8)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(groups.run())
        await asyncio.sleep(0)
        for key in "ab":
            groups.submit(
                ClaimRequest(
                    viewer="vw_1",
                    key=key,
                    coupon_no=31,
                    arrived_s=clock.monotonic(),
                    answer=lambda answer, key=key: answers.setdefault(key, answer),  # type: ignore[misc]
                )
            )
        await asyncio.wait_for(groups.drained(), 10)
        task.cancel()
    assert claims.asked == [(31, ["a", "b"]), (31, ["a", "b"]), (31, ["b"])]
    assert answers == {"a": CLAIMED, "b": GONE}


async def test_one_sales_slow_call_holds_up_no_other_sale(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.gate.clear()
    async with running(decider, clock) as groups:
        groups.submit(waiting.request("a", sale_no=1))
        groups.submit(waiting.request("b", sale_no=2))
        await decider.was_asked(2)
        decider.gate.set()
        await waiting.all()
    assert sorted(decider.groups) == [["a"], ["b"]]


async def test_a_lost_reply_is_asked_again_with_the_same_requests(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.fails = [HotUnavailable("the reply was lost"), HotUnavailable("once more")]
    async with running(decider, clock) as groups:
        groups.submit(waiting.request("a"))
        groups.submit(waiting.request("b"))
        assert await waiting.all() == {"a": RESERVED, "b": RESERVED}
    assert decider.groups == [["a", "b"]] * 3


@pytest.mark.parametrize(
    ("failure", "expected"), [(HotUnavailable("lost"), OutcomeUnknown), (ShardClosed("closed"), Unavailable)]
)
async def test_when_the_time_is_over_the_outcome_is_unknown_only_if_it_may_have_been_decided(
    decider: Decider, clock: ShiftedClock, waiting: Waiting, failure: Exception, expected: type[GatewayError]
) -> None:
    decider.fails_always = failure
    async with running(decider, clock) as groups:
        groups.submit(waiting.request("a"))
        await decider.was_asked(2)
        assert waiting.answers == {}
        clock.advance(DECIDE_WITHIN_S)
        answer = (await waiting.all())["a"]
        await asyncio.wait_for(groups.drained(), 5)
    assert type(answer) is expected


async def test_a_shard_that_closed_after_a_lost_reply_leaves_the_outcome_unknown(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.fails = [HotUnavailable("lost")]
    decider.fails_always = ShardClosed("closed")
    async with running(decider, clock) as groups:
        groups.submit(waiting.request("a"))
        await decider.was_asked(3)
        clock.advance(DECIDE_WITHIN_S)
        assert type((await waiting.all())["a"]) is OutcomeUnknown


async def test_in_one_group_each_request_has_its_own_time(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.gate.clear()
    decider.fails = [ShardClosed("closed")] * 2
    async with running(decider, clock) as groups:
        groups.submit(waiting.request("old"))
        clock.advance(DECIDE_WITHIN_S - 1)
        groups.submit(waiting.request("young"))
        await decider.was_asked(1)
        clock.advance(1)
        decider.gate.set()
        answers = await waiting.all()
    assert type(answers["old"]) is Unavailable
    assert answers["young"] is RESERVED


async def test_an_error_nobody_expected_answers_its_group_and_the_next_is_decided(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    decider.fails = [ZeroDivisionError()]
    async with running(decider, clock) as groups:
        with capture_logs() as logs:
            groups.submit(waiting.request("a"))
            answers = await waiting.all()
        assert type(answers["a"]) is OutcomeUnknown
        assert [each["event"] for each in logs] == ["group_call_failed"]
        groups.submit(waiting.request("b"))
        assert (await waiting.all())["b"] is RESERVED


async def test_one_viewers_broken_socket_keeps_nobody_else_from_an_answer(
    decider: Decider, clock: ShiftedClock, waiting: Waiting
) -> None:
    def broken(given: object) -> None:
        raise OSError("the socket is gone")

    async with running(decider, clock) as groups:
        with capture_logs() as logs:
            groups.submit(Waiting(clock).request("broken", answer=broken))
            groups.submit(waiting.request("a"))
            assert await waiting.all() == {"a": RESERVED}
    assert [each["event"] for each in logs] == ["answer_not_delivered"]


@pytest.mark.parametrize("where", ["in the call", "in the pause before the next try"])
async def test_everyone_is_answered_when_the_process_goes_away(
    decider: Decider, clock: ShiftedClock, waiting: Waiting, where: str
) -> None:
    if where == "in the call":
        decider.gate.clear()
    else:
        decider.fails_always = ShardClosed("closed")
    async with running(decider, clock, group_max=2) as groups:
        for key in "abcde":
            groups.submit(waiting.request(key))
        await decider.was_asked(1)
        if where == "in the pause before the next try":
            for _ in range(5):
                await asyncio.sleep(0)
    assert sorted(waiting.answers) == list("abcde")
    assert {type(answer) for answer in waiting.answers.values()} <= {OutcomeUnknown, Unavailable}


async def test_nothing_is_taken_before_it_runs(decider: Decider, clock: ShiftedClock, waiting: Waiting) -> None:
    groups = GroupCalls(decider=decider, clock=clock, group_max=8, queue_max=8)
    with pytest.raises(Unavailable):
        groups.submit(waiting.request("a"))
    await asyncio.wait_for(groups.drained(), 1)
