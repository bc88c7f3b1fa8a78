"""The people of the show that `peakgate demo --keep` goes on with: they come, stay a while, leave, and come back."""

import asyncio
import random
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.cli.demo_pace import Pace
from gateway.client import OrderAnswer, Viewer
from gateway.domain.order import OrderStatus
from gateway.errors import GatewayError

SignIn = Callable[[str], Awaitable[str]]
"""A fresh token for the viewer of that name."""

ANSWER_WITHIN_S: Final = 15.0
GRAB_WITHIN_S: Final = 6.0

_FIRST: Final = "小大阿老"
_SECOND: Final = "雨林青鱼米川舟禾竹月石松云南北"
_NAMES: Final = (
    "Ada Amir Anna Bela Bo Carla Chen Cleo Dana Dima Ebba Eli Emre Femi Finn Gita Greta Hana Hugo Ida Igor Ines Ivo "
    "Jana Jonas Juno Kaya Kofi Lan Lena Leo Lin Liv Luca Maja Mara Mei Milo Mina Nadia Nico Nils Noa Olga Omar Pia "
    "Quinn Rafa Remi Rosa Sana Sefa Tara Tom Uma Vera Wei Yara Yuki Zoe"
)


def names(count: int) -> list[str]:
    """So many different ones, in the scripts of the chat."""
    chinese = [first + second for second in _SECOND for first in _FIRST]
    english = _NAMES.split()
    known = [name for pair in zip(chinese, english, strict=True) for name in pair]
    return [known[at % len(known)] + (str(at // len(known) + 1) if at >= len(known) else "") for at in range(count)]


class Guest:
    """One person of the crowd, with a socket while here. Keeps one coupon at most, and forgets all else on leaving."""

    def __init__(self, name: str, *, live_url: str, sign_in: SignIn, dice: random.Random) -> None:
        self.name = name
        self._live_url = live_url
        self._sign_in = sign_in
        self._dice = dice
        self._viewer: Viewer | None = None
        self._claim: str | None = None
        self._claim_until_s = 0.0

    @property
    def is_here(self) -> bool:
        return self._viewer is not None and self._viewer.is_connected

    async def come_and_go(self, pace: Pace) -> None:
        """For ever; who is turned away at the door tries again later. Each time with a fresh token, so that none ends
        while its viewer is there."""
        await asyncio.sleep(self._dice.uniform(0, pace.comes_within_s))
        while True:
            try:
                token = await self._sign_in(self.name)
                async with Viewer(self._live_url, token, follow=False) as viewer:
                    self._viewer = viewer
                    await asyncio.sleep(self._dice.uniform(*pace.stay_s))
            except (GatewayError, TimeoutError):
                pass
            finally:
                self._viewer = None
            await asyncio.sleep(self._dice.uniform(0.3, 1.0) * pace.away_s)

    # What a guest does, while here; an answer that does not come is None, and the show goes on.

    async def say(self, text: str) -> None:
        if self._viewer is None:
            return
        try:
            await self._viewer.comment(text, within_s=ANSWER_WITHIN_S)
        except GatewayError:
            pass

    def like(self, taps: int) -> None:
        if self._viewer is not None:
            self._viewer.like(taps)

    async def grab(self, coupon: str, *, valid_s: float) -> None:
        await asyncio.sleep(self._dice.triangular(0.3, GRAB_WITHIN_S, 1.5))
        if self._viewer is None:
            return
        try:
            answer = await self._viewer.claim(coupon, within_s=ANSWER_WITHIN_S)
        except GatewayError:
            return
        if answer.is_claimed:
            self._claim, self._claim_until_s = answer.claim, time.monotonic() + valid_s

    async def buy(self, sale: str, sku: str, *, pickup: bool) -> OrderAnswer | None:
        """The answer once it is confirmed; None: no order came of it."""
        viewer = self._viewer
        if viewer is None:
            return None
        claim, self._claim = (self._claim if time.monotonic() < self._claim_until_s else None), None
        viewer.enter(sale)
        try:
            answer = await viewer.order(
                sale=sale, sku=sku, coupon_claim=claim, pickup=pickup or None, within_s=ANSWER_WITHIN_S
            )
            if answer.order is None:
                return None
            known = await viewer.confirmed(answer.order, within_s=ANSWER_WITHIN_S)
        except GatewayError:
            return None
        return answer if known.status == OrderStatus.CONFIRMED else None


class Crowd:
    """So many guests, most of them here."""

    def __init__(self, count: int, *, live_url: str, sign_in: SignIn, pace: Pace, dice: random.Random) -> None:
        self._guests = [Guest(name, live_url=live_url, sign_in=sign_in, dice=dice) for name in names(count)]
        self._pace = pace
        self._dice = dice

    async def come_and_go(self) -> None:
        async with asyncio.TaskGroup() as group:
            for guest in self._guests:
                group.create_task(guest.come_and_go(self._pace))

    def here(self) -> list[Guest]:
        return [guest for guest in self._guests if guest.is_here]

    def someone(self) -> Guest | None:
        here = self.here()
        return self._dice.choice(here) if here else None

    def seat_of(self, author: str) -> Guest | None:
        """Who speaks for an author of a recording: always the same one, unless away."""
        guest = self._guests[zlib.crc32(author.encode()) % len(self._guests)]
        return guest if guest.is_here else None
