"""Figures of a show under a whole gateway: over HTTP, on hosts' sockets and as a page; also after the worst."""

import asyncio
import csv
import io
import itertools
import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from gateway.client.host import Host
from tests.support.api import ITEM, Api, api_of
from tests.support.gateway import Gateway, running_gateway
from tests.support.room import Show, live_again, showing
from tests.support.servers import eventually

EVIL = '=HYPERLINK("http://x","<script>alert(1)</script>")'


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Each test leaves it whole."""
    with running_gateway(workers=2) as gateway:
        yield gateway


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    async with showing(api) as show:
        yield show


async def metrics(show: Show, holds: Callable[[dict[str, Any]], bool], *, within_s: float = 30) -> dict[str, Any]:
    """The figures, once they are such."""
    found: dict[str, Any] = {}

    async def reached() -> bool:
        answer = await show.api.call("GET", f"/v1/rooms/{show.room}/metrics")
        assert answer.status == 200, answer.text
        found.clear()
        found.update(answer.json)
        return holds(found)

    try:
        await eventually(reached, within_s=within_s)
    except TimeoutError:
        raise AssertionError(f"never so: {found}") from None
    return found


async def pay(show: Show, order: str, amount_minor: int) -> None:
    body = {
        "provider": "bank",
        "txn": uuid.uuid4().hex,
        "amount_minor": amount_minor,
        "paid_at": "2026-01-01T12:00:00Z",
    }
    token = show.api.token("till", "service")
    async with asyncio.timeout(20):
        while True:
            answer = await show.api.call("POST", f"/v1/orders/{order}/payments", body, token=token)
            if answer.status != 409 or answer.json["code"] != "not_confirmed":
                break
            await asyncio.sleep(answer.json["retry_after_ms"] / 1000)
    assert answer.status == 200, answer.text


async def sold(gateway: Gateway, room: str) -> list[Any]:
    """Every order of the room's sales, as the ledger has it."""
    connection = await asyncpg.connect(gateway.servers()["database_url"])
    try:
        rows: list[Any] = await connection.fetch(
            "SELECT o.viewer, o.status, o.amount_minor, o.created_at_ms, o.confirmed_at FROM orders o, sales s, rooms r"
            " WHERE o.sale_no = s.sale_no AND s.room_no = r.room_no AND r.room = $1",
            room,
        )
        return rows
    finally:
        await connection.close()


def expected(rows: list[Any]) -> dict[str, Any]:
    paid = [row["amount_minor"] for row in rows if row["status"] == "paid"]
    return {
        "orders_placed": len(rows),
        "orders_confirmed": sum(row["confirmed_at"] is not None for row in rows),
        "orders_paid": len(paid),
        "orders_expired": sum(row["status"] == "expired" for row in rows),
        "gmv_placed_minor": sum(row["amount_minor"] for row in rows),
        "gmv_paid_minor": sum(paid),
        "order_value_avg_minor": (2 * sum(paid) + len(paid)) // (2 * len(paid)),
        "payment_rate": round(len(paid) / len(rows), 4),
        "orders_per_s_peak": max(Counter(row["created_at_ms"] // 1000 for row in rows).values()),
    }


def lost_valkey(gateway: Gateway) -> None:
    valkey = redis.Redis.from_url(gateway.servers()["valkey_url"])
    valkey.flushall()
    valkey.close()


async def test_orders_and_money_are_the_ledgers_also_after_a_killed_process_and_an_emptied_valkey(
    api: Api, gateway: Gateway
) -> None:
    async with showing(api, stock=500, pay_within_s=5) as show:
        first, second = sorted(gateway.pids("peakgate live"))
        buyers = [await show.enter(f"buyer-{at}", on=pid) for at, pid in enumerate([first, second] * 6)]
        orders: list[tuple[str, int]] = []

        async def buy(key: str, seats: list[Any]) -> None:
            answers = await asyncio.gather(*(seat.order(show.sale, key) for seat in seats))
            orders.extend((answer["order"], answer["amount_minor"]) for answer in answers if answer.get("order"))

        await buy("k1", buyers)
        await buy("k2", buyers)
        assert len(orders) == 24
        placed = await metrics(show, lambda told: told["orders_confirmed"] == 24)
        assert placed["orders_placed"] == 24 and placed["final"] is False
        for order, amount_minor in orders[:9]:
            await pay(show, order, amount_minor)
        await metrics(show, lambda told: told["visits"] == 12)
        # What follows happens at once: a process dies with its viewers on it, and what Valkey held is gone.
        os.kill(first, signal.SIGKILL)
        lost_valkey(gateway)
        await live_again(gateway, first)
        stayed = [seat for seat in buyers if seat.code is None]
        assert stayed

        async def sells_again() -> bool:
            answer = await stayed[0].ask(
                {"t": "order", "id": "again", "sale": show.sale, "sku": "tin", "quantity": 2}, within_s=15
            )
            if answer.get("order"):
                orders.append((answer["order"], answer["amount_minor"]))
            return bool(answer.get("order"))

        await eventually(sells_again, within_s=30)
        await pay(show, *orders[-1])
        # The others are not paid: their time ends.
        rows = await sold(gateway, show.room)
        unpaid = len(rows) - 10
        told = await metrics(show, lambda told: told["orders_expired"] == unpaid)
        rows = await sold(gateway, show.room)
        assert {name: told[name] for name in expected(rows)} == expected(rows)
        assert (told["orders_paid"], told["gmv_paid_minor"]) == (10, 11 * 1900)
        assert told["orders_per_visit"] == round(len(rows) / told["visits"], 4)
        connection = await asyncpg.connect(gateway.servers()["database_url"])
        cursor = await connection.fetchrow(
            "SELECT epoch, last_seq FROM shards WHERE shard = $1", told["cursor"]["shard"]
        )
        await connection.close()
        assert (told["cursor"]["epoch"], told["cursor"]["seq"]) == tuple(cursor)
        report = await asyncio.to_thread(gateway.command, "audit", "--json", check=False)
        assert report.returncode == 0, report.stdout


async def test_the_audience_is_counted_by_visits_and_by_people(show: Show, gateway: Gateway) -> None:
    ann = await show.enter("ann")
    again, bob = await show.enter("ann"), await show.enter("bob")
    host = await show.enter("host-1", host=True)
    for seat in (ann, bob):
        await seat.say({"t": "enter", "sale": show.sale})
        await seat.pong()
    assert (await ann.order(show.sale))["outcome"] == "reserved"
    await ann.comment("Hello")
    await host.say({"t": "enter"})
    for seat in (ann, again, bob):
        await seat.leave()
    told = await metrics(
        show, lambda told: told["visits"] == 3 and told["comments"] == 1 and told["orders_placed"] == 1
    )
    assert (told["viewers"], told["shop_entries"], told["shop_viewers"]) == (2, 2, 2)
    assert told["watch_avg_s"] >= 0 and told["order_time_avg_s"] >= 0
    assert (told["orders_per_entry"], told["orders_per_visit"]) == (0.5, round(1 / 3, 4))
    assert told["ordering_viewers_per_shop_viewer"] == 0.5
    assert told["viewers_peak"] >= told["viewers_now"] >= 1, "the host's own socket is one"


async def test_hosts_are_told_on_their_socket_and_viewers_are_not(show: Show) -> None:
    host, ann = await show.enter("host-1", host=True), await show.enter("ann")
    begun = await host.hear("figures")
    assert begun["orders_placed"] == 0 and begun["error"]["visits_lag_s"] == 5
    answer = await ann.order(show.sale)
    fed = await host.until(
        lambda: next((order for told in host.frames if told["t"] == "feed" for order in told["orders"]), None)
    )
    assert (fed["order"], fed["status"], fed["sub"], fed["viewer"]) == (answer["order"], "confirmed", "ann", ann.you)
    assert (fed["sku"], fed["amount_minor"], fed["currency"]) == ("tin", 1900, "CNY")
    figures = await host.hear("figures", orders_placed=1, within_s=20)
    assert figures["gmv_placed_minor"] == 1900 and figures["currency"] == "CNY"
    await pay(show, answer["order"], 1900)

    def paid() -> Any:
        told = [order for told in host.frames if told["t"] == "feed" for order in told["orders"]]
        return next((order for order in told if order["status"] == "paid"), None)

    assert (await host.until(paid))["order"] == answer["order"]
    await host.hear("figures", orders_paid=1, gmv_paid_minor=1900, within_s=20)
    times = [at for told, at in zip(host.frames, host.heard_at_s, strict=True) if told["t"] == "figures"]
    assert all(later - sooner > 0.7 for sooner, later in itertools.pairwise(times))
    assert not {told["t"] for told in ann.frames} & {"figures", "feed"}


async def test_a_host_who_joins_later_is_first_shown_the_newest_orders_as_they_are(show: Show) -> None:
    ann = await show.enter("ann")
    answers = [await ann.order(show.sale, f"k{at}") for at in range(3)]
    await pay(show, answers[1]["order"], 1900)
    await metrics(show, lambda told: (told["orders_confirmed"], told["orders_paid"]) == (3, 1))
    hosts = [await show.enter(f"host-{at}", host=True) for at in range(2)]
    for host in hosts:
        fed = await host.hear("feed")
        assert [(order["order"], order["status"]) for order in fed["orders"]] == [
            (answer["order"], "paid" if at == 1 else "confirmed") for at, answer in enumerate(answers)
        ]
        assert "more" not in fed
    later = await ann.order(show.sale, "k9")
    for host in hosts:
        seen = host

        def shown(host: Any = seen) -> Any:
            feeds = [told["orders"] for told in host.frames if told["t"] == "feed"]
            return feeds[1] if len(feeds) > 1 else None

        assert [order["order"] for order in await host.until(shown)] == [later["order"]], "then only what changed"


async def test_the_trend_of_a_young_show_is_told_and_does_not_pretend_to_compare(show: Show, gateway: Gateway) -> None:
    ann = await show.enter("ann")
    await ann.say({"t": "enter", "sale": show.sale})
    await ann.comment("Hello")
    await ann.say({"t": "like", "n": 3})
    answer = await ann.order(show.sale)
    await pay(show, answer["order"], 1900)
    told: dict[str, Any] = {}

    async def counted() -> bool:
        answer = await show.api.call("GET", f"/v1/rooms/{show.room}/trend")
        assert answer.status == 200, answer.text
        told.update(answer.json)
        last = {name: pair["last"] for name, pair in told["figures"].items()}
        return all(last[name] for name in ("orders_paid", "visits", "shop_entries", "viewers_peak", "likes"))

    try:
        # On a slow machine a reading is good for long: it cost much.
        await eventually(counted, within_s=90)
    except TimeoutError:
        raise AssertionError(f"never so: {told}") from None
    assert (told["room"], told["span_s"], told["complete"], told["currency"]) == (show.room, 600, False, "CNY")
    assert 0 < told["last_s"] < 600 and told["last_s"] % 5 == told["before_s"] == 0
    assert {pair["before"] for pair in told["figures"].values()} == {None}
    last = {name: pair["last"] for name, pair in told["figures"].items()}
    assert (last["visits"], last["comments"], last["likes"], last["shop_entries"]) == (1, 1, 3, 1)
    assert (last["orders_placed"], last["orders_paid"], last["orders_per_entry"]) == (1, 1, 1.0)
    assert (last["gmv_placed_minor"], last["gmv_paid_minor"], last["payment_rate"]) == (1900, 1900, None)
    async with Host(gateway.url, show.api.token("host")) as host:
        trend = await host.trend(show.room)
    assert trend.figures.keys() == told["figures"].keys() and trend.figures["orders_paid"].last == 1


@pytest.mark.parametrize("what", ["metrics", "trend", "report", "report.csv"])
async def test_figures_are_for_hosts_of_the_room(show: Show, what: str) -> None:
    api = show.api
    address = f"/v1/rooms/{show.room}/{what}"
    asked: list[tuple[str, int]] = [
        (api.viewer(), 403),
        (api.token("clerk", "clerk"), 403),
        (api.token("till", "service"), 403),
        (api.token("host", shop="cups"), 404),
        (api.token("host", rooms=["room_of_nobody"]), 403),
        (api.token("host", rooms=[show.room]), 200),
    ]
    for token, status in asked:
        assert (await api.call("GET", address, token=token)).status == status, status
    assert (await api.call("GET", f"/v1/rooms/room_0/{what}")).status == 404


async def test_the_report_of_a_show_is_final_once_it_has_ended(api: Api, gateway: Gateway, tmp_path: Path) -> None:
    items = [{**ITEM, "title": EVIL}, {**ITEM, "sku": "@cup", "title": "A cup"}]
    async with showing(api, items=items, title=EVIL) as show:
        ann = await show.enter("ann")
        assert (await ann.order(show.sale))["outcome"] == "reserved"
        await show.act("POST", "announcements", {"text": EVIL})
        await metrics(show, lambda told: told["orders_confirmed"] == 1)
        running = (await show.act("GET", "report")).json
        assert running["final"] is False
        await show.act("POST", "end")
        await ann.ended()

        async def is_final() -> bool:
            return bool((await show.act("GET", "report")).json["final"])

        await eventually(is_final, within_s=20)
        report = (await show.act("GET", "report")).json
        assert report["figures"]["orders_placed"] == 1
        assert [step["step"] for step in report["funnel"]][-1] == "orders_paid"
        assert 1 <= len(report["timeline"]) <= 500
        assert sum(bucket["orders_per_s"] for bucket in report["timeline"]) * report["bucket_s"] == 1
        kinds = [mark["kind"] for mark in report["marks"]]
        assert {"start", "announce", "end"} <= set(kinds)
        assert {(line["sku"], line["orders_placed"]) for line in report["skus"]} == {("tin", 1), ("@cup", 0)}

        for part in ("", "?part=marks", "?part=figures", "?part=timeline", "?part=coupons", "?part=sources"):
            answer = await show.act("GET", f"report.csv{part}")
            assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
            rows = list(csv.reader(io.StringIO(answer.text)))
            assert len({len(row) for row in rows}) == 1
            assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
            if part in ("", "?part=marks"):
                assert [cell for row in rows for cell in row if cell == f"'{EVIL}"], "told, but as text"
        assert (await show.act("GET", "report.csv?part=all", status=[422])).code == "invalid"

        page = tmp_path / "report.html"
        made = await asyncio.to_thread(gateway.command, "report", show.room, "-o", str(page), "--lang", "zh")
        assert made.stdout.strip() == str(page)
        html = page.read_text(encoding="utf-8")
        assert "<script" not in html and "&lt;script&gt;" in html and "转化漏斗" in html
        printed = json.loads((await asyncio.to_thread(gateway.command, "report", show.room, "--json")).stdout)
        assert printed["figures"]["orders_placed"] == 1 and printed["final"] is True
        missing = await asyncio.to_thread(gateway.command, "report", "room_0", check=False)
        assert (missing.returncode, missing.stderr) == (1, "peakgate: There is no such room.\n")
