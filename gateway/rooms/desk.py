"""What waits for one room in this process, until its next call."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.domain.comment import CommentRequest


class Desk:
    """What waits for one room here. Its taps are counted for good: Valkey knows this process's total."""

    __slots__ = (
        "at_once",
        "called_s",
        "comments",
        "epoch",
        "failures",
        "recall_s",
        "room_no",
        "seq",
        "stock",
        "taps",
        "taps_told",
        "wake",
        "wants_cut",
        "working",
    )

    def __init__(self, room_no: int) -> None:
        self.room_no = room_no
        self.comments: deque[CommentRequest] = deque()
        self.stock: dict[str, tuple[int, dict[str, Any]]] = {}
        self.epoch = 0
        self.seq = 0
        self.taps = 0
        self.taps_told = 0
        self.at_once = False
        self.wants_cut = False
        self.called_s = 0.0
        self.recall_s: float | None = None
        self.failures = 0
        self.working = False
        self.wake = asyncio.Event()

    @property
    def has_work(self) -> bool:
        return bool(self.comments or self.stock or self.taps > self.taps_told or self.wants_cut)

    def put_back(
        self, comments: Sequence[CommentRequest], stock: Mapping[str, tuple[int, dict[str, Any]]], at_once: bool
    ) -> None:
        """What a call took and did not bring; of an item's readings the newer one stays."""
        self.comments.extendleft(reversed(comments))
        for field, reading in stock.items():
            had = self.stock.get(field)
            if had is None or had[0] < reading[0]:
                self.stock[field] = reading
        self.at_once = self.at_once or at_once
        self.wants_cut = True
