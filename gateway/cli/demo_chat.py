"""The talk of `peakgate demo`: a recorded chat that the demo's viewers say while it sells, and their hearts."""

import asyncio
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.cli.chat_file import read_chat, shipped_chat
from gateway.cli.chat_player import ChatTally, play
from gateway.cli.figures import p50_p99_text
from gateway.client import Viewer

# Long enough to watch, and a demo stays within a minute.
PLAYS_FOR_S: Final = 12.0
# Faster is no talk any more: of a longer chat the beginning is played.
MAX_SPEED: Final = 20.0
LIKE_EVERY_S: Final = 0.25
LIKE_SHARE: Final = 0.05
MOST_TAPS: Final = 5
SETTLE_WITHIN_S: Final = 2.0
SHOWN_LINES: Final = 6


class DemoChat:
    """A chat cut and sped up so that it fits; the viewers of the demo are its authors in turn."""

    def __init__(self, file: Path | None) -> None:
        lines = read_chat(file or shipped_chat())
        self.speed = min(MAX_SPEED, max(1.0, lines[-1].offset_s / PLAYS_FOR_S))
        self.lines = [line for line in lines if line.offset_s <= PLAYS_FOR_S * self.speed]
        """What is said of it, by its time."""
        self.left_out = len(lines) - len(self.lines)
        self.tally = ChatTally(len(self.lines))
        self.screen: Viewer | None = None
        """The one viewer whose picture of the room is shown to people."""

    @property
    def opens_after_s(self) -> float:
        """When the sale opens: people talk before and after."""
        return self.lines[-1].offset_s / self.speed / 2

    @property
    def comment_rate(self) -> int:
        """How often a viewer of the demo may speak: as often as people may, in the time of the recording."""
        return math.ceil(self.speed)

    async def play(self, viewers: Sequence[Viewer], screen: Viewer) -> None:
        self.screen = screen
        seats: dict[str, Viewer] = {}

        async def seat(author: str) -> Viewer:
            return seats.setdefault(author, viewers[len(seats) % len(viewers)])

        liking = asyncio.create_task(_like(viewers))
        try:
            await play(self.lines, speed=self.speed, seat=seat, tally=self.tally, lead_s=0.0)
            await self.tally.settled(lambda: screen.room.skipped, within_s=SETTLE_WITHIN_S)
        finally:
            liking.cancel()
            await asyncio.gather(liking, return_exceptions=True)

    def last_lines(self) -> list[str]:
        """What stands on the screen now."""
        if self.screen is None:
            return []
        return [comment["text"] for comment in self.screen.room.recent[-SHOWN_LINES:]]

    def figures(self) -> dict[str, Any]:
        told: dict[str, Any] = {"speed": round(self.speed, 1), **self.tally.figures()}
        if self.screen is not None:
            room = self.screen.room
            told |= {"skipped": room.skipped, "viewers": room.viewers, "likes": room.likes, "holes": self.screen.holes}
        return told

    def summary(self) -> str:
        figures = self.figures()
        line = (
            f"{figures['shown']:,} of {figures['posted']:,} comments were shown to {figures.get('viewers', 0):,} "
            f"viewers, who gave {figures.get('likes', 0):,} likes; from send to screen p50 / p99: "
            f"{p50_p99_text(self.tally.to_seen_ms)}."
        )
        others = figures["other_outcomes"]
        if others:
            line += " Other outcomes: " + ", ".join(f"{outcome} {count:,}" for outcome, count in others.items()) + "."
        if figures.get("holes"):
            line += f" {figures['holes']} ticks were not the one after the last: that must not be."
        return line


async def _like(viewers: Sequence[Viewer]) -> None:
    some = max(1, round(len(viewers) * LIKE_SHARE))
    while True:
        for viewer in random.sample(viewers, some):
            viewer.like(random.randint(1, MOST_TAPS))
        await asyncio.sleep(LIKE_EVERY_S)
