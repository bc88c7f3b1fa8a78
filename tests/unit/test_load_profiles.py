"""The shows that are played as load: their figures come out at full scale, and go with the scale and the speed."""

import random

import pytest

from loadtests.profiles import ENTER_SHARE, FULLNESS, PROFILES, Deed, Load


def played(load: Load, *, seed: int) -> tuple[int, int, dict[Deed, int], int]:
    """A whole show without sockets: joins, the most at once, deeds, and visits that ordered without opening the bag."""
    dice = random.Random(seed)
    step_s = load.show_s / 200
    free_at_s: list[float] = []
    joins = most = unentered = 0
    deeds = dict.fromkeys(Deed, 0)
    for step in range(200):
        now_s = step * step_s
        seats = load.viewers_at(now_s)
        assert seats is not None
        dice.shuffle(free_at_s)  # at the end anybody may be the one whose seat goes
        del free_at_s[seats:]
        free_at_s += [now_s] * (seats - len(free_at_s))
        most = max(most, seats)
        for seat, free_s in enumerate(free_at_s):
            while free_s < now_s + step_s:
                visit = load.visit(dice)
                joins += 1
                entered = False
                for at_s, deed in visit.deeds:
                    entered = entered or deed is Deed.ENTER
                    unentered += deed is Deed.ORDER and not entered
                    # What the end of the show cuts off is not done.
                    deeds[deed] += free_s + at_s < load.show_s
                free_s += visit.stay_s
            free_at_s[seat] = free_s
    return joins, most, deeds, unentered


def test_the_figures_of_the_first_show_are_the_published_ones() -> None:
    show = PROFILES["p1"]
    assert (show.people, show.peak, show.comments, show.show_s, show.order_share) == (4_212, 1_363, 1_553, 3_600, 0.485)
    load = Load.of(show)
    viewers_s = load.peak * FULLNESS * load.show_s
    assert load.peak + viewers_s / load.stay_s == pytest.approx(4_212)
    assert load.comments_per_viewer_s * viewers_s == pytest.approx(1_553)


def test_the_figures_of_the_second_show_are_the_published_ones() -> None:
    show = PROFILES["p2"]
    assert (show.peak, show.joins) == (5_000, 40_000)
    assert round(4 * show.joins / show.people, 1) == 10.7
    assert show.joins * ENTER_SHARE * show.order_share == pytest.approx(1_500)
    load = Load.of(show)
    assert load.peak + load.peak * FULLNESS * load.show_s / load.stay_s == pytest.approx(40_000)


@pytest.mark.parametrize(("name", "speed"), [("p1", 1.0), ("p1", 60.0), ("p2", 120.0)])
def test_a_show_played_with_dice_has_those_figures_at_any_speed(name: str, speed: float) -> None:
    show = PROFILES[name]
    joins, most, deeds, unentered = played(Load.of(show, speed=speed), seed=7)
    assert most == show.peak
    assert joins == pytest.approx(show.joins, rel=0.05)
    assert deeds[Deed.COMMENT] == pytest.approx(show.comments, rel=0.12)
    assert deeds[Deed.ORDER] / deeds[Deed.ENTER] == pytest.approx(show.order_share, rel=0.07)
    assert deeds[Deed.ENTER] == pytest.approx(show.joins * ENTER_SHARE, rel=0.07)
    assert unentered == 0


def test_a_tenth_of_a_show_is_a_tenth_of_its_people_who_each_do_the_same() -> None:
    whole, tenth = Load.of(PROFILES["p1"]), Load.of(PROFILES["p1"], scale=0.1)
    assert (tenth.people, tenth.peak) == (421, 136)
    assert (tenth.stay_s, tenth.comments_per_viewer_s, tenth.order_share) == (
        whole.stay_s,
        whole.comments_per_viewer_s,
        whole.order_share,
    )


def test_speed_shortens_the_show_and_its_visits_and_hurries_its_people() -> None:
    whole, quick = Load.of(PROFILES["p2"]), Load.of(PROFILES["p2"], speed=60)
    assert quick.show_s == 120
    assert quick.stay_s == pytest.approx(whole.stay_s / 60)
    assert quick.comments_per_viewer_s == pytest.approx(whole.comments_per_viewer_s * 60)
    assert (quick.peak, quick.people) == (whole.peak, whole.people)


def test_a_room_fills_stays_full_and_empties() -> None:
    load = Load.of(PROFILES["p1"])
    assert [load.viewers_at(at_s) for at_s in (0, 180, 360, 1800, 3239, 3420, 3600, 9999)] == [
        0,
        682,
        1363,
        1363,
        1363,
        682,
        None,
        None,
    ]


def test_the_environment_names_the_show() -> None:
    assert Load.from_environment({}) is None
    assert Load.from_environment({"PROFILE": "", "SCALE": "9"}) is None
    assert Load.from_environment({"PROFILE": "p1"}) == Load.of(PROFILES["p1"])
    assert Load.from_environment({"PROFILE": "p2", "SCALE": "0.1", "SPEED": "60"}) == Load.of(
        PROFILES["p2"], scale=0.1, speed=60
    )
    for wrong in ({"PROFILE": "p9"}, {"PROFILE": "p1", "SCALE": "0"}, {"PROFILE": "p1", "SPEED": "0.5"}):
        with pytest.raises(ValueError, match=r"PROFILE|SCALE"):
            Load.from_environment(wrong)
