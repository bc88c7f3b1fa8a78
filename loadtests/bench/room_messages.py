"""What the bench and its crowd of readers tell each other, a JSON line each."""

import msgspec

from .generator import Latency
from .room_wire import Dialect


class Crowd(msgspec.Struct, kw_only=True):
    """Who comes where."""

    dialect: Dialect
    port: int
    path: str = "/"
    paths: str | None = None
    """A file with a path a line, for viewers of several rooms; they are dealt out in turn."""
    viewers: int
    subprotocol: str | None = None
    tokens: str | None = None
    """A file with a token a line; the crowd takes `viewers` of them from line `tokens_from`."""
    tokens_from: int = 0
    publish_port: int = 0
    publish_path: str = "/"
    join_rate: float = 1_200.0
    """Viewers a second; below what a live process welcomes."""
    addresses: int = 8
    """Addresses 127.0.0.x that the viewers come from: one has 28,000 ports, and a crowd that was cut keeps its own for
    a minute, which 127.0.0.1 needs for the servers of the next run."""
    stalled: int = 0
    """The first this many never read after their welcome; cut, they come back and stall again."""
    insist: bool = False
    cpu: int | None = None


class Act(msgspec.Struct, kw_only=True):
    """What to do for `for_s` seconds."""

    for_s: float
    drain_s: float = 1.0
    """How long no comment may have come before the act counts as heard."""
    comments: list[tuple[float, str]] = []
    """When each is due, in seconds from the start, and its text. Speakers take turns."""
    merged: bool = False
    """Peers: publish what was due in the same 100 ms as one message."""
    likes_per_s: float = 0.0
    taps: int = 0
    """Of each like frame."""
    cut: int = 0
    """Close this many sockets at once, a second after the start, without a word."""


class Arrived(msgspec.Struct, kw_only=True):
    welcomed: int
    took_s: float
    refused: int
    """Upgrades answered something else than 101 and asked again."""


class Heard(msgspec.Struct, kw_only=True):
    """What came of one act."""

    sent: int
    frames: int
    comments: int
    """Comments delivered, of all viewers together."""
    bytes: int
    least: int
    most: int
    """Comments that the viewer with the fewest, the most of them got; stalled and cut ones are left out."""
    latency_ms: Latency
    outcomes: dict[str, int]
    likes_sent: int
    likes_shown: int
    skipped: int
    """Comments not shown, as one viewer was told."""
    lost: int
    """Sockets that ended and were not asked to."""
    refused: int
    recovered: int
    anew: int
    """Welcomes after a cut: with the missed ticks, with a snapshot."""
    back_after_ms: Latency
    """From the cut to the welcome, of all who came back."""
    present: int
    late_p99_ms: float
    """How late comments left this process."""
    cpu_share: float
