"""What `peakgate replay` says at its end."""

from gateway.cli.chat_player import ChatTally
from gateway.cli.replay import _Replayed, _shown
from gateway.client import CommentAnswer


def replayed(*, shown: int, unseen: int, skipped: int) -> _Replayed:
    tally = ChatTally(shown + unseen)
    for number in range(shown + unseen):
        tally.answered(CommentAnswer(outcome="posted", id=str(number), comment=f"cmt_{number}", at_ms=1), 0.0)
        if number < shown:
            tally.saw({"k": "comment", "comment": f"cmt_{number}"})
    return _Replayed(room="room_1", seconds=1.0, tally=tally, viewers=1, skipped=skipped, holes=0)


def test_where_all_is_shown_nothing_is_explained() -> None:
    assert _shown(replayed(shown=3, unseen=0, skipped=0)) == "3 shown"


def test_what_the_room_skipped_is_explained_and_what_was_missed_otherwise_is_not() -> None:
    assert _shown(replayed(shown=2, unseen=1, skipped=1)) == "2 shown, 1 not, so that the room can be read"
    assert _shown(replayed(shown=2, unseen=1, skipped=0)) == "2 shown, 1 not"
