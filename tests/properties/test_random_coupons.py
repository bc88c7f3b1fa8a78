"""A budget that is given out by chance: in whatever order copies are claimed and come back, it is never passed and
every copy gets the least value at least."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gateway.hot.keys import ShardKeys
from tests.properties.profiles import NIGHTLY, REPORT, SEED
from tests.support.lua_coupons import LARGEST, LuaCoupons, claim
from tests.support.lua_shard import LuaShard
from tests.support.servers import flush

EXAMPLES = 2_000 if NIGHTLY else 150
GROUP = 250


@st.composite
def campaigns(draw: st.DrawFn) -> dict[str, int]:
    copies, least = draw(st.integers(1, 60)), draw(st.integers(1, 500))
    most = draw(st.integers(least, 20 * least))
    # From just enough to more than all copies can take.
    return {
        "copies": copies,
        "min": least,
        "max": most,
        "budget_left": copies * least + draw(st.integers(0, 60 * most)),
    }


steps = st.lists(
    st.one_of(
        # A group of claims, a draw each; and claims that the ledger did not take, by their place among those there.
        st.lists(st.one_of(st.integers(0, LARGEST), st.just(LARGEST), st.just(0)), min_size=1, max_size=20),
        st.tuples(st.integers(0, 99), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=12,
)


def test_no_order_of_claims_and_refusals_passes_a_random_budget(lua_server: tuple[str, str]) -> None:
    server, url = lua_server
    flush(url)
    shard, numbers, taken = LuaShard(url), itertools.count(), itertools.count()

    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(facts=campaigns(), steps=steps)
    def play(facts: dict[str, int], steps: list[Any]) -> None:
        shard.keys = ShardKeys(next(numbers))
        coupons = LuaCoupons(shard)
        shard.open()
        coupons.load(kind="random", value=0, limit=1_000, **facts)
        there: dict[str, tuple[str, int]] = {}
        budget, released = facts["budget_left"], 0
        for step in steps:
            if isinstance(step, list):
                asked = [claim("vw_1", f"k{next(taken)}", draw=draw) for draw in step]
                placed = coupons.claim(*asked)
                assert placed.words == [
                    "claimed" if at < facts["copies"] - len(there) else "gone" for at in range(len(asked))
                ]
                for request, answer in zip(asked, placed.answers, strict=True):
                    if answer[0] == "claimed":
                        assert facts["min"] <= answer[2] <= facts["max"]
                        there[f"1|{answer[1]}"] = (request[1], answer[2])
            else:
                first, count = step
                rows = []
                for place in list(there)[first % (len(there) or 1) :][:count]:
                    released += 1
                    key, _ = there.pop(place)
                    rows.append([released, 0, 0, "vw_1", key, *map(int, place.split("|")), 0, "unclaim", 31, place])
                assert shard.release(*rows) == ("released", released)
            left, spent = facts["copies"] - len(there), sum(value for _, value in there.values())
            assert (coupons.left(), coupons.budget_left()) == (left, budget - spent)
            assert budget - spent >= left * facts["min"], "enough is left for every copy that is left"
        assert len(coupons.claims()) == len(there)

    try:
        play()
    finally:
        REPORT.append(f"random budgets on {server}: {EXAMPLES} campaigns, {next(taken):,} claims, PEAKGATE_SEED={SEED}")
        shard.close()


@pytest.mark.parametrize(("least", "most"), [(1, 200), (5, 100), (10, 50), (20, 20), (20, 400)])
def test_a_hundred_thousand_in_five_thousand_copies_is_given_out_and_not_passed(
    lua_server: tuple[str, str], least: int, most: int
) -> None:
    server, url = lua_server
    flush(url)
    shard, dice = LuaShard(url), random.Random(SEED)
    try:
        coupons = LuaCoupons(shard)
        shard.open()
        coupons.load(kind="random", value=0, copies=5_000, budget_left=100_000, limit=1, min=least, max=most)
        values: list[int] = []
        for first in range(0, 6_000, GROUP):
            group = [claim(f"vw_{at}", draw=dice.randrange(2**31)) for at in range(first, first + GROUP)]
            values += [answer[2] for answer in coupons.claim(*group).answers if answer[0] == "claimed"]
        assert len(values) == 5_000
        assert all(least <= value <= most for value in values)
        assert sum(values) <= 100_000
        assert coupons.budget_left() == 100_000 - sum(values)
        # The first to come and the last to come are given about as much: nobody loses by the order.
        early, late = sum(values[:2_500]) / 2_500, sum(values[2_500:]) / 2_500
        assert abs(early - late) < 4, (early, late)
        REPORT.append(
            f"100,000 in 5,000 copies of {least} to {most} on {server}: {sum(values):,} given, {max(values)} at most"
        )
    finally:
        shard.close()
