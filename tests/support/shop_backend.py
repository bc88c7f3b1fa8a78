"""A shop's backend that hears events: a real server on this machine which checks every signature, and answers as a test
tells it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.support.fake_shop import http_server


@dataclass
class Heard:
    """One request."""

    msg_id: str
    type: str
    data: Any
    headers: dict[str, str]
    body: str
    status: int
    """What it was answered."""


@dataclass
class ShopBackend:
    secrets: list[str] = field(default_factory=list)
    """Every event must be signed with each of them."""
    answer: Callable[[Any], int] = lambda event: 204
    answer_headers: dict[str, str] = field(default_factory=dict)
    takes_s: float = 0.0
    silent_until: asyncio.Event | None = None
    """Nothing is answered before."""
    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def taken(self) -> list[Heard]:
        return [each for each in self.heard if each.status < 300]

    def types(self, key: str = "order") -> dict[str, list[str]]:
        """Of what was taken, by object the types in the order heard, each id once."""
        found: dict[str, list[str]] = {}
        seen: set[str] = set()
        for each in self.taken():
            if each.msg_id not in seen:
                seen.add(each.msg_id)
                found.setdefault(each.data.get(key, ""), []).append(each.type)
        return found

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = (await request.read()).decode()
            for secret in self.secrets:
                Webhook(secret).verify(body, dict(request.headers))
            if self.silent_until is not None:
                await self.silent_until.wait()
            if self.takes_s:
                await asyncio.sleep(self.takes_s)
            event = json.loads(body)
            status = self.answer(event)
            headers = dict(request.headers)
            self.heard.append(Heard(request.headers["webhook-id"], event["type"], event["data"], headers, body, status))
            return web.Response(status=status, headers=self.answer_headers if status >= 300 else {})
        finally:
            self.at_once -= 1


@asynccontextmanager
async def shop_backend(**more: Any) -> AsyncIterator[ShopBackend]:
    backend = ShopBackend(**more)
    async with http_server(backend.take) as url:
        backend.url = f"{url}/hooks"
        yield backend
