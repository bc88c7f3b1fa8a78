"""How a viewer follows a room: where it is in the room's ticks, what it missed, and the picture they make."""

from collections.abc import Callable
from typing import Any

from gateway.client.codec import Codec, ToViewer
from gateway.client.room_view import RoomView

OnEvent = Callable[[dict[str, Any]], None]


class Following:
    """The ticks of one room over however many sockets it takes.

    Ticks are numbered without a gap: one that is not the next is a hole, and counted. One that was there before, told
    again around a snapshot or a resume, is passed over. Only who has listeners (`keeps_view`, `on_event`) pays for
    decoding ticks; the others read their number alone.
    """

    def __init__(self, *, codec: Codec, keeps_view: bool, on_event: OnEvent | None) -> None:
        self.welcome: dict[str, Any] = {}
        self.snapshot: dict[str, Any] = {}
        self.view = RoomView({}) if keeps_view else None
        """The picture: empty before the first snapshot, and the old one until a new snapshot replaces it."""
        self.holes = 0
        self._codec = codec
        self._on_event = on_event
        self._epoch = 0
        self._seq: int | None = None
        """The last tick seen; None while a snapshot has yet to say where the room is."""

    def resume(self) -> dict[str, object] | None:
        """Where this viewer left the room; who does not listen misses nothing."""
        if self._seq is None or (self.view is None and self._on_event is None):
            return None
        return {"epoch": self._epoch, "seq": self._seq}

    def forget_place(self) -> None:
        """The next hello asks for a snapshot."""
        self._seq = None

    # What the gateway says.

    def welcomed(self, payload: bytes) -> dict[str, Any]:
        self.welcome = self._codec.read_whole(payload)
        if not self.welcome.get("recovered"):
            # A snapshot follows. What comes before it is in it.
            self._epoch = self.welcome.get("epoch", 0)
            self._seq = None
        return self.welcome

    def shown(self, payload: bytes) -> None:
        """A snapshot: after a welcome, or in the middle, when the room began a new epoch."""
        self.snapshot = self._codec.read_whole(payload)
        self._epoch = self.snapshot.get("epoch", self._epoch)
        self._seq = self.snapshot.get("seq")
        if self.view is not None:
            self.view = RoomView(self.snapshot)

    def ticked(self, told: ToViewer, payload: bytes) -> None:
        if told.seq is None:
            return
        if self._seq is not None:
            if told.seq <= self._seq:
                return
            self.holes += told.seq != self._seq + 1
            self._seq = told.seq
        if self._on_event is None and self.view is None:
            return
        tick = self._codec.read_whole(payload)
        if self.view is not None and self._seq is not None:
            self.view.tick(tick)
        if self._on_event is not None:
            for event in tick.get("ev", ()):
                self._on_event(event)

    def posted(self, text: str, *, comment: str, at_ms: int) -> None:
        """A comment of this viewer's own has been posted."""
        if self.view is not None:
            self.view.posted(comment=comment, viewer=self.welcome.get("you", ""), text=text, at_ms=at_ms)
