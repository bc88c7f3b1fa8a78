"""One attempt to bring an event to a shop's endpoint over HTTP."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple

import aiohttp

from gateway.clock import Clock
from gateway.domain.webhook import Endpoint
from gateway.webhooks.addresses import AddressRefused, allows, guarded, is_loopback
from gateway.webhooks.backoff import read_retry_after
from gateway.webhooks.names import Names
from gateway.webhooks.signing import signed

CONNECT_WITHIN_S: Final = 2.0
ANSWER_WITHIN_S: Final = 10.0
_KEPT_OPEN_S: Final = 15.0
# What of an answer is read, so that its connection can be used again; nothing of it matters but its status.
_ANSWER_BYTES: Final = 4096
_USER_AGENT: Final = "Peakgate-Webhook/1"


class Sent(NamedTuple):
    """How an attempt ended: `error` is empty when the event was taken."""

    status: int | None
    error: str
    retry_after_s: float
    took_s: float
    answer: str
    """The beginning of the answer's body; for who tries an endpoint by hand."""


class Poster:
    """Connections go straight to where the name leads, through no proxy of the environment, and to no address that the
    guard refuses. A redirect is not followed: the shop named the address that was checked, a POST would arrive as a GET
    on most ways to follow one, and each hop would be another chance to lead inside."""

    def __init__(self, *, secure: aiohttp.ClientSession, plain: aiohttp.ClientSession | None, clock: Clock) -> None:
        self._secure = secure
        self._plain = plain
        self._clock = clock

    async def post(self, endpoint: Endpoint, *, msg_id: str, body: str) -> Sent:
        """Never raises for what the endpoint does."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        session = self._secure if endpoint.url.startswith("https://") else self._plain
        if session is None:
            return Sent(None, "only https:// is spoken", 0.0, 0.0, "")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": _USER_AGENT,
            **signed(endpoint.secrets, msg_id=msg_id, at=now, body=body),
        }
        began_s = time.monotonic()
        status: int | None = None
        retry_after_s, answer = 0.0, ""
        try:
            async with session.post(
                endpoint.url, data=body.encode(), headers=headers, allow_redirects=False
            ) as response:
                status = response.status
                answer = (await response.content.read(_ANSWER_BYTES)).decode(errors="replace")
                if not response.content.at_eof():
                    response.close()
                retry_after_s = read_retry_after(response.headers.get("Retry-After"), now=now)
                error = "" if 200 <= status < 300 else _said(status)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as failure:
            # A good status counts though the connection broke behind it.
            error = "" if status is not None and 200 <= status < 300 else _failed(failure)
        return Sent(status, error, retry_after_s, time.monotonic() - began_s, answer)


@asynccontextmanager
async def poster(
    *, clock: Clock, private: bool, dev: bool, certificates: ssl.SSLContext | None = None
) -> AsyncIterator[Poster]:
    """`private`: events may go to one's own networks. `dev`: and without TLS to this machine."""
    names = Names()
    secure = _session(
        aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=_KEPT_OPEN_S,
            ssl=certificates or True,
            resolver=names,
            socket_factory=guarded(lambda address: allows(address, private=private)),
        )
    )
    plain = None
    if dev:
        plain = _session(
            aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEPT_OPEN_S, resolver=names, socket_factory=guarded(is_loopback)
            )
        )
    try:
        yield Poster(secure=secure, plain=plain, clock=clock)
    finally:
        await secure.close()
        if plain is not None:
            await plain.close()
        await names.close()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S, sock_connect=CONNECT_WITHIN_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


def _said(status: int) -> str:
    return f"redirected with {status}, which is not followed" if 300 <= status < 400 else f"answered {status}"


def _failed(failure: Exception) -> str:
    if isinstance(failure, TimeoutError):
        return f"no answer within {ANSWER_WITHIN_S:g} s"
    cause = getattr(failure, "os_error", failure)
    if isinstance(cause, AddressRefused) or "events may not go to" in str(cause):
        return "the name leads to an address that events may not go to"
    match failure:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "the certificate is not good"
        case aiohttp.ClientConnectorDNSError():
            return "the name is not known"
        case aiohttp.ClientConnectorError():
            return "no connection"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "the connection broke"
        case _:
            return f"the answer cannot be read ({type(failure).__name__})"
