"""Money on a whole gateway: orders paid, cancelled, expired, revived and refunded, over real HTTP and real sockets."""

import asyncio
import base64
import json
import re
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.client import Backend, Host, Viewer, ViewerHttp
from gateway.errors import AmountMismatch
from gateway.ledger.shops import Shops
from tests.support.api import ITEM, Answer, Api, api_of
from tests.support.bank import Bank
from tests.support.gateway import PEAKGATE, Gateway, running_gateway
from tests.support.servers import eventually

PAID_AT = "2026-01-01T12:00:00Z"


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture(scope="module")
def bank_secret(gateway: Gateway) -> Iterator[str]:
    """The provider `bank` of the shop `tins`."""
    gateway.token("host", "host", shop="tins")  # makes the shop
    said = gateway.command("provider", "set", "tins", "bank", "--json")
    yield str(json.loads(said.stdout)["secret"])


@pytest.fixture
def bank(api: Api, bank_secret: str) -> Bank:
    return Bank(api, bank_secret)


async def confirmed(api: Api, sale: str, viewer: str, **fields: Any) -> str:
    answer = await api.order(sale, viewer, headers={"Prefer": "wait=20"}, **fields)
    assert answer.json["order"]["status"] == "confirmed", answer.text
    return str(answer.json["order"]["order"])


async def status_of(api: Api, order: str) -> str:
    return str((await api.call("GET", f"/v1/orders/{order}")).json["status"])


async def payments_of(api: Api, order: str) -> list[tuple[str, str, str | None]]:
    payments = (await api.call("GET", f"/v1/orders/{order}")).json.get("payments", [])
    return [(each["txn"], each["state"], each.get("reason")) for each in payments]


async def becomes(api: Api, order: str, status: str, *, within_s: float = 20.0) -> None:
    async def is_so() -> bool:
        return await status_of(api, order) == status

    await eventually(is_so, within_s=within_s)


def service(api: Api, *, shop: str = "tins") -> str:
    return api.token("backend", "service", shop=shop)


async def report(api: Api, order: str, *, key: str | None = None, **fields: Any) -> Answer:
    body = {"provider": "till", "txn": uuid.uuid4().hex, "amount_minor": 1900, "paid_at": PAID_AT, **fields}
    return await api.call("POST", f"/v1/orders/{order}/payments", body, token=service(api), key=key)


async def refund(api: Api, order: str, txn: str, *, key: str | None = None, amount_minor: int = 1900) -> Answer:
    body = {"txn": txn, "amount_minor": amount_minor}
    return await api.call("POST", f"/v1/orders/{order}/refunds", body, token=service(api), key=key)


async def counts(api: Api, sale: str) -> tuple[int, int, int]:
    """(left, held, paid), once what the ledger has released reached Valkey."""
    item = (await api.call("GET", f"/v1/sales/{sale}")).json["items"][0]
    return item["left"], item["held"], item["paid"]


async def counts_become(api: Api, sale: str, expected: tuple[int, int, int]) -> None:
    async def are_so() -> bool:
        return await counts(api, sale) == expected

    await eventually(are_so)


class Socket:
    """A viewer in a room, and every state their orders were told to be in."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.events: list[dict[str, Any]] = []

    @asynccontextmanager
    async def watching(self, api: Api, room: dict[str, Any], sub: str) -> AsyncIterator[Viewer]:
        def told(order: Any) -> None:
            self.states.append((order.order, order.status))

        async with Viewer(room["live_url"], api.viewer(sub), on_order=told, on_event=self.events.append) as viewer:
            yield viewer

    async def hears(self, order: str, status: str) -> None:
        async def heard() -> bool:
            return (order, status) in self.states

        await eventually(heard)


async def test_an_order_is_paid_on_the_sandbox_page_and_told_on_the_socket(api: Api) -> None:
    room = await api.room()
    sale = (await api.sale(room=room["room"]))["sale"]
    sub, socket = f"payer-{uuid.uuid4().hex}", Socket()
    async with socket.watching(api, room, sub) as viewer:
        order = (await viewer.order(sale=sale, sku="tin", quantity=2, insist=True)).order
        assert order is not None
        await viewer.confirmed(order)
        answers = await asyncio.gather(
            *(api.call("POST", f"/v1/orders/{order}/pay", token=api.viewer(sub), key="-") for _ in range(10))
        )
        assert {answer.status for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        paying = answers[0].json
        assert (paying["order"], paying["provider"], paying["amount_minor"]) == (order, "sandbox", 3800)
        assert paying["currency"] == "CNY" and paying["pay_by"].endswith("Z")
        assert len(base64.urlsafe_b64decode(paying["checkout"].removeprefix("chk_"))) * 8 >= 128
        page = await api.session.get(paying["url"])
        html = await page.text()
        assert page.status == 200 and page.content_type == "text/html"
        assert "CNY 38.00" in html and order in html and "<script" not in html
        assert re.findall(r'value="(\w+)"', html) == ["pay", "refuse"]
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        # Refused it can still be paid; paid twice it is one payment.
        for button, note in (("refuse", "refused"), ("pay", "paid"), ("pay", "paid")):
            pressed = await api.session.post(paying["url"], data={"do": button}, allow_redirects=False)
            assert (pressed.status, pressed.headers["Location"]) == (303, f"?note={note}")
        await socket.hears(order, "paid")
        assert await status_of(api, order) == "paid"
        assert [state for _, state, _ in await payments_of(api, order)] == ["applied"]
        await counts_become(api, sale, (8, 0, 2))
        again = await api.call("POST", f"/v1/orders/{order}/pay", token=api.viewer(sub))
        assert (again.status, again.code) == (409, "conflict")
        assert "paid" in again.json["detail"]
        html = await (await api.session.get(paying["url"])).text()
        assert re.findall(r'value="(\w+)"', html) == ["refund"]
        await api.session.post(paying["url"], data={"do": "refund"})
        await socket.hears(order, "refunded")
    await counts_become(api, sale, (10, 0, 0))


async def test_a_page_that_nobody_was_given_is_not_there(api: Api) -> None:
    for checkout in ("chk_" + "A" * 32, "chk_1", "%00", "ord_1"):
        assert (await api.call("GET", f"/sandbox/{checkout}")).code == "not_found"
        assert (await api.call("POST", f"/sandbox/{checkout}", data=b"do=pay")).code == "not_found"


async def test_the_automatic_sandbox_pays_and_refunds_by_itself() -> None:
    with running_gateway(PEAKGATE_SANDBOX="auto", PEAKGATE_DEV="true") as gateway:
        async with api_of(gateway) as api:
            room = await api.room()
            sale, socket = (await api.sale(room=room["room"]))["sale"], Socket()
            async with socket.watching(api, room, "ann") as viewer:
                order = (await viewer.order(sale=sale, sku="tin", insist=True)).order
                assert order is not None
                await viewer.confirmed(order)
                await api.call("POST", f"/v1/orders/{order}/pay", token=api.viewer("ann"))
                await socket.hears(order, "paid")
            # Money the order cannot take goes back.
            assert (await report(api, order, provider="sandbox", txn="second")).status == 200

            async def given_back() -> bool:
                return ("second", "refunded", "second") in await payments_of(api, order)

            await eventually(given_back)
            assert await status_of(api, order) == "paid"


async def test_a_viewer_cancels_an_order_that_is_not_paid(api: Api) -> None:
    room = await api.room()
    sale, socket = (await api.sale(room=room["room"]))["sale"], Socket()
    sub = f"canceller-{uuid.uuid4().hex}"
    async with socket.watching(api, room, sub):
        order = await confirmed(api, sale, api.viewer(sub))
        path = f"/v1/orders/{order}/cancel"
        for token in (api.viewer("somebody-else"), api.viewer(sub, shop="cups")):
            assert (await api.call("POST", path, token=token, key="-")).code == "not_found"
        for _ in range(2):
            answer = await api.call("POST", path, token=api.viewer(sub), key="-")
            assert (answer.status, answer.json["status"]) == (200, "cancelled")
        await socket.hears(order, "cancelled")
    await counts_become(api, sale, (10, 0, 0))
    # Its key stays with it; the viewer may buy again.
    assert (await api.order(sale, api.viewer(sub))).json["order"]["status"] == "cancelled"
    second = await confirmed(api, sale, api.viewer(sub), key="k2")
    await report(api, second)
    late = await api.call("POST", f"/v1/orders/{second}/cancel", token=api.viewer(sub))
    assert (late.status, late.code) == (409, "conflict")
    assert "paid" in late.json["detail"]
    # Money for what was cancelled is to go back.
    told = await report(api, order, txn="late")
    assert (told.json["status"], told.json["payments"][0]["state"]) == ("refund_due", "refund_due")
    assert (await refund(api, order, "late")).json["status"] == "refunded"


async def test_an_unpaid_order_expires_and_late_money_finds_a_unit_or_goes_back(api: Api) -> None:
    room = await api.room()
    sale = (await api.sale(room=room["room"], pay_within_s=5, items=[{**ITEM, "stock": 2}]))["sale"]
    sub, socket = f"late-{uuid.uuid4().hex}", Socket()
    async with socket.watching(api, room, sub):
        first = await confirmed(api, sale, api.viewer(sub))
        second = await confirmed(api, sale, api.viewer())
        assert (await api.order(sale, api.viewer())).json == {"outcome": "sold_out", "left": 0, "may_return": True}
        await socket.hears(first, "expired")
        await becomes(api, second, "expired")
        await counts_become(api, sale, (2, 0, 0))
        assert (await api.call("POST", f"/v1/orders/{first}/pay", token=api.viewer(sub))).code == "conflict"
        # One unit goes to somebody else, for whom the other one is not free any more.
        await api.call("POST", f"/v1/sales/{sale}/pause")
        assert (await report(api, first, txn=f"a-{first}")).json["status"] in ("expired", "paid")
        await api.call("POST", f"/v1/sales/{sale}/resume")
        await socket.hears(first, "paid")
    third = await confirmed(api, sale, api.viewer())
    await report(api, third)
    told = await report(api, second, txn="b")
    assert told.json["payments"][0]["state"] in ("waiting", "refund_due")
    await becomes(api, second, "refund_due")
    assert await payments_of(api, second) == [("b", "refund_due", "stock")]
    await counts_become(api, sale, (0, 0, 2))


async def test_a_shop_reports_what_it_took_and_gave_back(api: Api) -> None:
    sale, viewer = (await api.sale())["sale"], api.viewer()
    order = await confirmed(api, sale, viewer)
    assert "payments" not in (await api.call("GET", f"/v1/orders/{order}")).json
    wrong = await report(api, order, amount_minor=1)
    assert (wrong.status, wrong.code, wrong.json["param"]) == (409, "amount_mismatch", "amount_minor")
    key = uuid.uuid4().hex
    answers = await asyncio.gather(*(report(api, order, key=key, txn="t1") for _ in range(20)))
    assert {(answer.status, answer.json["status"]) for answer in answers} == {(200, "paid")}
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert answers[0].json["payments"] == [
        {
            "provider": "till",
            "txn": "t1",
            "amount_minor": 1900,
            "paid_at": "2026-01-01T12:00:00.000Z",
            "state": "applied",
        }
    ]
    assert (await report(api, order, key=key, txn="t2")).code == "key_reused"
    assert (await report(api, order, txn="t1")).headers["Idempotent-Replayed"] == "true"
    other = await confirmed(api, sale, api.viewer())
    assert (await report(api, other, txn="t1")).code == "conflict"
    second = await report(api, order, txn="t2")
    assert second.json["status"] == "paid"
    assert [each["state"] for each in second.json["payments"]] == ["applied", "refund_due"]
    # What the viewer sees of it.
    assert "payments" not in (await api.call("GET", f"/v1/orders/{order}", token=viewer)).json
    assert (await refund(api, order, "t2")).json["status"] == "paid"
    assert (await refund(api, order, "none")).code == "not_found"
    other_sum = await refund(api, order, "t1", amount_minor=1)
    assert (other_sum.code, other_sum.json["detail"]) == (
        "amount_mismatch",
        "The amount is not the one of the payment.",
    )
    key = uuid.uuid4().hex
    for replayed in (None, "true"):
        answer = await refund(api, order, "t1", key=key)
        assert (answer.json["status"], answer.headers.get("Idempotent-Replayed")) == ("refunded", replayed)
    assert (await refund(api, order, "t2", key=key)).code == "key_reused"
    for unknown in ("ord_0", order[:-1] + ("x" if order[-1] != "x" else "y"), sale):
        assert (await report(api, unknown)).code == "not_found"
        assert (await refund(api, unknown, "t1")).code == "not_found"
    listed = (await api.call("GET", "/v1/orders?limit=200", token=service(api))).json
    while listed["next"]:
        listed = (await api.call("GET", f"/v1/orders?limit=200&after={listed['next']}", token=service(api))).json
    assert {order, other} <= {each["order"] for each in listed["items"]}
    assert [each["order"] for each in listed["items"]] == sorted(each["order"] for each in listed["items"])


async def test_only_the_shops_own_backend_reports(api: Api) -> None:
    order = await confirmed(api, (await api.sale())["sale"], api.viewer("ann"))
    body = {"provider": "till", "txn": "t", "amount_minor": 1900, "paid_at": PAID_AT}
    for path, sent in ((f"/v1/orders/{order}/payments", body), (f"/v1/orders/{order}/refunds", body)):
        for token in (api.token(), api.viewer("ann"), api.token("clerk", "clerk")):
            assert (await api.call("POST", path, sent, token=token)).code == "forbidden"
        assert (await api.call("POST", path, sent, token=service(api, shop="cups"))).code == "not_found"
        assert (await api.call("POST", path, sent, token=service(api), key="-")).code == "bad_request"
    for broken in (
        {"txn": ""},
        {"txn": "x" * 129},
        {"txn": "a\0"},
        {"provider": "A B"},
        {"amount_minor": -1},
        {"amount_minor": 1.5},
        {"paid_at": "yesterday"},
        {"paid_at": "2026-01-01T12:00:00"},
    ):
        assert (await report(api, order, **broken)).code == "invalid", broken
    assert await status_of(api, order) == "confirmed"


async def test_the_clients_pay_cancel_report_and_price(api: Api) -> None:
    sale, url = (await api.sale())["sale"], api.gateway.url
    async with (
        ViewerHttp(url, api.viewer()) as viewer,
        Host(url, api.token()) as host,
        Backend(url, service(api), insist_s=10.0) as backend,
    ):
        priced = await host.change_prices(sale, {"tin": 1500})
        assert priced.items[0].price_minor == 1500
        first = await viewer.place_order(sale=sale, sku="tin", key="k1")
        assert first.order is not None and first.amount_minor == 1500
        # Insists while the order is only reserved.
        paid = await backend.report_payment(
            first.order, provider="till", txn=first.order, amount_minor=1500, paid_at=PAID_AT
        )
        assert (paid.status, paid.payments[0].state) == ("paid", "applied")
        back = await backend.report_refund(first.order, txn=first.order, amount_minor=1500)
        assert (back.status, back.payments[0].state) == ("refunded", "refunded")
        second = await viewer.place_order(sale=sale, sku="tin", key="k2", wait_s=20)
        assert second.order is not None
        assert (await viewer.pay(second.order)).checkout == (await viewer.pay(second.order)).checkout
        assert (await viewer.cancel(second.order)).status == "cancelled"
        with pytest.raises(AmountMismatch):
            await backend.report_payment(second.order, provider="till", txn="x", amount_minor=1, paid_at=PAID_AT)
        assert {first.order, second.order} <= {order.order for order in await backend.orders()}


# A provider's notices.


async def test_a_provider_tells_in_any_order_and_number_and_nothing_counts_twice(api: Api, bank: Bank) -> None:
    sale = (await api.sale())["sale"]
    order = await confirmed(api, sale, api.viewer())
    txn = uuid.uuid4().hex
    answers = await asyncio.gather(*(bank.tell(order, txn) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.json["outcome"] for answer in answers) == ["known"] * 19 + ["taken"]
    assert await payments_of(api, order) == [(txn, "applied", None)]
    assert (await bank.tell(order, txn, kind="payment.refunded")).status == 200
    assert await status_of(api, order) == "refunded"
    # An old notice that comes again wakes nothing.
    assert (await bank.tell(order, txn)).json == {"outcome": "known"}
    assert await status_of(api, order) == "refunded"
    await counts_become(api, sale, (10, 0, 0))
    # A refund that is told of before its payment.
    second, txn = await confirmed(api, sale, api.viewer()), uuid.uuid4().hex
    assert (await bank.tell(second, txn, kind="payment.refunded")).json == {"outcome": "taken"}
    assert (await bank.tell(second, txn)).json == {"outcome": "known"}
    assert await status_of(api, second) == "confirmed"
    assert await payments_of(api, second) == [(txn, "refunded", "refund_first")]


async def test_money_that_fits_no_order_is_kept_to_be_refunded(api: Api, bank: Bank) -> None:
    order = await confirmed(api, (await api.sale())["sale"], api.viewer())
    txns = [uuid.uuid4().hex for _ in range(4)]
    assert (await bank.tell(order, txns[0], amount=1)).status == 200
    assert (await bank.tell(order, txns[1], currency="USD")).status == 200
    assert await payments_of(api, order) == [(txns[0], "refund_due", "amount"), (txns[1], "refund_due", "amount")]
    assert await status_of(api, order) == "confirmed"
    assert (await bank.tell(order, txns[2])).status == 200
    assert await status_of(api, order) == "paid"
    assert (await bank.tell("ord_nobodys", txns[3])).status == 200
    back = await refund(api, "ord_nobodys", txns[3])
    assert (back.status, [each["state"] for each in back.json["payments"]]) == (200, ["refunded"])
    # Contradictions are told back, and change nothing.
    assert (await bank.tell(order, txns[3])).code == "conflict"
    assert (await bank.tell(order, txns[2], kind="payment.refunded", amount=1)).code == "amount_mismatch"
    assert await status_of(api, order) == "paid"


async def test_a_provider_of_one_shop_pays_no_order_of_another(api: Api, bank: Bank) -> None:
    sale = (await api.sale(shop="cups"))["sale"]
    order = await confirmed(api, sale, api.viewer("ann", shop="cups"))
    txn = uuid.uuid4().hex
    assert (await bank.tell(order, txn)).status == 200
    read = await api.call("GET", f"/v1/orders/{order}", token=api.token(shop="cups"))
    assert (read.json["status"], "payments" in read.json) == ("confirmed", False)
    # The money was the provider's shop's, which gives it back.
    assert (await refund(api, order, txn)).json["payments"][0]["state"] == "refunded"


async def test_a_shop_finds_the_money_it_is_to_give_back(gateway: Gateway, api: Api) -> None:
    shop = f"owing-{uuid.uuid4().hex[:8]}"
    async with Shops.connect(gateway.servers()["database_url"]) as shops:
        api.shops[shop] = await shops.get_or_create(shop)
    host, backend = api.token(shop=shop), service(api, shop=shop)
    secret = json.loads(gateway.command("provider", "set", shop, "bank", "--json").stdout)["secret"]
    bank = Bank(api, str(secret), shop=shop, paid_at=PAID_AT)

    async def owed(query: str = "", *, token: str = backend) -> Answer:
        return await api.call("GET", f"/v1/payments?state=refund_due{query}", token=token)

    assert (await owed()).json == {"items": [], "next": None}
    sale = (await api.sale(shop=shop))["sale"]
    order = await confirmed(api, sale, api.viewer(shop=shop))
    for txn, amount, of in (("t1", 1900, order), ("t2", 1900, order), ("t3", 1, order), ("t4", 5, "ord_nobodys")):
        assert (await bank.tell(of, txn, amount=amount)).status == 200
    found = (await owed()).json
    assert found["next"] is None
    assert [each.pop("cursor").isprintable() for each in found["items"]] == [True] * 3
    common = {"provider": "bank", "paid_at": "2026-01-01T12:00:00.000Z", "state": "refund_due"}
    assert found["items"] == [
        {**common, "order": order, "txn": "t2", "amount_minor": 1900, "currency": "CNY", "reason": "second"},
        # Its own currency is not kept, and may have been another one.
        {**common, "order": order, "txn": "t3", "amount_minor": 1, "reason": "amount"},
        {**common, "order": "ord_nobodys", "txn": "t4", "amount_minor": 5, "reason": "unknown_order"},
    ]
    first = (await owed("&limit=2", token=host)).json
    assert [each["txn"] for each in first["items"]] == ["t2", "t3"]
    assert first["next"] == first["items"][-1]["cursor"]
    rest = (await owed(f"&limit=2&after={first['next']}")).json
    assert ([each["txn"] for each in rest["items"]], rest["next"]) == (["t4"], None)
    # What was given back is gone from the list; other shops never see it.
    assert (await bank.tell(order, "t2", kind="payment.refunded")).status == 200
    assert [each["txn"] for each in (await owed()).json["items"]] == ["t3", "t4"]
    assert not {"t3", "t4"} & {each["txn"] for each in (await owed(token=service(api))).json["items"]}
    for query, param in (
        ("state=paid", "state"),
        ("", "state"),
        ("state=refund_due&limit=0", "limit"),
        ("state=refund_due&after=x", "after"),
    ):
        wrong = await api.call("GET", f"/v1/payments?{query}", token=backend)
        assert (wrong.status, wrong.code, wrong.json["param"]) == (422, "invalid", param)
    for token in (api.viewer(shop=shop), api.token("clerk", "clerk", shop=shop)):
        assert (await owed(token=token)).code == "forbidden"


async def test_notices_of_other_types_are_none_of_ours(api: Api, bank: Bank) -> None:
    order = await confirmed(api, (await api.sale())["sale"], api.viewer())
    for kind in ("payment.failed", "dispute.created"):
        assert (await bank.tell(order, uuid.uuid4().hex, kind=kind)).json == {"outcome": "ignored"}
    body = json.dumps({"type": "ping", "timestamp": PAID_AT}).encode()
    assert (await bank.send(body, bank.signed(body))).json == {"outcome": "ignored"}
    assert await payments_of(api, order) == []


async def test_twelve_bad_signatures_and_none_is_taken(api: Api, bank: Bank) -> None:
    order = await confirmed(api, (await api.sale())["sale"], api.viewer())
    body = json.dumps(bank.notice(order, uuid.uuid4().hex)).encode()
    good = bank.signed(body)
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    signature = good["webhook-signature"]
    forged: list[tuple[bytes, dict[str, str]]] = [
        (body, {}),
        (body, {**good, "webhook-id": ""}),
        (body, {name: value for name, value in good.items() if name != "webhook-timestamp"}),
        (body, {name: value for name, value in good.items() if name != "webhook-signature"}),
        (body, {**good, "webhook-id": "another"}),
        (body, {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}),
        (body, {**good, "webhook-timestamp": "now"}),
        (body, {**good, "webhook-signature": signature.replace("v1,", "v2,")}),
        (body, {**good, "webhook-signature": "v1,not-base64!"}),
        (body, {**good, "webhook-signature": "nonsense"}),
        (body, bank.signed(body, secret=other)),
        (body, bank.signed(body, late_s=301)),
        (body, bank.signed(body, late_s=-310)),
        (body.replace(b"1900", b"1901"), good),
        (body + b" ", good),
        (b"\xff\xfe" + body, good),
    ]
    assert len(forged) >= 12
    for sent, headers in forged:
        answer = await bank.send(sent, headers)
        assert (answer.status, answer.code) == (401, "unauthorized"), headers
        assert "token" not in answer.text and "Bearer" not in answer.headers["WWW-Authenticate"]
    for path in (
        "/v1/payments/tins/nobank/webhook",
        "/v1/payments/cups/bank/webhook",
        "/v1/payments/TINS/bank/webhook",
    ):
        assert (await bank.send(body, good, path=path)).code == "unauthorized"
    assert (await bank.send(body, {**good, "Content-Type": "text/plain"})).code == "unsupported"
    large = body[:-1] + b" " * 65_536 + b"}"
    assert (await bank.send(large, bank.signed(large))).code == "too_large"
    assert await payments_of(api, order) == []
    assert (await bank.send(body, good)).json == {"outcome": "taken"}


async def test_a_signed_notice_that_cannot_be_read_is_not_taken_for_done(api: Api, bank: Bank) -> None:
    bodies = [b"{", b"[]", b'{"type": "payment.succeeded"}', json.dumps(bank.notice("ord_1", "x" * 129)).encode()]
    bodies.append(json.dumps(bank.notice("ord_1", "a\0b")).encode())
    bodies.append(json.dumps(bank.notice("ord_1", "t", amount=-1)).encode())
    for body in bodies:
        answer = await bank.send(body, bank.signed(body))
        assert (answer.status, answer.code) in ((400, "bad_request"), (422, "invalid")), body


async def test_two_secrets_are_valid_while_they_are_rotated(gateway: Gateway, api: Api) -> None:
    def provider(*argv: str, stdin: str = "") -> dict[str, Any]:
        said = subprocess.run(
            [PEAKGATE, "provider", *argv, "--data", str(gateway.data), "--json"],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(said.stdout))

    old = "whsec_" + base64.b64encode(b"o" * 32).decode()
    made = provider("set", "tins", "card", "--secret", "-", stdin=old + "\n")
    assert made == {"shop": "tins", "provider": "card", "webhook": "/v1/payments/tins/card/webhook"}
    order = await confirmed(api, (await api.sale())["sale"], api.viewer())

    async def taken(secret: str) -> bool:
        return (await Bank(api, secret, name="card").tell(order, uuid.uuid4().hex, kind="payment.failed")).status == 200

    assert await taken(old)
    new = provider("rotate", "tins", "card")["secret"]

    async def new_is_taken() -> bool:
        return await taken(new)

    async def old_is_refused() -> bool:
        return not await taken(old)

    await eventually(new_is_taken)
    assert await taken(old)
    provider("rotate", "tins", "card", "--finish")
    await eventually(old_is_refused)
    assert await taken(new)
    listed = gateway.command("provider", "list", "tins").stdout
    assert "card" in listed and "whsec_" not in listed
    for wrong in (["--secret", new], ["--secret", "-"]):
        refused = gateway.command("provider", "set", "tins", "card", *wrong, check=False)
        assert refused.returncode == 2 and new not in refused.stderr


# Prices.


async def test_a_price_changes_between_the_look_and_the_tap(api: Api) -> None:
    room = await api.room()
    items = [{**ITEM, "floor_minor": 900}, {**ITEM, "sku": "cup"}]
    sale = (await api.sale(room=room["room"], items=items))["sale"]
    path, viewer = f"/v1/sales/{sale}", api.viewer()
    reserved = (await api.order(sale, viewer, expect_amount_minor=1900)).json["order"]["order"]
    changed = await api.call(
        "PATCH", path, {"items": [{"sku": "tin", "price_minor": 1500}, {"sku": "cup", "price_minor": 50}]}
    )
    assert changed.status == 200, changed.text
    assert [item["price_minor"] for item in changed.json["items"]] == [1500, 50]
    refused = await api.order(sale, viewer, key="k2", expect_amount_minor=1900)
    assert refused.json == {"outcome": "price_changed", "amount_minor": 1500}
    agreed = await api.order(sale, viewer, key="k2", expect_amount_minor=1500, headers={"Prefer": "wait=20"})
    assert (agreed.json["order"]["status"], agreed.json["order"]["amount_minor"]) == ("confirmed", 1500)
    await becomes(api, reserved, "confirmed")
    assert (await api.call("GET", f"/v1/orders/{reserved}")).json["amount_minor"] == 1900
    assert [item["price_minor"] for item in (await api.call("GET", path, token=viewer)).json["items"]] == [1500, 50]
    socket = Socket()
    async with socket.watching(api, room, f"looker-{room['room']}") as looker:
        assert [item["price_minor"] for item in looker.snapshot["sales"][0]["items"]] == [1500, 50]
        await api.call(
            "PATCH", path, {"items": [{"sku": "tin", "price_minor": 1500}, {"sku": "cup", "price_minor": 60}]}
        )
        event = {"k": "price", "sale": sale, "sku": "cup", "price_minor": 60}

        async def is_told() -> bool:
            return event in socket.events

        await eventually(is_told)
    # The order of before is paid at its own price.
    assert (await report(api, reserved)).json["status"] == "paid"


async def test_a_price_that_may_not_be_changes_nothing(api: Api) -> None:
    items = [{**ITEM, "floor_minor": 900}, {**ITEM, "sku": "cup"}]
    sale = (await api.sale(items=items))["sale"]
    path = f"/v1/sales/{sale}"
    cup = {"sku": "cup", "price_minor": 1}
    for body, param in (
        ({"items": [cup, {"sku": "tin", "price_minor": 899}]}, "items[1].price_minor"),
        ({"items": [cup, {"sku": "pot", "price_minor": 1}]}, "items[1].sku"),
        ({"items": [cup, cup]}, "items[1].sku"),
        ({"items": [{**cup, "price_minor": -1}]}, "items[0].price_minor"),
        ({"items": [{**cup, "stock": 5}]}, "items[0].stock"),
        ({"items": []}, "items"),
        ({"items": [cup], "currency": "EUR"}, "currency"),
        ({}, "title"),
    ):
        answer = await api.call("PATCH", path, body)
        assert (answer.status, answer.code, answer.json.get("param")) == (422, "invalid", param), answer.text
    assert (await api.call("PATCH", path, {"items": [cup]}, token=api.viewer())).code == "forbidden"
    assert (await api.call("PATCH", path, {"items": [cup]}, token=api.token(shop="cups"))).code == "not_found"
    assert [item["price_minor"] for item in (await api.call("GET", path)).json["items"]] == [1900, 1900]
    await api.call("POST", f"{path}/close")
    assert (await api.call("PATCH", path, {"items": [cup]})).code == "conflict"


async def test_prices_and_orders_at_once_are_of_one_mind(api: Api) -> None:
    """Whoever stated an amount pays that amount; none is refused by the ledger for its price."""
    sale = (await api.sale(items=[{**ITEM, "stock": 500, "limit_per_viewer": 1}]))["sale"]
    done = asyncio.Event()

    async def change() -> None:
        for price in [1500, 1900] * 8:
            answer = await api.call("PATCH", f"/v1/sales/{sale}", {"items": [{"sku": "tin", "price_minor": price}]})
            assert answer.status == 200, answer.text
        done.set()

    async def buy() -> list[dict[str, Any]]:
        bought = []
        while not done.is_set():
            answer = await api.order(sale, api.viewer(), expect_amount_minor=1900, headers={"Prefer": "wait=20"})
            if answer.status == 201:
                bought.append(answer.json["order"])
            else:
                assert answer.json == {"outcome": "price_changed", "amount_minor": 1500}
        return bought

    _, *bought = await asyncio.gather(change(), *(buy() for _ in range(4)))
    orders = [order for mine in bought for order in mine]
    assert orders and {(order["status"], order["amount_minor"]) for order in orders} == {("confirmed", 1900)}


async def test_the_books_agree_with_all_of_it(gateway: Gateway, api: Api, bank: Bank) -> None:
    sale = (await api.sale())["sale"]
    paid, refunded, cancelled, second = [await confirmed(api, sale, api.viewer(f"buyer-{n}-{sale}")) for n in range(4)]
    for order in (paid, refunded, second):
        assert (await bank.tell(order, f"a-{order}")).status == 200
    assert (await bank.tell(second, f"b-{second}")).status == 200
    assert (await bank.tell(refunded, f"a-{refunded}", kind="payment.refunded")).status == 200
    path = f"/v1/orders/{cancelled}/cancel"
    assert (await api.call("POST", path, token=api.viewer(f"buyer-2-{sale}"))).json["status"] == "cancelled"
    assert (await bank.tell(cancelled, f"a-{cancelled}")).status == 200
    audit = gateway.command("audit", "--sale", sale, "--json", check=False)
    broken = [check for check in json.loads(audit.stdout)["checks"] if not check["holds"]]
    assert (audit.returncode, broken) == (0, [])
