"""Shoppers for locust: a person with a live socket who looks around by HTTP and buys over the socket.

What viewers of a whole show do, who come and go and talk, is in `viewers.py`.

The latency of an order is its own: each reply is matched to its send by the key, and each confirmation to the order it
names, so what is measured is neither a queue in this process nor another shopper's answer.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import gevent
import requests
import websocket
from gevent.event import AsyncResult
from locust import HttpUser

SKU = "tin"
REPLY_WITHIN_S = 10.0
PING_EVERY_S = 20.0
# How a tick is known without decoding it; one that is told in another way is decoded for nothing, and no more.
_TICK, _HEAD_CHARS = '"t":"tick"', 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where the load goes. The names stay clear of `PEAKGATE_`, which the gateway's own settings check."""

    url: str
    data: str | None
    shop: str
    units: int
    shoppers: int

    @classmethod
    def from_environment(cls) -> "Setting":
        return cls(
            url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080"),
            data=os.environ.get("GATEWAY_DATA"),
            shop=os.environ.get("GATEWAY_SHOP", "locust"),
            units=int(os.environ.get("GATEWAY_UNITS", "1000000")),
            shoppers=int(os.environ.get("GATEWAY_SHOPPERS", "2000")),
        )


@dataclass(slots=True, kw_only=True)
class Stage:
    """What the setup prepared: the sale, its room's socket, and the tokens not yet in use."""

    sale: str
    live_url: str
    tokens: Iterator[str]


_stage: Stage | None = None


def prepare(setting: Setting, *, people: int | None = None) -> None:
    """A room, an open sale and tokens; each locust process makes its own.

    Each shopper takes a token of its own, and there must be enough; of `people` any number comes, in turn and again.
    """
    global _stage
    run = uuid4().hex[:8]
    [host_token] = _tokens(setting, f"host-{run}", "host", 1)
    viewer_tokens = _tokens(setting, f"shopper-{run}", "viewer", people or setting.shoppers)

    def post(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {host_token}", "Idempotency-Key": uuid4().hex}
        answer = requests.post(setting.url + path, json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        shown: dict[str, Any] = answer.json()
        return shown

    room = post("/v1/rooms", {"title": "locust"})
    post(f"/v1/rooms/{room['room']}/start")
    now = datetime.now(UTC)
    item = {
        "sku": SKU,
        "title": "Tin",
        "price_minor": 16_800,
        "stock": setting.units,
        "limit_per_viewer": min(1000, setting.units),
    }
    sale = post(
        "/v1/sales",
        {
            "room": room["room"],
            "title": "locust",
            "currency": "CNY",
            "opens_at": (now - timedelta(seconds=1)).isoformat(),
            "closes_at": (now + timedelta(days=1)).isoformat(),
            "items": [item],
        },
    )
    tokens = iter(viewer_tokens) if people is None else itertools.cycle(viewer_tokens)
    _stage = Stage(sale=sale["sale"], live_url=room["live_url"], tokens=tokens)


def _tokens(setting: Setting, sub: str, role: str, count: int) -> list[str]:
    command = [sys.executable, "-m", "gateway", "token", "--shop", setting.shop, "--sub", sub, "--role", role]
    command += ["--count", str(count), *(["--data", setting.data] if setting.data else [])]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


class SocketShopper(HttpUser):
    """Connected as long as it lives; after a cut it connects again and asks for what is open with the same keys."""

    abstract = True
    _leaving = True
    """Not in the room, or on the way out."""

    def on_start(self) -> None:
        self.come()

    def on_stop(self) -> None:
        if not self._leaving:
            self.leave()

    def come(self) -> None:
        """Into the room, as the next one who holds a token."""
        assert _stage is not None, "the setup hook has not run"
        self.sale = _stage.sale
        self._live_url = _stage.live_url
        token = next(_stage.tokens, None)
        if token is None:
            raise RuntimeError("more shoppers than tokens: set GATEWAY_SHOPPERS higher")
        self._token = token
        self.client.headers["Authorization"] = f"Bearer {token}"
        self._asked: dict[str, tuple[float, dict[str, Any], AsyncResult[str]]] = {}
        self._unconfirmed: dict[str, float] = {}
        self._wait_s = 0.0
        self._socket = self._connect()
        self._leaving = False
        self._reader = gevent.spawn(self._read)

    def leave(self) -> None:
        self._leaving = True
        self._socket.close()
        self._reader.kill()

    # What a shopper does.

    def browse(self) -> None:
        self.client.get(f"/v1/sales/{self.sale}", name="browse sale")

    def buy(self, quantity: int = 1) -> str:
        """One order with a key of its own; the outcome, or what there was instead. Waits first if it was told to."""
        wait_s, self._wait_s = self._wait_s, 0.0
        if wait_s:
            gevent.sleep(wait_s)
        key = uuid4().hex
        frame = {"t": "order", "id": key, "sale": self.sale, "sku": SKU, "quantity": quantity}
        answer: AsyncResult[str] = AsyncResult()
        self._asked[key] = (time.perf_counter(), frame, answer)
        self._send(frame)
        try:
            return answer.get(timeout=REPLY_WITHIN_S)
        except gevent.Timeout:
            asked = self._asked.pop(key, None)
            if asked is not None:
                self._fire("order reserved", asked[0], TimeoutError("no reply"))
            return "no_answer"

    # The socket.

    def _connect(self) -> websocket.WebSocket:
        began_s = time.perf_counter()
        try:
            socket = websocket.create_connection(
                self._live_url,
                header=[f"Authorization: Bearer {self._token}"],
                subprotocols=["peakgate.v1.json"],
                timeout=REPLY_WITHIN_S,
                # We are no page; with an Origin the gateway asks whose page it is.
                suppress_origin=True,
            )
        except (OSError, websocket.WebSocketException) as error:
            self._fire("connect", began_s, error)
            raise
        # Silence is no error on a live socket; a cut one ends the read by itself.
        socket.settimeout(PING_EVERY_S)
        hello: dict[str, Any] = {"t": "hello"}
        if self._asked:
            hello["pending"] = [{"sale": self.sale, "key": key} for key in list(self._asked)[:32]]
        try:
            socket.send(json.dumps(hello))
            # Whatever comes before it is no order's answer; nothing may be asked before it.
            while json.loads(socket.recv() or "{}").get("t", "closed") not in ("welcome", "closed"):
                pass
        except (OSError, websocket.WebSocketException) as error:
            self._fire("connect", began_s, error)
            raise
        self._fire("connect", began_s)
        return socket

    def _send(self, frame: dict[str, Any]) -> None:
        try:
            self._socket.send(json.dumps(frame))
        except (OSError, websocket.WebSocketException):
            pass  # the reader sees it too, connects again, and asks again

    def _read(self) -> None:
        while not self._leaving:
            try:
                text = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                self._send({"t": "ping"})
                continue
            except (OSError, websocket.WebSocketException):
                text = ""
            if text:
                if _TICK in text[:_HEAD_CHARS]:
                    self._tick(text)
                else:
                    self._hear(json.loads(text))
            elif not self._leaving:
                self._come_back()

    def _come_back(self) -> None:
        gevent.sleep(0.25)
        try:
            self._socket = self._connect()
        except (OSError, websocket.WebSocketException):
            return
        for frame in self._unanswered():
            self._send(frame)

    def _unanswered(self) -> list[dict[str, Any]]:
        """What is asked again on the next socket, under the same keys."""
        return [frame for _, frame, _ in self._asked.values()]

    def _tick(self, text: str) -> None:
        """Most of what comes, and nothing a shopper waits for: left undecoded."""

    def _hear(self, told: dict[str, Any]) -> None:
        match told["t"]:
            case "reply":
                self._replied(told)
            case "order":
                self._changed(told)
            case "error":
                asked = self._asked.pop(str(told.get("id")), None)
                if asked is not None:
                    self._fire("order reserved", asked[0], RuntimeError(told["code"]))
                    asked[2].set(told["code"])

    def _replied(self, told: dict[str, Any]) -> None:
        asked = self._asked.pop(told["id"], None)
        if asked is None:
            return
        asked_s, _, answer = asked
        outcome = told["outcome"]
        if outcome == "too_fast":
            self._wait_s = told.get("retry_after_ms", 0) / 1000
        # A refusal is an answer like any other, with a line of its own.
        self._fire(f"order {outcome}", asked_s)
        if outcome == "reserved":
            self._unconfirmed[told["order"]] = asked_s
        answer.set(outcome)

    def _changed(self, told: dict[str, Any]) -> None:
        asked_s = self._unconfirmed.pop(told["order"], None)
        if asked_s is not None:
            error = None if told["status"] == "confirmed" else RuntimeError(f"{told['status']} {told.get('reason')}")
            self._fire("order confirmed", asked_s, error)

    def _fire(
        self, name: str, began_s: float, error: BaseException | None = None, *, until_s: float | None = None
    ) -> None:
        self.environment.events.request.fire(
            request_type="WS",
            name=name,
            response_time=((until_s or time.perf_counter()) - began_s) * 1000,
            response_length=0,
            exception=error,
            context=self.context(),
        )
