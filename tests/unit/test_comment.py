from collections.abc import Callable
from typing import Any

import pytest

from gateway.admission.limiter import Limiter
from gateway.domain.caller import Caller, Role
from gateway.domain.comment import CommentAnswer, CommentOutcome, CommentRequest, normalised
from gateway.errors import Invalid, Overloaded, Unavailable
from gateway.flows.comment import MAX_NAME_LENGTH, PostComment
from gateway.flows.like import Like
from gateway.metrics import SHED_LIKES
from tests.support.fake_clock import FakeClock

FAMILY = "\U0001f468‍\U0001f469‍\U0001f467"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "hello"),
        ("  hello \n\t", "hello"),
        ("two  spaces stay", "two  spaces stay"),
        ("e\u0301te\u0301", "\xe9t\xe9"),
        ("\u212b", "\xc5"),
        ("\ufb01", "\ufb01"),
        ("\u3000全角\u3000", "全角"),
        (FAMILY, FAMILY),
        ("❤️", "❤️"),
        ("שלום", "שלום"),
        ("a" * 200, "a" * 200),
        ("  " + "🎉" * 200 + "  ", "🎉" * 200),
        ("e\u0301" * 200, "\xe9" * 200),
    ],
)
def test_a_text_is_said_composed_and_without_space_around_it(text: str, said: str) -> None:
    assert normalised(text) == said
    assert normalised(said) == said


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\n", "\u3000", "a" * 201, "🎉" * 201),
        *("a\nb", "a\tb", "a\rb", "a\x00b", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "a\ud800b"),
        # Composing makes two of one; it is counted as it is shown.
        "\u0958" * 101,
    ],
)
def test_what_is_no_line_of_1_to_200_characters_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        normalised(text)
    assert refused.value.param == "text"


class Rooms:
    def __init__(self) -> None:
        self.requests: list[tuple[int, CommentRequest]] = []
        self.taps: list[tuple[int, int]] = []
        self.error: Exception | None = None

    def comment(self, room_no: int, request: CommentRequest) -> None:
        if self.error is not None:
            raise self.error
        self.requests.append((room_no, request))

    def like(self, room_no: int, taps: int) -> None:
        self.taps.append((room_no, taps))


def caller(sub: str = "ann", *, shop: str = "tins", role: Role = Role.VIEWER, name: str | None = "Ann") -> Caller:
    return Caller(shop=shop, sub=sub, role=role, expires_at_s=0, name=name)


class Desk:
    def __init__(self, *, burst: int = 2) -> None:
        self.rooms = Rooms()
        self.clock = FakeClock()
        self.post = PostComment(rooms=self.rooms, limiter=Limiter(rate=1, burst=burst), clock=self.clock)

    def say(
        self,
        text: str = "hello",
        *,
        by: Caller | None = None,
        refuses: Callable[[str], bool] = lambda said: False,
        has_ended: bool = False,
    ) -> Any:
        """The answer, or None where the room decides."""
        answers: list[Any] = []
        self.post.submit(
            by or caller(),
            room_no=5,
            viewer="vw_1",
            id="c1",
            text=text,
            refuses=refuses,
            answer=answers.append,
            has_ended=has_ended,
        )
        assert len(answers) <= 1
        return answers[0] if answers else None


def test_a_comment_goes_to_the_room_as_it_is_shown() -> None:
    desk = Desk()
    asked: list[str] = []
    assert desk.say("  e\u0301 ", refuses=lambda said: bool(asked.append(said))) is None
    ((room_no, request),) = desk.rooms.requests
    assert (room_no, request.viewer, request.sub, request.name, request.id) == (5, "vw_1", "ann", "Ann", "c1")
    assert (request.text, request.is_staff, request.arrived_s) == ("\xe9", False, desk.clock.monotonic())
    assert asked == ["\xe9"], "words are looked for in what is shown"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.HOST])
def test_nobody_says_anything_in_a_room_that_has_ended(role: Role) -> None:
    desk = Desk(burst=1)
    ended = desk.say(by=caller(role=role), has_ended=True)
    assert (ended, desk.rooms.requests) == (CommentAnswer(CommentOutcome.COMMENTS_OFF), [])
    assert desk.say(by=caller(role=role)) is None, "it cost nothing"


def test_a_text_that_may_not_be_said_costs_the_viewer_nothing() -> None:
    desk = Desk(burst=1)
    for _ in range(5):
        assert isinstance(desk.say("a\nb"), Invalid)
    assert desk.say() is None


def test_who_is_too_fast_is_told_when_to_go_on_and_words_are_not_looked_for() -> None:
    desk = Desk(burst=1)
    desk.say()
    asked: list[str] = []
    answer = desk.say(refuses=lambda said: not asked.append(said))
    assert answer == CommentAnswer(CommentOutcome.TOO_FAST, retry_after_ms=1_001)
    assert asked == []
    desk.clock.advance(1.001)
    assert desk.say() is None
    assert len(desk.rooms.requests) == 2


def test_a_banned_word_is_for_the_room_to_refuse_which_knows_repeats_and_counts_towards_the_limit() -> None:
    desk = Desk(burst=1)
    assert desk.say(refuses=lambda said: said == "hello") is None
    assert [request.is_banned for _, request in desk.rooms.requests] == [True]
    assert desk.say().outcome is CommentOutcome.TOO_FAST


def test_limits_are_of_a_viewer_and_shop() -> None:
    desk = Desk(burst=1)
    for each in (caller(), caller("bob"), caller(shop="cups")):
        assert desk.say(by=each) is None
        assert desk.say(by=each).outcome is CommentOutcome.TOO_FAST


@pytest.mark.parametrize("role", [role for role in Role if caller(role=role).is_staff])
def test_staff_are_neither_limited_nor_asked_about_words(role: Role) -> None:
    desk = Desk(burst=1)
    for _ in range(20):
        assert desk.say(by=caller(role=role), refuses=lambda said: True) is None
    assert all(request.is_staff and not request.is_banned for _, request in desk.rooms.requests)
    assert isinstance(desk.say("", by=caller(role=role)), Invalid)


def test_a_name_is_shown_as_far_as_it_fits_and_may_be_missing() -> None:
    desk = Desk()
    desk.say(by=caller(name="x" * 50))
    desk.say(by=caller(name=None))
    assert [request.name for _, request in desk.rooms.requests] == ["x" * MAX_NAME_LENGTH, ""]


def test_what_the_room_cannot_take_is_answered_as_such() -> None:
    desk = Desk()
    desk.rooms.error = Overloaded(retry_after_ms=700)
    assert desk.say() is desk.rooms.error


def test_a_process_that_goes_away_takes_no_more_comments() -> None:
    desk = Desk()
    desk.post.stop_admitting()
    answer = desk.say()
    assert isinstance(answer, Unavailable)
    assert (answer.retry_after_ms, desk.rooms.requests) == (500, [])


def test_taps_beyond_the_limit_are_dropped_and_counted() -> None:
    rooms, clock = Rooms(), FakeClock()
    like = Like(rooms=rooms, limiter=Limiter(rate=1, burst=2), clock=clock)
    before = SHED_LIKES.value
    for taps in (10, 20, 30):
        like.like(caller(), 5, taps)
    like.like(caller("bob"), 5, 4)
    assert rooms.taps == [(5, 10), (5, 20), (5, 4)]
    assert SHED_LIKES.value - before == 30
