"""HTTP calls to one gateway with one token: keys, problems as typed errors, and asking again where that is safe."""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp
import msgspec

from gateway.client.backoff import Backoff
from gateway.client.errors import error_of
from gateway.errors import GatewayError, OutcomeUnknown, RateLimited, Unavailable


class _Problem(msgspec.Struct):
    """RFC 9457, as far as a client acts on it."""

    code: str = ""
    title: str = ""
    detail: str = ""
    param: str | None = None
    retryable: bool | None = None
    retry_after_ms: int | None = None
    request_id: str = ""


class Answer(msgspec.Struct):
    """What an HTTP call brought: always a 2xx."""

    status: int
    body: bytes
    is_replayed: bool

    def json(self) -> Any:
        return msgspec.json.decode(self.body) if self.body else None


class Calls:
    """The way to a gateway's HTTP for one caller; `async with`, or `close` at the end.

    With `insist_s` an act is repeated that long over lost connections and retryable errors. Each act carries one key
    through all its repeats, so repeating is safe; without `insist_s` the first failure is raised.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        session: aiohttp.ClientSession | None = None,
        timeout_s: float = 15.0,
        insist_s: float = 0.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session = session
        self._owns_session = session is None
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._insist_s = insist_s
        self._backoff = backoff or Backoff(cap_s=2.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None and self._owns_session:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One act or read. A POST without a `key` gets one of its own, the same for all its repeats."""
        sent = {**self._headers, **(headers or {})}
        if method == "POST":
            sent["Idempotency-Key"] = key or uuid4().hex
        payload = None
        if body is not None:
            payload = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        deadline = time.monotonic() + self._insist_s
        failures = 0
        while True:
            try:
                return await self._once(method, path, payload, params=params, headers=sent)
            except GatewayError as error:
                delay_s = self._backoff.delay_s(failures, asked_s=(error.retry_after_ms or 0) / 1000)
                if not error.retryable or time.monotonic() + delay_s > deadline:
                    raise
            failures += 1
            await asyncio.sleep(delay_s)

    async def _once(
        self,
        method: str,
        path: str,
        payload: bytes | None,
        *,
        params: Mapping[str, str] | None,
        headers: dict[str, str],
    ) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.request(
                method,
                self.url + path,
                data=payload,
                params=params,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                body = await response.read()
                if 200 <= response.status < 300:
                    return Answer(response.status, body, response.headers.get("Idempotent-Replayed") == "true")
                raise _error(response, body)
        except aiohttp.ClientConnectorError as error:
            # No connection: nothing was sent.
            raise Unavailable(f"No connection to {self.url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OutcomeUnknown(f"{method} {path} has no answer: {error!r}") from error


def _error(response: aiohttp.ClientResponse, body: bytes) -> GatewayError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    retry_after_ms = problem.retry_after_ms
    if retry_after_ms is None and response.headers.get("Retry-After", "").isdigit():
        retry_after_ms = int(response.headers["Retry-After"]) * 1000
    message = f"{problem.detail or problem.title or response.reason} (HTTP {response.status})"
    if problem.code:
        return error_of(
            problem.code, message, retryable=problem.retryable, retry_after_ms=retry_after_ms, param=problem.param
        )
    # Not the gateway's own words: a proxy stands between, and what it says promises less.
    match response.status:
        case 429:
            return RateLimited(message, retry_after_ms=retry_after_ms)
        case 502 | 503 | 504:
            return OutcomeUnknown(message, retry_after_ms=retry_after_ms)
    return GatewayError(message)
