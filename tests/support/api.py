"""Plain HTTP at a gateway, and tokens of any kind: what a test needs to ask badly as well as well."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import jwt

from gateway.ledger.shops import Shop, Shops, Signs
from tests.support.gateway import Gateway

INSIST_TIMES = 5
ITEM = {"sku": "tin", "title": "A tin", "price_minor": 1900, "stock": 10, "limit_per_viewer": 2}


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The error's code, of a document that is one."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.text
        body = self.json
        assert body["status"] == self.status
        assert body["request_id"] == self.headers["X-Request-Id"]
        assert {"type", "title", "detail", "code", "retryable"} <= set(body)
        return str(body["code"])


@dataclass
class Api:
    """Calls at one gateway, by default as the host of the shop `tins`."""

    gateway: Gateway
    session: aiohttp.ClientSession
    shops: dict[str, Shop]

    def token(self, sub: str = "host", role: str = "host", *, shop: str = "tins", **changes: Any) -> str:
        signs = Signs.VIEWER if role == "viewer" else Signs.STAFF
        key = self.shops[shop].key_for(changes.pop("signs", signs))
        claims = {"sub": sub, "shop": shop, "role": role, "aud": "peakgate", "exp": int(time.time()) + 3600, **changes}
        return jwt.encode(claims, key.secret, algorithm="HS256", headers={"kid": key.kid})

    def viewer(self, sub: str = "", **changes: Any) -> str:
        return self.token(sub or f"viewer-{uuid.uuid4().hex[:12]}", "viewer", **changes)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        data: Any = None,
    ) -> Answer:
        """`body` travels as JSON, `data` as it is; a POST has a key of its own unless one is given (`-`: none)."""
        sent = dict(headers or {})
        sent.setdefault("Authorization", f"Bearer {self.token() if token is None else token}")
        if not sent["Authorization"]:
            del sent["Authorization"]
        if method == "POST" and key != "-":
            sent.setdefault("Idempotency-Key", key or uuid.uuid4().hex)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        for _ in range(INSIST_TIMES):
            async with self.session.request(
                method, self.gateway.url + path, headers=sent, json=body, data=data, allow_redirects=False
            ) as response:
                answer = Answer(response.status, response.headers, await response.text())
            # A busy machine may make the gateway say so; who has a key repeats, as the contract tells clients to.
            if answer.status != 503:
                break
            await asyncio.sleep(answer.json["retry_after_ms"] / 1000)
        return answer

    async def room(self, **fields: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/v1/rooms", {"title": "Show", **fields})
        assert answer.status == 201, answer.text
        return dict(answer.json)

    async def sale(self, *, items: Any = None, shop: str = "tins", **fields: Any) -> dict[str, Any]:
        body = sale_body(items=items, **fields)
        answer = await self.call("POST", "/v1/sales", body, token=self.token(shop=shop))
        assert answer.status == 201, answer.text
        return dict(answer.json)

    async def ref(self, source: str = "live", *, room: str = "", shop: str = "tins", **fields: Any) -> str:
        """What a link of the shop gives to orders."""
        host = self.token(shop=shop)
        if not room:
            room = (await self.call("POST", "/v1/rooms", {"title": "Show"}, token=host)).json["room"]
        answer = await self.call("POST", f"/v1/rooms/{room}/links", {"source": source, **fields}, token=host)
        assert answer.status == 201, answer.text
        return str(answer.json["ref"])

    async def order(self, sale: str, viewer: str, *, key: str = "k1", **fields: Any) -> Answer:
        """An order of one tin, asked for until it was looked at: two in a row may be `too_fast`."""
        headers = fields.pop("headers", None)
        body = {"sale": sale, "sku": "tin", "quantity": 1, **fields}
        for _ in range(20):
            answer = await self.call("POST", "/v1/orders", body, token=viewer, key=key, headers=headers)
            if answer.status != 200 or answer.json["outcome"] != "too_fast":
                return answer
            await asyncio.sleep(answer.json["retry_after_ms"] / 1000)
        raise AssertionError("always too fast")


def sale_body(
    *, items: Any = None, opens_in_s: float = -60, closes_in_s: float = 3600, **fields: Any
) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "title": "Drop",
        "currency": "CNY",
        "opens_at": (now + timedelta(seconds=opens_in_s)).isoformat(),
        "closes_at": (now + timedelta(seconds=closes_in_s)).isoformat(),
        "items": [ITEM] if items is None else items,
        **fields,
    }


@asynccontextmanager
async def api_of(gateway: Gateway) -> AsyncIterator[Api]:
    """Calls at a gateway on which the shops `tins` and `cups` are made when they are not there."""
    async with Shops.connect(gateway.servers()["database_url"]) as shops:
        made = {shop: await shops.get_or_create(shop) for shop in ("tins", "cups")}
    async with aiohttp.ClientSession() as session:
        yield Api(gateway, session, made)
