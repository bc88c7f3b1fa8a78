"""The sandbox provider against a real HTTP server that answers as a busy, a wrong, or a good gateway does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateway.api.routes.sandbox import amount_text
from gateway.clock import SystemClock
from gateway.domain.payment import DuePayment
from gateway.ledger.payments import CheckoutRow, RefundDue
from gateway.payments import sandbox as module
from gateway.payments.notices import check_signature, new_secret, read_notice, signature_of
from gateway.payments.sandbox import Sandbox
from tests.support.fake_shop import http_server
from tests.support.servers import eventually

FACTS = CheckoutRow("tins", "ord_1", "Drop", "A tin", 2, 3800, "CNY", "confirmed", None)


class Shop:
    """What the gateway knows, and how it answers notices: a status each, the last one for all further."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.notices: list[tuple[str, Any]] = []
        self.secret = new_secret()
        self.open_checkouts: list[str] = []
        self.due: list[RefundDue] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        check_signature(body, signature_of(request.headers), (self.secret,))
        self.notices.append((request.path, read_notice(body, provider="sandbox")))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 200:
            self.open_checkouts.clear()
            self.due.clear()
        return web.Response(status=status)

    async def make(self, shop: str, provider: str, secret: str) -> str:
        return self.secret

    async def checkout(self, checkout: str, *, provider: str) -> CheckoutRow | None:
        return FACTS

    async def unpaid(self, provider: str, *, limit: int) -> Sequence[str]:
        return list(self.open_checkouts)

    async def refund_due(self, provider: str, *, limit: int) -> Sequence[RefundDue]:
        return list(self.due)


@asynccontextmanager
async def sandbox(shop: Shop, *, auto: bool = False) -> AsyncIterator[Sandbox]:
    async with http_server(shop.answer) as url:
        made = Sandbox(url=url, auto=auto, checkouts=shop, secrets=shop, clock=SystemClock())
        running = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0, 0.0))


async def test_a_notice_is_told_until_it_is_taken_and_is_the_same_each_time() -> None:
    shop = Shop(503, 429, 200)
    async with sandbox(shop) as provider:
        assert await provider.pay("chk_1", FACTS)
        assert await provider.pay("chk_1", FACTS)
    assert {path for path, _ in shop.notices} == {"/v1/payments/tins/sandbox/webhook"}
    assert len(shop.notices) == 4
    assert {(each.order, each.txn, each.amount_minor, each.currency) for _, each in shop.notices} == {
        ("ord_1", shop.notices[0][1].txn, 3800, "CNY")
    }
    assert "chk_1" not in shop.notices[0][1].txn


async def test_it_gives_up_on_who_never_answers_well() -> None:
    shop = Shop(503)
    async with sandbox(shop) as provider:
        assert not await provider.pay("chk_1", FACTS)
    assert len(shop.notices) == 4


async def test_a_refusal_is_not_repeated() -> None:
    shop = Shop(409)
    async with sandbox(shop) as provider:
        assert not await provider.refund("chk_1", FACTS)
    assert len(shop.notices) == 1


async def test_by_itself_it_pays_what_is_open_and_refunds_what_is_due() -> None:
    shop = Shop(200)
    shop.open_checkouts, shop.due = ["chk_1"], [RefundDue("tins", "ord_2", "t2", 1900, "CNY")]

    async def told() -> bool:
        return bool(shop.notices)

    async with sandbox(shop, auto=True):
        await eventually(told)
        shop.due = [RefundDue("tins", "ord_2", "t2", 1900, "CNY")]

        async def refunded() -> bool:
            return any(each.order == "ord_2" for _, each in shop.notices)

        await eventually(refunded)


async def test_checkouts_cannot_be_guessed() -> None:
    provider = Sandbox(url="http://x", auto=False, checkouts=Shop(200), secrets=Shop(200), clock=SystemClock())
    due = DuePayment(shop="tins", order="ord_1", amount_minor=1, currency="CNY")
    checkouts = {await provider.begin(due) for _ in range(100)}
    assert len(checkouts) == 100 and {len(each) for each in checkouts} == {36}
    assert provider.url_of("chk_1") == "http://x/sandbox/chk_1"


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [(0, "CNY", "CNY 0.00"), (5, "EUR", "EUR 0.05"), (1_234_567, "CNY", "CNY 12,345.67"), (1900, "JPY", "JPY 1,900")],
)
def test_an_amount_reads_as_people_write_it(amount_minor: int, currency: str, text: str) -> None:
    assert amount_text(amount_minor, currency) == text


async def test_people_pay_where_they_reach_us() -> None:
    for public_url, at in ((None, "http://x"), ("https://shop.example.com", "https://shop.example.com")):
        provider = Sandbox(
            url="http://x",
            auto=False,
            checkouts=Shop(200),
            secrets=Shop(200),
            clock=SystemClock(),
            public_url=public_url,
        )
        assert provider.url_of("chk_1") == f"{at}/sandbox/chk_1"
