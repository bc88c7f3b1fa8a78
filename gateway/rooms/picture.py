"""A room as this process knows it: what is shown, and the last ticks for who comes back. No I/O.

A comment that was taken back leaves the recent ones and the kept ticks too, so that nobody is shown it again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, Final

from gateway.wire import frames
from gateway.wire.codec import Codec
from gateway.wire.ticks import CutTick, RoomFacts, SaidComment

# As many as Valkey keeps: a minute at ten ticks a second, ten where the room is quiet.
TICKS_KEPT: Final = 600
RECENT: Final = 50

NO_EPOCH: Final = 0
"""Of a room that was entered while the rooms Valkey was away: nobody comes back to it."""

MintComment = Callable[[int, int, int, int], str]


class Variant(IntEnum):
    """How much of a tick somebody gets who cannot keep up."""

    WHOLE = 0
    NO_COMMENTS = 1
    SALE_ONLY = 2
    """Neither the running totals of likes and viewers, which make most of the ticks of a lively room."""
    AND_TOTALS = 3
    """Whole, and the totals as they are: for who was left without them and has caught up."""


class ShownTick:
    """A tick as it is shown here; encoded once a codec and variant, the WebSocket header with it."""

    __slots__ = ("_encoded", "events", "likes", "now_ms", "seq", "skipped", "totals", "viewers")

    def __init__(self, tick: CutTick, events: list[frames.Event]) -> None:
        self.seq = tick.seq
        self.now_ms = tick.now_ms
        self.viewers = tick.viewers
        self.likes = tick.likes
        self.skipped = tick.skipped
        self.events = events
        self.totals: tuple[int, int] | None = None
        """Viewers and likes as they were at this tick."""
        self._encoded: dict[tuple[str, Variant], bytes] = {}

    def encoded(self, codec: Codec, variant: Variant) -> bytes:
        known = self._encoded.get((codec.name, variant))
        if known is None:
            known = self._encoded[codec.name, variant] = codec.framed(self._frame(variant))
        return known

    def takes_back(self, gone: Callable[[frames.ShownComment], bool]) -> None:
        kept = [event for event in self.events if not (isinstance(event, frames.ShownComment) and gone(event))]
        if len(kept) != len(self.events):
            self.events = kept
            self._encoded.clear()

    def _frame(self, variant: Variant) -> frames.Tick:
        if variant in (Variant.WHOLE, Variant.AND_TOTALS):
            viewers, likes = self.viewers, self.likes
            if variant is Variant.AND_TOTALS and self.totals is not None:
                viewers, likes = self.totals
            return frames.Tick(self.seq, self.now_ms, self.events, viewers, likes, self.skipped)
        # What hosts did and what the sale became is never left out: no later tick says it again.
        events: list[frames.Event] = [e for e in self.events if not isinstance(e, frames.ShownComment)]
        skipped = self.skipped + len(self.events) - len(events)
        if variant is Variant.NO_COMMENTS:
            return frames.Tick(self.seq, self.now_ms, events, self.viewers, self.likes, skipped)
        return frames.Tick(self.seq, self.now_ms, events, skipped=skipped)


class RoomPicture:
    """Built from the room's facts, moved on by each tick in turn."""

    def __init__(self, room_no: int, facts: RoomFacts, *, mint: MintComment) -> None:
        self.epoch = facts.epoch
        self.seq = facts.seq
        self.likes = facts.likes
        self.viewers = facts.viewers
        self.slow_mode_s = facts.slow_mode_s
        self.comments = facts.comments
        self.pin = facts.pin
        self.recent: deque[frames.ShownComment] = deque(maxlen=RECENT)
        self.ticks: deque[ShownTick] = deque(maxlen=TICKS_KEPT)
        self._room_no = room_no
        self._mint = mint

    def remember(self, ticks: Iterable[CutTick]) -> None:
        """Ticks before the facts, for who comes back to them."""
        for tick in ticks:
            if tick.epoch == self.epoch and tick.seq <= self.seq:
                self._keep(tick)

    def apply(self, tick: CutTick) -> ShownTick:
        """The next tick; its number must follow."""
        shown = self._keep(tick)
        self.seq = tick.seq
        if tick.likes is not None:
            self.likes = tick.likes
        if tick.viewers is not None:
            self.viewers = tick.viewers
        shown.totals = (self.viewers, self.likes)
        for event in shown.events:
            if not isinstance(event, frames.ShownComment):
                self._follow(event)
        return shown

    def go_back(self) -> None:
        """To the room's beginning, so that all its ticks are applied; its totals and what hosts set stay as read."""
        self.seq = 0
        self.ticks.clear()
        self.recent.clear()

    def missed(self, epoch: int, seq: int) -> Sequence[ShownTick] | None:
        """The ticks behind `seq`; None when they are not all here, so that only a snapshot tells the whole."""
        if epoch != self.epoch or epoch == NO_EPOCH or not 0 <= seq <= self.seq:
            return None
        behind = self.seq - seq
        if behind > len(self.ticks):
            return None
        return [self.ticks[at] for at in range(len(self.ticks) - behind, len(self.ticks))]

    def is_other(self, tick: CutTick) -> bool:
        """Whether it has the number of a tick that is known here, and is another one."""
        behind = self.seq - tick.seq
        return (
            tick.epoch == self.epoch and 0 <= behind < len(self.ticks) and self.ticks[-1 - behind].now_ms != tick.now_ms
        )

    @property
    def chat(self) -> dict[str, Any]:
        return {"slow_mode_s": self.slow_mode_s, "comments": "on" if self.comments else "off"}

    def _keep(self, tick: CutTick) -> ShownTick:
        events: list[frames.Event] = []
        shown = ShownTick(tick, events)
        for event in tick.ev:
            if isinstance(event, SaidComment):
                comment = frames.ShownComment(
                    comment=self._mint(event.at_ms, self._room_no, self.epoch, event.n),
                    viewer=event.viewer,
                    name=event.name,
                    text=event.text,
                    at_ms=event.at_ms,
                )
                events.append(comment)
                self.recent.append(comment)
            else:
                if event.get("k") == "comment_gone":
                    self._take_back(event, events)
                events.append(event)
        self.ticks.append(shown)
        return shown

    def _take_back(self, event: dict[str, Any], before: list[frames.Event]) -> None:
        comment, viewer = event.get("comment"), event.get("viewer")

        def gone(said: frames.ShownComment) -> bool:
            return said.comment == comment if comment is not None else said.viewer == viewer

        before[:] = [each for each in before if not (isinstance(each, frames.ShownComment) and gone(each))]
        for tick in self.ticks:
            tick.takes_back(gone)
        self.recent = deque((said for said in self.recent if not gone(said)), maxlen=RECENT)

    def _follow(self, event: dict[str, Any]) -> None:
        match event.get("k"):
            case "pin":
                self.pin = event.get("pin")
            case "chat":
                self.slow_mode_s = event.get("slow_mode_s", self.slow_mode_s)
                self.comments = event.get("comments", "on") == "on"
