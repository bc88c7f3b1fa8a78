"""What a crowd of readers has counted since its act began."""

import re
import time
from collections import Counter
from collections.abc import Sequence

from .generator import latency
from .room_messages import Heard
from .room_wire import STAMP

_LIKES, _SKIPPED = re.compile(rb'"likes":(\d+)'), re.compile(rb'"skipped":(\d+)')
# In JSON; in MessagePack, where a short text follows a byte of its length; an error in JSON.
_OUTCOME = re.compile(rb'"outcome":"([a-z_]+)"|\xa7outcome[\xa0-\xbf]([a-z_]+)|"t":"error"[^}]*?"code":"([a-z_]+)"')


class Tally:
    """Counts of all viewers together, and what the sampled ones saw."""

    def __init__(self) -> None:
        self.frames = self.comments = self.bytes = 0
        self.lost = self.refused = self.recovered = self.anew = 0
        self.skipped = self.likes_shown = 0
        self.latency_us: list[int] = []
        self.late_us: list[int] = []
        self.back_us: list[int] = []
        self.outcomes: Counter[str] = Counter()

    def look_at(self, data: bytes) -> None:
        """Frames of a sampled viewer, read right now."""
        now_us = time.monotonic_ns() // 1000
        self.latency_us.extend([now_us - int(stamp) for stamp in STAMP.findall(data)])
        for likes in _LIKES.findall(data):
            self.likes_shown = max(self.likes_shown, int(likes))

    def look_for_skipped(self, data: bytes) -> None:
        self.skipped += sum(map(int, _SKIPPED.findall(data)))

    def answers(self, data: bytes) -> int:
        """How many answers to a viewer's own frames are in it."""
        found = _OUTCOME.findall(data)
        for words in found:
            self.outcomes[b"".join(words).decode()] += 1
        return len(found)

    def heard(self, *, sent: int, likes_sent: int, comments: Sequence[int], present: int, cpu_share: float) -> Heard:
        """`comments`: of each viewer who was there all the time and read."""
        late = sorted(self.late_us) or [0]
        return Heard(
            sent=sent,
            frames=self.frames,
            comments=self.comments,
            bytes=self.bytes,
            least=min(comments, default=0),
            most=max(comments, default=0),
            latency_ms=latency(self.latency_us),
            outcomes=dict(self.outcomes),
            likes_sent=likes_sent,
            likes_shown=self.likes_shown,
            skipped=self.skipped,
            lost=self.lost,
            refused=self.refused,
            recovered=self.recovered,
            anew=self.anew,
            back_after_ms=latency(self.back_us),
            present=present,
            late_p99_ms=late[len(late) * 99 // 100] / 1000,
            cpu_share=cpu_share,
        )
