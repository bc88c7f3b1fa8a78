from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admission.limits import CommentPace, Limits
from gateway.domain.limits import DEFAULT, ShopLimits
from gateway.errors import LedgerUnavailable
from gateway.rooms.shop_crowd import ShopCrowd


class SourceOfTests:
    def __init__(self, **shops: ShopLimits) -> None:
        self.shops: dict[str, ShopLimits] = shops
        self.away = False

    async def limits(self) -> Mapping[str, ShopLimits]:
        if self.away:
            raise LedgerUnavailable
        return dict(self.shops)


async def test_the_last_limits_hold_while_the_ledger_is_away() -> None:
    source = SourceOfTests(tins=ShopLimits(viewers=5))
    limits = Limits(source=source)
    assert limits.of("tins") == DEFAULT
    await limits.look()
    assert limits.of("tins").viewers == 5 and limits.of("cups") == DEFAULT
    source.shops, source.away = {}, True
    await limits.look()
    assert limits.of("tins").viewers == 5
    source.away = False
    await limits.look()
    assert limits.of("tins") == DEFAULT


@pytest.mark.parametrize(("processes", "pass_at_once"), [(1, 20), (4, 5), (0, 20)])
async def test_a_process_allows_its_share_of_the_comments_of_a_shop(processes: int, pass_at_once: int) -> None:
    limits = Limits(source=SourceOfTests(tins=ShopLimits(comments_per_s=20)))
    await limits.look()
    pace = CommentPace(limits=limits, processes=lambda: processes)
    waits = [pace.wait_s("tins", 100.0) for _ in range(50)]
    assert waits.count(0.0) == pass_at_once
    assert max(waits) == pytest.approx(1 / pass_at_once)
    # And as many each second from there on; other shops are not counted with them.
    assert [pace.wait_s("tins", 101.0) for _ in range(50)].count(0.0) == pass_at_once
    assert [pace.wait_s("cups", 100.0) for _ in range(50)].count(0.0) == 50


async def test_another_limit_is_in_force_from_the_next_comment_on() -> None:
    source = SourceOfTests(tins=ShopLimits(comments_per_s=1))
    limits = Limits(source=source)
    await limits.look()
    pace = CommentPace(limits=limits, processes=lambda: 1)
    assert [pace.wait_s("tins", 5.0) for _ in range(3)].count(0.0) == 1
    source.shops = {"tins": ShopLimits(comments_per_s=10)}
    await limits.look()
    assert [pace.wait_s("tins", 5.0) for _ in range(20)].count(0.0) == 10
    source.shops = {}
    await limits.look()
    assert [pace.wait_s("tins", 5.0) for _ in range(20)].count(0.0) == 20


def live(shop: str, *, here: int, told: int, counted: int) -> Any:
    return SimpleNamespace(
        room=SimpleNamespace(shop=shop),
        members=[None] * here,
        counted=counted,
        picture=SimpleNamespace(viewers=told),
    )


def test_viewers_of_a_shop_are_those_told_of_all_processes_and_those_who_came_here_since() -> None:
    rooms = {
        1: live("tins", here=10, told=30, counted=8),  # two came since this process was counted
        2: live("tins", here=3, told=0, counted=0),  # nobody was told of it yet
        3: live("cups", here=5, told=100, counted=5),
    }
    most: dict[str, int | None] = {"tins": 36, "cups": None}
    crowd = ShopCrowd(rooms=rooms, most=lambda shop: most[shop])
    assert (crowd.of("tins"), crowd.of("cups"), crowd.of("none")) == (35, 100, 0)
    assert not crowd.is_full("tins") and not crowd.is_full("cups")
    most["tins"] = 35
    assert crowd.is_full("tins")
