"""Events reach a shop's real server: signed, in the order of each object, again until they are taken or given up."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from gateway.clock import SystemClock
from gateway.domain.webhook import Endpoint, EventType
from gateway.ledger import webhooks
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries
from gateway.ledger.shops import Shops
from gateway.ledger.webhooks import LedgerDeliveries, LedgerWebhooks
from gateway.webhooks import ping as pings
from gateway.webhooks import sender as senders
from gateway.webhooks.post import poster
from gateway.webhooks.sender import Sender
from gateway.webhooks.signing import new_secret
from tests.support.servers import eventually
from tests.support.shop_backend import ShopBackend, shop_backend

PAID, CONFIRMED = EventType.ORDER_PAID, EventType.ORDER_CONFIRMED


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
        await shops.create("cups")
    ledger = await Ledger.connect(database_url, size=6)
    yield ledger
    await ledger.close()
    await asyncio.sleep(0)


@pytest.fixture
async def backend() -> AsyncIterator[ShopBackend]:
    async with shop_backend() as backend:
        yield backend


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Pauses are drawn as always, noted, and cut short."""
    asked: list[float] = []

    def pause_s(attempts: int, *, retry_after_s: float = 0.0) -> float:
        asked.append(retry_after_s)
        return 0.05

    monkeypatch.setattr(senders, "pause_s", pause_s)
    yield asked


class Queue:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.webhooks = LedgerWebhooks(ledger)

    async def webhook(self, url: str, *, shop: str = "tins", secret: str = "") -> str:
        secret = secret or new_secret()
        await self.webhooks.put(shop, url=url, events=list(EventType), secret=secret)
        return secret

    async def put(self, *events: tuple[str, str], shop_no: int = 1) -> None:
        """(type, object)"""
        bodies = [f'{{"type":"{kind}","data":{{"order":"{thing}"}}}}' for kind, thing in events]
        await self.ledger.execute(
            "SELECT queue_events($1, $2, $3, $4, $5)",
            [shop_no] * len(events),
            [str(kind) for kind, _ in events],
            [thing for _, thing in events],
            [""] * len(events),
            bodies,
        )

    async def left(self, state: str = "waiting") -> int:
        return int(await self.ledger.fetchval("SELECT count(*) FROM deliveries WHERE state = $1", state))

    async def empty(self, *, within_s: float = 20.0) -> None:
        async def is_empty() -> bool:
            return await self.left() == 0

        await eventually(is_empty, within_s=within_s)


@pytest.fixture
def queue(ledger: Ledger) -> Queue:
    return Queue(ledger)


@asynccontextmanager
async def sending(ledger: Ledger, *, deliveries: Any = None) -> AsyncIterator[Sender]:
    """A sender at work; stopped hard at the end."""
    async with poster(clock=SystemClock(), private=True, dev=True) as post:
        sender = Sender(deliveries=deliveries or LedgerDeliveries(ledger), post=post, clock=SystemClock())
        task = asyncio.create_task(sender.run())
        try:
            yield sender
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


async def test_an_event_arrives_signed_and_leaves_the_queue(ledger: Ledger, queue: Queue, backend: ShopBackend) -> None:
    backend.secrets = [await queue.webhook(backend.url)]
    await queue.put((PAID, "ord_1"))
    row = await ledger.fetchrow("SELECT msg_id, body FROM deliveries")
    async with sending(ledger):
        await queue.empty()
    [heard] = backend.heard
    assert (heard.msg_id, heard.body) == (row["msg_id"], row["body"])
    assert heard.headers["Content-Type"] == "application/json"
    found = await queue.webhooks.find("tins")
    assert found is not None and found.failures == 0 and found.waiting == 0
    assert found.last_success_at_ms is not None and found.last_failure_at_ms is None


async def test_events_of_an_object_keep_their_order_past_failures_and_hold_no_other_up(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    fails: dict[str, int] = {f"ord_{n}": n % 3 for n in range(12)}

    def answer(event: Any) -> int:
        order = event["data"]["order"]
        if fails[order]:
            fails[order] -= 1
            return 500
        return 200

    backend.answer = answer
    await queue.webhook(backend.url)
    kinds = [EventType.ORDER_CONFIRMED, EventType.ORDER_PAID, EventType.ORDER_REFUND_DUE]
    for kind in kinds:
        await queue.put(*((kind, order) for order in fails))
    async with sending(ledger):
        await queue.empty()
    assert backend.types() == {order: list(kinds) for order in fails}
    # The failing orders' later events came after a repeat of the first, everything with the id it had.
    assert len(backend.heard) == 12 * 3 + sum(n % 3 for n in range(12))
    assert len({each.msg_id for each in backend.heard}) == 12 * 3
    assert (await found(queue)).failures == 0


async def found(queue: Queue) -> Any:
    webhook = await queue.webhooks.find("tins")
    assert webhook is not None
    return webhook


async def test_an_endpoint_that_fails_for_one_object_is_sent_the_others(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    backend.answer = lambda event: 500 if event["data"]["order"] == "ord_bad" else 200
    await queue.webhook(backend.url)
    await queue.put((CONFIRMED, "ord_bad"), (PAID, "ord_bad"), *((CONFIRMED, f"ord_{n}") for n in range(50)))
    async with sending(ledger):

        async def rest_is_gone() -> bool:
            return await queue.left() == 2

        await eventually(rest_is_gone)
    assert all(each.type == CONFIRMED for each in backend.heard), "the paid event waits behind the confirmed one"
    row = await ledger.fetchrow("SELECT attempts, last_status, last_error FROM deliveries ORDER BY delivery_no LIMIT 1")
    assert row["attempts"] >= 1 and (row["last_status"], row["last_error"]) == (500, "answered 500")


async def test_what_is_not_taken_for_a_day_is_given_up_and_can_be_replayed(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    status = 503
    backend.answer = lambda event: status
    await queue.webhook(backend.url)
    await queue.put((CONFIRMED, "ord_1"), (PAID, "ord_1"))
    async with sending(ledger):

        async def failed() -> bool:
            return bool(await ledger.fetchval("SELECT bool_or(attempts > 1) FROM deliveries"))

        await eventually(failed)
        await ledger.execute("UPDATE deliveries SET first_at = first_at - interval '24 hours'")

        async def died() -> bool:
            return await queue.left("dead") == 1

        await eventually(died)
        status = 200
        await queue.empty()  # the next one of the object went on
        assert [each.type for each in backend.taken()] == [PAID]
        [letter] = await queue.webhooks.dead("tins", limit=10)
        assert (letter.type, letter.object, letter.last_status) == (CONFIRMED, "ord_1", 503)
        assert (await found(queue)).dead == 1
        assert await queue.webhooks.dead("cups", limit=10) == []
        assert not await queue.webhooks.replay("cups", letter.msg_id), "another shop's"
        assert await queue.webhooks.replay("tins", letter.msg_id)
        await queue.empty()
    assert [each.msg_id for each in backend.taken()][-1] == letter.msg_id
    assert not await queue.webhooks.replay("tins", letter.msg_id), "it was delivered"


async def test_all_dead_events_are_replayed_at_once_and_live_another_day(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    await queue.webhook(backend.url)
    await queue.put(*((PAID, f"ord_{n}") for n in range(30)))
    await ledger.execute(
        "UPDATE deliveries SET state = 'dead', attempts = 9, first_at = clock_timestamp() - interval '2 d'"
    )
    page = await queue.webhooks.dead("tins", limit=20)
    rest = await queue.webhooks.dead("tins", limit=20, after=page[-1].delivery_no)
    assert len({letter.msg_id for letter in (*page, *rest)}) == 30 and len(rest) == 10
    assert await queue.webhooks.replay_all("tins") == 30
    fails = {f"ord_{n}" for n in range(30)}

    def answer(event: Any) -> int:
        # Once each: a first failure must not kill what lived a day before.
        return 500 if event["data"]["order"] in fails and not fails.remove(event["data"]["order"]) else 200

    backend.answer = answer
    async with sending(ledger):
        await queue.empty()
    assert len(backend.taken()) == 30 and await queue.left("dead") == 0


async def test_a_rotated_secret_signs_beside_the_one_before_and_then_alone(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    before = await queue.webhook(backend.url)
    after = new_secret()
    assert await queue.webhooks.rotate("tins", after)
    backend.secrets = [before, after]
    await queue.put((PAID, "ord_1"))
    async with sending(ledger):
        await queue.empty()
        assert (await found(queue)).rotating_until_ms is not None
        await ledger.execute("UPDATE webhooks SET previous_until = clock_timestamp() - interval '1 second'")
        backend.secrets = [after]
        await queue.put((PAID, "ord_2"))
        await queue.empty()
    assert len(backend.heard[0].headers["webhook-signature"].split()) == 2
    [alone] = backend.heard[1].headers["webhook-signature"].split()
    assert alone.startswith("v1,")
    assert (await found(queue)).rotating_until_ms is None
    assert not await queue.webhooks.rotate("cups", new_secret())


async def test_a_redirect_is_not_followed(ledger: Ledger, queue: Queue, backend: ShopBackend) -> None:
    async with shop_backend() as other:
        backend.answer = lambda event: 307
        backend.answer_headers = {"Location": other.url}
        await queue.webhook(backend.url)
        await queue.put((PAID, "ord_1"))
        async with sending(ledger):

            async def failed() -> bool:
                return (await found(queue)).last_error == "redirected with 307, which is not followed"

            await eventually(failed)
        assert other.heard == []
        assert await queue.left() == 1


async def test_a_shop_that_asks_for_a_pause_is_heard(
    ledger: Ledger, queue: Queue, backend: ShopBackend, soon_again: list[float]
) -> None:
    answers = iter([429, 200])
    backend.answer = lambda event: next(answers)
    backend.answer_headers = {"Retry-After": "7"}
    await queue.webhook(backend.url)
    await queue.put((PAID, "ord_1"))
    async with sending(ledger):
        await queue.empty()
    assert soon_again == [7.0]


async def test_an_endpoint_that_was_away_is_sent_everything_once_it_is_back(
    ledger: Ledger, queue: Queue, backend: ShopBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "pause_s", lambda attempts, *, retry_after_s=0.0: 3600.0)
    status = 500
    backend.answer = lambda event: status
    await queue.webhook(backend.url)
    await queue.put(*((PAID, f"ord_{n}") for n in range(senders.AWAY_AFTER + 5)))
    async with sending(ledger):

        async def all_failed() -> bool:
            return (await found(queue)).failures == senders.AWAY_AFTER + 5

        await eventually(all_failed)
        status = 200
        await queue.put((PAID, "ord_new"))
        await queue.empty()


async def test_very_many_events_of_a_shop_that_was_away_are_hurried_part_by_part(
    ledger: Ledger, queue: Queue, backend: ShopBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "pause_s", lambda attempts, *, retry_after_s=0.0: 3600.0)
    monkeypatch.setattr(webhooks, "_CHANGED_MOST", 4)
    status = 500
    backend.answer = lambda event: status
    await queue.webhook(backend.url)
    await queue.put(*((PAID, f"ord_{n}") for n in range(senders.AWAY_AFTER + 5)))
    deliveries = LedgerDeliveries(ledger)
    async with sending(ledger, deliveries=deliveries):

        async def all_failed() -> bool:
            return (await found(queue)).failures == senders.AWAY_AFTER + 5

        await eventually(all_failed)
        assert not await deliveries.hurry(1)
        assert await ledger.fetchval("SELECT count(*) FROM deliveries WHERE next_at <= clock_timestamp()") <= 4
        status = 200
        await queue.empty()


async def test_a_shop_that_is_away_is_asked_little_and_leaves_the_places_to_others(
    ledger: Ledger, queue: Queue, backend: ShopBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "IN_FLIGHT", senders.IN_FLIGHT_PER_SHOP)
    backend.answer, backend.takes_s = lambda event: 500, 0.2
    await queue.webhook(backend.url)
    await queue.put(*((PAID, f"ord_{n}") for n in range(200)))
    async with sending(ledger), shop_backend() as other:

        async def is_away() -> bool:
            # Those that were in flight when it was noticed have ended as well.
            return len(backend.heard) >= senders.AWAY_AFTER + senders.IN_FLIGHT_PER_SHOP

        await eventually(is_away)
        backend.most_at_once = 0
        await queue.webhook(other.url, shop="cups")
        await queue.put(*((PAID, f"ord_{n}") for n in range(50)), shop_no=2)

        async def others_are_gone() -> bool:
            return await queue.left() == 200

        await eventually(others_are_gone, within_s=8)
        so_far = len(backend.heard)

        async def is_still_asked() -> bool:
            return len(backend.heard) > so_far + senders.IN_FLIGHT_WHILE_AWAY

        await eventually(is_still_asked)
        assert 0 < backend.most_at_once <= senders.IN_FLIGHT_WHILE_AWAY


async def test_what_is_due_is_found_by_an_index_however_many_events_wait(ledger: Ledger, queue: Queue) -> None:
    for shop in ("tins", "cups"):
        await queue.webhook("https://shop.example.com/", shop=shop)
    await queue.put(*((PAID, f"ord_{n}") for n in range(5000)))
    # Most of them for another attempt.
    await ledger.execute("UPDATE deliveries SET next_at = next_at + interval '1 hour' WHERE delivery_no > 200")
    async with ledger.transaction() as connection:

        async def read() -> int:
            """Rows of the queue, on this connection."""
            return int(
                await connection.fetchval(
                    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'deliveries'"
                )
            )

        for name, values in (("endpoints_due", ()), ("due", (1, ["ord_1"], 500)), ("find", ("tins", 100))):
            before = await read()
            await connection.fetch(load_queries("webhooks.sql")[name], *values)
            assert await read() - before < 1000, name


async def test_no_more_is_in_flight_at_a_shop_than_the_bound_and_a_thousand_events_take_seconds(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    backend.takes_s = 0.05
    await queue.webhook(backend.url)
    await queue.put(*((EventType.BOOKING_DUE, f"room_1/v{n}") for n in range(1000)))
    began = asyncio.get_running_loop().time()
    async with sending(ledger):
        await queue.empty(within_s=14)
    assert len({each.msg_id for each in backend.heard}) == len(backend.heard) == 1000
    assert 8 <= backend.most_at_once <= senders.IN_FLIGHT_PER_SHOP
    # 70 a second are asked for; a busy machine does several times that.
    assert asyncio.get_running_loop().time() - began < 1000 / 70


async def test_a_shop_that_does_not_answer_makes_no_other_wait(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    over = asyncio.Event()
    async with shop_backend(silent_until=over) as silent:
        await queue.webhook(silent.url)
        await queue.webhook(backend.url, shop="cups")
        await queue.put(*((PAID, f"ord_{n}") for n in range(100)))
        await queue.put(*((PAID, f"ord_{n}") for n in range(100)), shop_no=2)
        async with sending(ledger):

            async def others_are_gone() -> bool:
                return await queue.left() == 100

            await eventually(others_are_gone, within_s=8)
        assert 0 < silent.at_once <= senders.IN_FLIGHT_PER_SHOP
        over.set()


class DyingDeliveries(LedgerDeliveries):
    """The process dies before, or right after, an end is noted; the event was taken already."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.deaths = ["before", "after"]
        self.died = asyncio.Event()

    async def note(self, **ended: Any) -> dict[int, list[str]]:
        where = self.deaths[0] if self.deaths else ""
        if where == "before":
            self._die()
        died = await super().note(**ended)
        if where == "after":
            self._die()
        return died

    def _die(self) -> None:
        self.deaths.pop(0)
        self.died.set()
        raise asyncio.CancelledError


async def test_an_event_that_was_taken_and_not_noted_is_sent_again_with_its_id(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    await queue.webhook(backend.url)
    await queue.put(*((PAID, f"ord_{n}") for n in range(20)))
    deliveries = DyingDeliveries(ledger)
    for _ in range(2):
        async with sending(ledger, deliveries=deliveries):
            await asyncio.wait_for(deliveries.died.wait(), 10)
        deliveries.died.clear()
        # A process that was killed gives no lease back; the next one waits for its end.
        await ledger.execute("UPDATE keeper_leases SET until = clock_timestamp()")
    async with sending(ledger, deliveries=deliveries):
        await queue.empty()
    ids = [each.msg_id for each in backend.heard]
    assert len(set(ids)) == 20 and len(ids) > 20


async def test_of_two_senders_one_sends_until_it_is_gone(ledger: Ledger, queue: Queue, backend: ShopBackend) -> None:
    await queue.webhook(backend.url)
    async with sending(ledger) as first:
        await queue.put((PAID, "ord_0"))
        await queue.empty()
        async with sending(ledger):
            await queue.put(*((PAID, f"ord_{n}") for n in range(1, 200)))
            await queue.empty()
            holder = await ledger.fetchval("SELECT holder FROM keeper_leases WHERE name = 'webhooks'")
            assert holder == first._holder
            assert len(backend.heard) == 200, "each once"
            await first.drain()
            await queue.put((PAID, "ord_200"))
            await queue.empty()


async def test_a_sender_that_is_told_to_stop_notes_what_is_in_flight_and_lets_the_next_one_begin(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    backend.takes_s = 0.2
    await queue.webhook(backend.url)
    await queue.put(*((PAID, f"ord_{n}") for n in range(60)))
    async with sending(ledger) as sender:

        async def some_in_flight() -> bool:
            return backend.at_once > 0

        await eventually(some_in_flight)
        await asyncio.wait_for(sender.drain(), 5)
        assert backend.at_once == 0 and 0 < len(backend.heard) < 60
        assert await queue.left() == 60 - len(backend.heard)
        async with sending(ledger):
            await queue.empty()
    assert len(backend.heard) == len({each.msg_id for each in backend.heard}) == 60


async def test_another_address_is_where_the_waiting_events_go(
    ledger: Ledger, queue: Queue, backend: ShopBackend
) -> None:
    secret = await queue.webhook("http://127.0.0.1:9/nobody")
    await queue.put((PAID, "ord_1"))
    async with sending(ledger):

        async def failed() -> bool:
            return (await found(queue)).last_error == "no connection"

        await eventually(failed)
        assert not await queue.webhooks.put("tins", url=backend.url, events=[], secret=new_secret())
        backend.secrets = [secret]
        await queue.empty()
    assert len(backend.heard) == 1
    await queue.put((PAID, "ord_2"))
    assert await queue.left() == 0, "it wants to hear nothing more"


async def test_a_ping_is_signed_and_says_how_the_endpoint_answers(backend: ShopBackend) -> None:
    secret = new_secret()
    endpoint = Endpoint(1, "tins", backend.url, (secret,))
    backend.secrets = [secret]
    good = await pings.ping(endpoint, private=True, dev=True, kind=EventType.ORDER_PAID)
    assert (good.ok, good.status, good.error) == (True, 204, "")
    [heard] = backend.heard
    assert heard.msg_id == good.msg_id and heard.data["status"] == "paid"
    Webhook(secret).verify(heard.body, heard.headers)
    backend.answer = lambda event: 404
    assert (await pings.ping(endpoint, private=True, dev=True)).error == "answered 404"
    refused = await pings.ping(endpoint, private=False, dev=False)
    assert not refused.ok and len(backend.heard) == 2
