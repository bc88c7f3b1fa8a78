"""The people of a show: each comes and goes as planned, talks, likes, grabs a coupon, buys, and pays or does not."""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.client import Backend, NoAnswer, Viewer, ViewerAway
from gateway.client.codec import codec_named
from gateway.client.orders import OrderAnswer
from gateway.domain.order import OrderOutcome
from gateway.errors import GatewayError
from loadtests.profiles import MOST_TAPS
from loadtests.show_journal import Journal, PlayedOrder
from loadtests.show_plan import MOST_AN_ORDER, PICKUP_SHARE, TAP_WITHIN_S, Person, Show, Visit

SKU: Final = "tin"
PRICE_MINOR: Final = 1_900
OFF_MINOR: Final = 500
THRESHOLD_MINOR: Final = 2 * PRICE_MINOR
ANSWER_WITHIN_S: Final = 30.0
# A second tap on the bag within a second counts as the same one.
ENTER_PAUSE_S: Final = 1.2
LIKE_EVERY_S: Final = 5.0
COME_AT_ONCE: Final = 100
JUDGED_WITHIN_S: Final = 30.0


class Guest:
    """One person, with whatever socket there is."""

    def __init__(self, crowd: "Crowd", person: Person, token: str) -> None:
        self.person = person
        self.units = 0
        """Held and paid for."""
        self.viewer: Viewer | None = None
        self._crowd = crowd
        self._token = token
        self._claim: str | None = None
        """A claim that no order of ours holds."""
        self._entered_s = -ENTER_PAUSE_S
        self._orders = 0
        self._acting = asyncio.Lock()
        """Nobody leaves in the middle of something."""

    async def run(self) -> None:
        for visit in self.person.visits:
            await _until(self._crowd.journal, visit.at_s)
            if self._crowd.is_over.is_set():
                return
            await self._stay(visit)

    async def _stay(self, visit: Visit) -> None:
        crowd, journal = self._crowd, self._crowd.journal
        async with crowd.door:
            viewer = Viewer(crowd.live_url, self._token, codec=crowd.codec, follow=False, welcome_within_s=60)
            await viewer.__aenter__()
        came_s = journal.now_s()
        journal.one_came(self.person.sub)
        self.viewer = viewer
        try:
            if visit.enters:
                self._enter()
            if visit.orders:
                await self.buy()
            if visit.until_s is None:
                await self._like_until_over()
            else:
                self._like()
                await _until(journal, visit.until_s)
        finally:
            async with self._acting:
                self.viewer = None
                stayed_s = journal.now_s() - came_s
                await viewer.__aexit__(None, None, None)
                journal.one_left(self.person.sub, stayed_s=stayed_s, reconnects=viewer.reconnects)

    async def _like_until_over(self) -> None:
        while not self._crowd.is_over.is_set():
            self._like()
            try:
                async with asyncio.timeout(LIKE_EVERY_S):
                    await self._crowd.is_over.wait()
            except TimeoutError:
                pass

    def _like(self) -> None:
        if self.viewer is not None and self.viewer.is_connected:
            taps = self._crowd.dice.randint(1, MOST_TAPS)
            self._crowd.journal.likes += taps
            self.viewer.like(taps)

    def _enter(self) -> None:
        journal = self._crowd.journal
        if self.viewer is None or not self.viewer.is_connected or journal.now_s() - self._entered_s < ENTER_PAUSE_S:
            return
        self._entered_s = journal.now_s()
        journal.entries[self.person.sub] += 1
        self.viewer.enter(self._crowd.sale)

    # What everybody does at once.

    async def grab(self, coupon: str) -> None:
        await asyncio.sleep(self._crowd.dice.uniform(0, TAP_WITHIN_S))
        async with self._acting:
            if self.viewer is None:
                return
            try:
                answer = await self.viewer.claim(coupon, key=f"grab-{self.person.sub}", insist=True)
            except (NoAnswer, ViewerAway) as error:
                self._crowd.journal.wrong.append(f"{self.person.sub} has no answer to a claim: {error}")
                return
        self._crowd.journal.claim_answers[answer.outcome] += 1
        if answer.is_claimed and answer.claim is not None:
            self._crowd.journal.claims[answer.claim] = self.person.sub
            self._claim = answer.claim

    async def tap(self) -> None:
        await asyncio.sleep(self._crowd.dice.uniform(0, TAP_WITHIN_S))
        self._enter()
        await self.buy()

    async def comment(self, text: str) -> bool:
        async with self._acting:
            if self.viewer is None:
                return False
            try:
                answer = await self.viewer.comment(text, insist=True)
            except (NoAnswer, ViewerAway) as error:
                self._crowd.journal.wrong.append(f"{self.person.sub} has no answer to a comment: {error}")
                return False
        return answer.comment is not None

    # Buying.

    async def buy(self, most: int = MOST_AN_ORDER) -> None:
        async with self._acting:
            if self.viewer is not None and self._crowd.is_open.is_set():
                await self._buy(self.viewer, most)

    async def _buy(self, viewer: Viewer, most: int) -> None:
        crowd, journal = self._crowd, self._crowd.journal
        quantity = crowd.dice.randint(1, most)
        claim = self._claim if quantity * PRICE_MINOR >= THRESHOLD_MINOR else None
        if claim is not None:
            self._claim = None
        self._orders += 1
        wants_pickup = crowd.dice.random() < PICKUP_SHARE
        try:
            answer = await viewer.order(
                sale=crowd.sale,
                sku=SKU,
                quantity=quantity,
                key=f"{self.person.sub}-{self._orders}",
                coupon_claim=claim,
                pickup=True if wants_pickup else None,
                insist=True,
                within_s=ANSWER_WITHIN_S,
            )
        except (NoAnswer, ViewerAway, GatewayError) as error:
            journal.wrong.append(f"{self.person.sub} has no answer to an order: {error!r}")
            return
        journal.answers[answer.outcome] += 1
        if answer.is_reserved:
            self._take(answer, quantity, claim, wants_pickup)
        elif answer.outcome != OrderOutcome.COUPON_UNUSABLE:
            self._claim = self._claim or claim

    def _take(self, answer: OrderAnswer, quantity: int, claim: str | None, wants_pickup: bool) -> None:
        crowd = self._crowd
        expected_minor = quantity * PRICE_MINOR - (OFF_MINOR if claim else 0)
        if answer.order is None or answer.amount_minor != expected_minor:
            crowd.journal.wrong.append(f"{quantity} for {answer.amount_minor} and not {expected_minor}: {answer}")
            return
        self.units += quantity
        after_s = crowd.show.pays_after_s(crowd.dice)
        order = PlayedOrder(
            order=answer.order,
            number=len(crowd.journal.orders) + 1,
            sub=self.person.sub,
            quantity=quantity,
            amount_minor=expected_minor,
            claim=claim,
            wants_pickup=wants_pickup,
            pays=after_s is not None,
        )
        crowd.journal.orders[order.order] = order
        if after_s is None:
            crowd.later(self._let_go(order))
        else:
            crowd.later(crowd.pay(order, after_s))

    async def _let_go(self, order: PlayedOrder) -> None:
        """Not paid for in time: the units are somebody else's, and the coupon is good for another order."""
        await asyncio.sleep(self._crowd.show.pay_within_s + 1)
        self.units -= order.quantity
        self._claim = self._claim or order.claim


class Crowd:
    def __init__(
        self,
        show: Show,
        journal: Journal,
        *,
        live_url: str,
        sale: str,
        codec: str,
        till: Backend,
        tokens: Sequence[str],
        dice: random.Random,
    ) -> None:
        self.show = show
        self.journal = journal
        self.live_url = live_url
        self.sale = sale
        self.codec = codec_named(codec)
        self.dice = dice
        self.door = asyncio.Semaphore(COME_AT_ONCE)
        self.is_open = asyncio.Event()
        self.is_over = asyncio.Event()
        self.guests = [Guest(self, *each) for each in zip(show.people, tokens, strict=True)]
        self._till = till
        self._later: set[asyncio.Task[None]] = set()

    @property
    def present(self) -> list[Guest]:
        return [guest for guest in self.guests if guest.viewer is not None and guest.viewer.is_connected]

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._later.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.journal.wrong.append(f"it could not be played: {error!r}")

    async def paid(self) -> None:
        """Until nobody has anything left to pay or to let go."""
        while self._later:
            await asyncio.wait(set(self._later))

    async def pay(self, order: PlayedOrder, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            shown = await self._till.report_payment(
                order.order,
                provider="till",
                txn=f"txn-{order.number}",
                amount_minor=order.amount_minor,
                paid_at=datetime.now(UTC).isoformat(),
                key=f"pay-{order.number}",
            )
        except GatewayError as error:
            self.journal.wrong.append(f"the money of {order.order} was not taken: {error!r}")
            return
        self.journal.paid_minor += order.amount_minor
        try:
            async with asyncio.timeout(JUDGED_WITHIN_S):
                # Money that came too late waits until it is decided whether there still is a unit.
                while shown.status == "expired":
                    await asyncio.sleep(0.2)
                    shown = await self._till.order(order.order)
        except TimeoutError:
            self.journal.wrong.append(f"late money for {order.order} is not judged")
        order.told = shown.status

    async def talk(self, lines: Sequence[tuple[float, str]]) -> None:
        """Each line at its time, by whoever is there."""

        async def say(text: str) -> None:
            guest = self.dice.choice(self.present)
            if await guest.comment(text):
                self.journal.comments += 1
                self.journal.commenters.add(guest.person.sub)

        for at_s, text in lines:
            await _until(self.journal, at_s)
            if self.present:
                self.later(say(text))


async def _until(journal: Journal, at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - journal.now_s()))
