import asyncio
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from redis.exceptions import ResponseError

from gateway.domain.coupon import ClaimAnswer, ClaimOutcome, ClaimRequest, ClaimVerdict
from gateway.domain.ids import IdMint
from gateway.domain.order import DECIDE_WITHIN_S
from gateway.errors import GatewayError, Overloaded, ShardClosed, Unavailable
from gateway.hot.connect import connect
from gateway.hot.coupons import HotCoupons
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from tests.support.fake_clock import FakeClock
from tests.support.lua_coupons import COUPON, LARGEST, LuaCoupons, claim
from tests.support.lua_shard import LONG_AGO_MS, MINUTE_MS, LuaShard, order, read_header

GROUP_MAX = 256


@pytest.fixture
def coupons(shard: LuaShard) -> LuaCoupons:
    """5 off, ten copies, two a viewer, open; beside the sale of the shard."""
    made = LuaCoupons(shard)
    assert made.load() == "loaded"
    return made


# Each word of an answer, by coupons on which it is the answer to `claim()`.


def _replayed(coupons: LuaCoupons) -> list[Any]:
    coupons.claim(claim())
    return coupons.claim(claim()).answers[0]


def _gone(coupons: LuaCoupons) -> list[Any]:
    coupons.claim(*(claim(f"other_{at}") for at in range(10)))
    return coupons.claim(claim()).answers[0]


def _limit_reached(coupons: LuaCoupons) -> list[Any]:
    coupons.claim(claim(key="a"), claim(key="b"))
    return coupons.claim(claim()).answers[0]


def _not_started(coupons: LuaCoupons) -> list[Any]:
    coupons.load(32, opens_in_ms=MINUTE_MS)
    return coupons.claim(claim(), coupon_no=32).answers[0]


def _ended(coupons: LuaCoupons) -> list[Any]:
    coupons.load(32, claims_end_in_ms=-1)
    return coupons.claim(claim(), coupon_no=32).answers[0]


VERDICTS: dict[str, Callable[[LuaCoupons], list[Any]]] = {
    "claimed": lambda coupons: coupons.claim(claim()).answers[0],
    "replayed": _replayed,
    "late": lambda coupons: coupons.claim(claim(until_ms=LONG_AGO_MS)).answers[0],
    "gone": _gone,
    "limit_reached": _limit_reached,
    "not_started": _not_started,
    "ended": _ended,
    "backlog": lambda coupons: coupons.claim(claim(), backlog=0).answers[0],
}


def _closed(coupons: LuaCoupons) -> str:
    coupons.shard.valkey.hset(coupons.shard.keys.shard, "open", 0)
    return coupons.claim(claim()).state


STATES: dict[str, Callable[[LuaCoupons], str]] = {
    "open": lambda coupons: coupons.claim(claim()).state,
    "closed": _closed,
    "epoch": lambda coupons: coupons.claim(claim(), epoch=2).state,
    "behind": lambda coupons: coupons.claim(claim(), seen=1).state,
    "unloaded": lambda coupons: coupons.claim(claim(), coupon_no=99).state,
}


@pytest.mark.parametrize("word", VERDICTS)
def test_every_verdict_of_the_header_is_reached(coupons: LuaCoupons, word: str) -> None:
    assert VERDICTS[word](coupons)[0] == word


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_the_header_is_reached(coupons: LuaCoupons, state: str) -> None:
    assert STATES[state](coupons) == state


# The header and its binding.


class Recorded:
    def __init__(self, reply: object) -> None:
        self.reply = reply
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return self.reply


MINT = IdMint(b"k" * 32)


def request(clock: FakeClock, viewer: str = "vw_1", key: str = "c1") -> ClaimRequest:
    return ClaimRequest(
        viewer=viewer, key=key, coupon_no=COUPON, arrived_s=clock.monotonic(), answer=lambda answer: None
    )


def bound(script: Recorded, clock: FakeClock) -> HotCoupons:
    scripts: Any = script
    client: Any = None
    shard = HotShard(shard=3, client=client, scripts=scripts)
    shard.enter_epoch(1, 0)
    shard.clock.learn(1_000_000, clock.monotonic())
    return HotCoupons(shard=shard, client=client, scripts=scripts, mint=MINT, clock=clock, backlog_max=50)


def reply(state: str, *answers: list[Any]) -> bytes:
    packed: bytes = msgpack.packb([state, 1, 5, 1_000_000, list(answers)])
    return packed


ANSWERS: dict[str, tuple[list[Any], ClaimAnswer | type[GatewayError]]] = {
    "claimed": (
        ["claimed", 5, 700],
        ClaimAnswer(ClaimOutcome.CLAIMED, claim=MINT.claim(1_000_000, COUPON, 1, 5), value_minor=700, at_ms=1_000_000),
    ),
    "replayed": (
        ["replayed", 1, 4, 999_000, 700],
        ClaimAnswer(
            ClaimOutcome.CLAIMED,
            claim=MINT.claim(999_000, COUPON, 1, 4),
            value_minor=700,
            at_ms=999_000,
            replayed=True,
        ),
    ),
    "late": (["late"], Unavailable),
    "gone": (["gone"], ClaimAnswer(ClaimOutcome.GONE)),
    "limit_reached": (["limit_reached"], ClaimAnswer(ClaimOutcome.LIMIT_REACHED)),
    "not_started": (["not_started", 2_000_000], ClaimAnswer(ClaimOutcome.NOT_STARTED, opens_at_ms=2_000_000)),
    "ended": (["ended"], ClaimAnswer(ClaimOutcome.ENDED)),
    "backlog": (["backlog"], Overloaded),
}


def test_the_words_of_the_header_are_the_verdicts_and_states_that_are_bound_and_tested() -> None:
    states, verdicts = read_header("claim_coupons").words
    assert verdicts == {str(verdict) for verdict in ClaimVerdict} == set(VERDICTS) == set(ANSWERS)
    assert states == set(STATES)


@pytest.mark.parametrize("word", ANSWERS)
async def test_the_binding_reads_every_verdict(word: str) -> None:
    clock = FakeClock()
    answer, expected = ANSWERS[word]
    (read,) = await bound(Recorded(reply("open", answer)), clock).decide(COUPON, [request(clock)])
    if isinstance(expected, type):
        assert isinstance(read, expected)
    else:
        assert read == expected


@pytest.mark.parametrize("state", sorted(set(STATES) - {"open"}))
async def test_the_binding_decides_nothing_in_any_state_but_open(state: str) -> None:
    clock = FakeClock()
    with pytest.raises(ShardClosed, match=state):
        await bound(Recorded(reply(state)), clock).decide(COUPON, [request(clock)])


async def test_the_binding_passes_what_the_header_names_and_draws_anew_for_each_request() -> None:
    clock = FakeClock()
    script = Recorded(reply("open", *[["gone"]] * GROUP_MAX))
    await bound(script, clock).decide(COUPON, [request(clock, f"vw_{at}") for at in range(GROUP_MAX)])
    header = read_header("claim_coupons")
    name = f"{{s3}}:coupon:{COUPON}"
    assert script.keys == [
        "{s3}:shard",
        name,
        f"{name}:answers",
        f"{name}:viewers",
        f"{name}:claims",
        "{s3}:stream",
    ]
    assert (len(script.keys), len(script.args)) == (header.keys, header.args)
    packed = msgpack.unpackb(script.args[4])
    assert packed[7][:3] == ["vw_7", "c1", 1_000_000 + DECIDE_WITHIN_S * 1000]
    draws = {each[3] for each in packed}
    assert all(0 <= draw < 2**31 for draw in draws)
    assert len(draws) > GROUP_MAX - 3, "two of 256 numbers out of two thousand million are hardly ever the same"


# What a claim writes.


def test_a_claim_is_in_the_counters_the_stream_and_the_answers(coupons: LuaCoupons) -> None:
    placed = coupons.claim(claim("vw_1", "c1"))
    assert placed == ("open", 1, 1, placed.now_ms, [["claimed", 1, 500]])
    assert (coupons.left(), coupons.facts()["copies"]) == (9, "10")
    assert coupons.viewers() == {"vw_1": "1"}
    assert coupons.claims() == {"1|1": (500, "", "vw_1")}
    assert coupons.answers() == {"vw_1|c1": f"1|1|{placed.now_ms}|500"}
    assert coupons.shard.facts()["seq"] == "1"
    (entry,) = coupons.shard.stream()
    assert entry == ("1-1", ["claims", COUPON, placed.now_ms, 1, [["vw_1", "c1", 500]]])


def test_a_group_is_one_entry_with_what_was_claimed_only_and_numbers_go_on_over_orders_and_claims(
    coupons: LuaCoupons,
) -> None:
    coupons.shard.place(order())
    placed = coupons.claim(
        claim("vw_1", "a"), claim("vw_1", "b"), claim("vw_1", "c"), claim("vw_2", "a"), claim("vw_2", "a")
    )
    assert placed.answers == [
        ["claimed", 2, 500],
        ["claimed", 3, 500],
        ["limit_reached"],
        ["claimed", 4, 500],
        ["replayed", 1, 4, placed.now_ms, 500],
    ]
    assert coupons.shard.place(order("vw_2")).answers == [["reserved", 5, 1900]]
    assert [entry.id for entry in coupons.shard.stream()] == ["1-1", "1-4", "1-5"]
    assert coupons.shard.stream()[1].body[3:] == [2, [["vw_1", "a", 500], ["vw_1", "b", 500], ["vw_2", "a", 500]]]


def test_no_refusal_and_no_replay_writes_anything(coupons: LuaCoupons) -> None:
    coupons.load(32, opens_in_ms=None)
    coupons.load(33, copies=1)
    coupons.claim(claim(), coupon_no=33)
    coupons.claim(claim(key="a"), claim(key="b"))
    before = coupons.shard.everything()
    assert coupons.claim(claim(), claim(key="a"), claim(until_ms=LONG_AGO_MS)).words == [
        "limit_reached",
        "replayed",
        "late",
    ]
    assert coupons.claim(claim(), coupon_no=32).answers == [["not_started", 0]]
    assert coupons.claim(claim("vw_2"), coupon_no=33).words == ["gone"]
    assert coupons.claim(claim("vw_2"), backlog=2).words == ["backlog"]
    assert coupons.shard.everything() == before


# The order of the questions.


def test_a_key_is_asked_for_before_anything_else(coupons: LuaCoupons) -> None:
    first = coupons.claim(claim("vw_1", "a"))
    coupons.claim(claim("vw_1", "b"))
    coupons.shard.valkey.hset(coupons.shard.keys.coupon(COUPON), mapping={"left": 0, "claim_until": 1})
    replayed = ["replayed", 1, 1, first.now_ms, 500]
    assert coupons.claim(claim("vw_1", "a", until_ms=LONG_AGO_MS), backlog=0).answers == [replayed]


@pytest.mark.parametrize(
    ("mends", "word"),
    [
        ([], "late"),
        (["late"], "ended"),
        (["late", "ended"], "not_started"),
        (["late", "ended", "not_started"], "limit_reached"),
        (["late", "ended", "not_started", "limit_reached"], "gone"),
        (["late", "ended", "not_started", "limit_reached", "gone"], "backlog"),
        (["late", "ended", "not_started", "limit_reached", "gone", "backlog"], "claimed"),
    ],
)
def test_the_first_question_that_says_no_is_the_answer(coupons: LuaCoupons, mends: list[str], word: str) -> None:
    """Everything stands against the claim, but for what is mended."""
    now_ms = coupons.shard.now_ms()
    facts = {
        "left": 1 if "gone" in mends else 0,
        "limit": 1 if "limit_reached" in mends else 0,
        "claim_from": now_ms - 1 if "not_started" in mends else now_ms + MINUTE_MS,
        "claim_until": now_ms + (MINUTE_MS if "ended" in mends else -1),
    }
    coupons.shard.valkey.hset(coupons.shard.keys.coupon(COUPON), mapping=facts)
    asked = claim() if "late" in mends else claim(until_ms=LONG_AGO_MS)
    assert coupons.claim(asked, backlog=9 if "backlog" in mends else 0).words == [word]


# The window.


@pytest.mark.parametrize(
    ("opens_in_ms", "claims_end_in_ms", "valid_for_ms", "word"),
    [
        (-MINUTE_MS, MINUTE_MS, MINUTE_MS, "claimed"),
        (MINUTE_MS, 2 * MINUTE_MS, 2 * MINUTE_MS, "not_started"),
        (-MINUTE_MS, -1, MINUTE_MS, "ended"),
        (-MINUTE_MS, MINUTE_MS, -1, "ended"),
        (None, MINUTE_MS, MINUTE_MS, "not_started"),
        (None, -1, MINUTE_MS, "ended"),
    ],
)
def test_a_copy_is_taken_inside_the_window_only(
    coupons: LuaCoupons, opens_in_ms: int | None, claims_end_in_ms: int, valid_for_ms: int, word: str
) -> None:
    window = {"opens_in_ms": opens_in_ms, "claims_end_in_ms": claims_end_in_ms, "valid_for_ms": valid_for_ms}
    coupons.load(32, **window)
    assert coupons.claim(claim(), coupon_no=32).words == [word]


def test_a_coupon_that_has_not_started_says_when_it_does(coupons: LuaCoupons) -> None:
    coupons.load(32, opens_in_ms=MINUTE_MS)
    opens_at = int(coupons.facts(32)["claim_from"])
    assert coupons.claim(claim(), coupon_no=32).answers == [["not_started", opens_at]]


def test_while_clocks_are_not_trusted_no_further_coupon_opens(coupons: LuaCoupons) -> None:
    coupons.load(32, opens_in_ms=-1)
    coupons.shard.call("pause_opening", [coupons.shard.keys.shard], [coupons.shard.now_ms() - MINUTE_MS // 2])
    assert coupons.claim(claim()).words == ["claimed"]
    assert coupons.claim(claim(), coupon_no=32).words == ["not_started"]


# Values.


def test_a_copy_of_a_percentage_is_worth_nothing_by_itself(coupons: LuaCoupons) -> None:
    coupons.load(32, kind="percent", value=0, percent=20)
    assert coupons.claim(claim(), coupon_no=32).answers == [["claimed", 1, 0]]


def test_the_draws_of_a_group_follow_each_other_and_take_the_budget_with_them(coupons: LuaCoupons) -> None:
    coupons.load(32, kind="random", value=0, min=100, max=900, copies=3, budget_left=1000)
    # hi: min(900, 1000 - 200, 2 * 1000 / 3 - 100) = 566; then min(900, 434, 434); then what is left.
    placed = coupons.claim(
        claim("vw_1", draw=LARGEST), claim("vw_2", draw=0), claim("vw_3", draw=LARGEST), coupon_no=32
    )
    assert placed.answers == [["claimed", 1, 566], ["claimed", 2, 100], ["claimed", 3, 334]]
    assert (coupons.left(32), coupons.budget_left(32)) == (0, 0)


def test_when_the_budget_is_just_enough_every_copy_gets_the_least_value(coupons: LuaCoupons) -> None:
    coupons.load(32, kind="random", value=0, min=20, max=50, copies=4, budget_left=80)
    placed = coupons.claim(*(claim(f"vw_{at}", draw=LARGEST) for at in range(5)), coupon_no=32)
    assert placed.answers == [*(["claimed", at, 20] for at in range(1, 5)), ["gone"]]
    assert coupons.budget_left(32) == 0


def test_the_largest_budget_is_counted_exactly(coupons: LuaCoupons) -> None:
    budget = 9 * 10**15
    coupons.load(32, kind="random", value=0, min=1, max=9 * 10**12, copies=1000, budget_left=budget)
    (answer,) = coupons.claim(claim(draw=LARGEST), coupon_no=32).answers
    assert answer[2] <= 9 * 10**12
    assert coupons.budget_left(32) == budget - answer[2]
    assert coupons.claims(32)["1|1"].value == answer[2]


def test_a_full_group_is_decided_in_one_call(coupons: LuaCoupons) -> None:
    coupons.load(32, copies=200)
    placed = coupons.claim(*(claim(f"vw_{at}") for at in range(GROUP_MAX)), coupon_no=32)
    assert placed.words == ["claimed"] * 200 + ["gone"] * (GROUP_MAX - 200)
    assert coupons.left(32) == 0


# What the binding reads beside the script.


async def test_copies_left_and_held_keys_are_read_as_the_scripts_keep_them(
    coupons: LuaCoupons, valkey_url: str
) -> None:
    placed = coupons.claim(claim("vw_1", "c1"))
    client = connect(valkey_url, max_connections=2)
    try:
        shard = HotShard(shard=3, client=client, scripts=Scripts(client))
        hot = HotCoupons(
            shard=shard, client=client, scripts=Scripts(client), mint=MINT, clock=FakeClock(), backlog_max=50
        )
        assert await hot.left([COUPON, 99]) == [9, None]
        asked = [("vw_1", "c1"), ("vw_1", "c2")]
        assert await hot.held(COUPON, asked) == ([(1, 1, placed.now_ms, 500), None], True)
        assert await hot.held(99, asked) == ([None, None], False)
        coupons.shard.valkey.hset(coupons.shard.keys.shard, "open", 0)
        assert await hot.held(COUPON, asked[:1]) == ([(1, 1, placed.now_ms, 500)], True)
        with pytest.raises(ShardClosed):
            await hot.held(COUPON, asked)
    finally:
        await client.aclose()


# Races, as numbers.


async def test_three_hundred_viewers_from_three_processes_get_a_hundred_copies_each_once(
    coupons: LuaCoupons, valkey_url: str
) -> None:
    """Each viewer taps three times under the same key, at whatever process."""
    coupons.load(32, copies=100, kind="random", value=0, min=5, max=90, budget_left=2_000, limit=1)
    client = connect(valkey_url, max_connections=20, wait_s=30)
    clock = FakeClock()
    processes = []
    for _ in range(3):
        hot = HotShard(shard=3, client=client, scripts=Scripts(client))
        hot.enter_epoch(1, 0)
        processes.append(
            HotCoupons(shard=hot, client=client, scripts=Scripts(client), mint=MINT, clock=clock, backlog_max=50_000)
        )
    viewers = [f"vw_{at}" for at in range(300)]
    taps = [viewers[at : at + 20] for at in range(0, 300, 20)]
    groups = [(process, tap) for tap in taps for process in processes]
    found = await asyncio.gather(
        *(process.decide(32, [request(clock, viewer) for viewer in tap]) for process, tap in groups)
    )
    await client.aclose()
    got: dict[str, set[Any]] = {}
    for (_, tap), answers in zip(groups, found, strict=True):
        for viewer, answer in zip(tap, answers, strict=True):
            assert isinstance(answer, ClaimAnswer)
            got.setdefault(viewer, set()).add((answer.outcome, answer.claim, answer.value_minor))
    claimed = [next(iter(seen)) for seen in got.values() if any(each[0] is ClaimOutcome.CLAIMED for each in seen)]
    assert all(len(seen) == 1 for seen in got.values()), "every tap of a viewer has the same answer"
    assert len({claim for _, claim, _ in claimed}) == 100
    assert sum(value for _, _, value in claimed) == 2_000 - coupons.budget_left(32) <= 2_000
    assert (coupons.left(32), set(coupons.viewers(32).values())) == (0, {"1"})


@pytest.mark.parametrize("which", range(6))
def test_a_key_of_the_wrong_type_is_an_error_before_any_write(coupons: LuaCoupons, which: int) -> None:
    shard = coupons.shard
    name = [shard.keys.shard, *coupons.keys_of(), shard.keys.stream][which]
    shard.valkey.delete(name)
    shard.valkey.set(name, "no hash, no stream")
    before = shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        coupons.claim(claim("vw_1"), claim("vw_2"))
    assert shard.everything() == before
