"""Reading what a request brings: its body, its key, its page. What a body may say is in messages.py.

A body that cannot be read is `bad_request`, one that reads and breaks the contract is `invalid` with `param`.
"""

import asyncio
import re
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from gateway.domain.order import KEY_PATTERN
from gateway.errors import BadRequest, Invalid, TooLarge, Unsupported
from gateway.wire.invalid import invalid

T = TypeVar("T", bound=msgspec.Struct)

ORDER_BYTES: Final = 4096  # as much as an order's frame on the socket
BODY_BYTES: Final = 65_536  # a sale of 200 items with long titles
BODY_WITHIN_S: Final = 5.0
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

_KEY: Final = re.compile(KEY_PATTERN)
_CURSOR: Final = re.compile(r"[0-9A-Za-z_~]{1,64}")
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?", re.IGNORECASE)


async def read_body(request: web.Request, kind: type[T], *, max_bytes: int = BODY_BYTES) -> T:
    """The body as a message. Reads `max_bytes` at most and for BODY_WITHIN_S at most."""
    return decode_body(await read_json_bytes(request, max_bytes=max_bytes), kind)


async def read_json_bytes(request: web.Request, *, max_bytes: int) -> bytes:
    """The body as it came, for who signs it reads it to the byte."""
    _check_type(request)
    return await read_bytes(request, max_bytes=max_bytes)


def decode_body(body: bytes, kind: type[T]) -> T:
    # A reader of JSON may say `array`, but what is meant is that no request comes in any other shape.
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise BadRequest("The body is a JSON object.")
    try:
        message: T = _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        # Validation stops at the first wrong value, which may stand before what cannot be read at all.
        _check_readable(body)
        raise invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    return message


def required_key(request: web.Request) -> str:
    """The Idempotency-Key of an act that takes one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        raise BadRequest("This act takes an Idempotency-Key.", param="Idempotency-Key")
    return checked_key(key)


def checked_key(key: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise BadRequest("An idempotency key is 1 to 64 of A-Z a-z 0-9 - _ . : ~", param="Idempotency-Key")
    return key


class PageAsked(NamedTuple):
    limit: int
    after: str | None


def page_of(request: web.Request) -> PageAsked:
    limit, after = request.query.get("limit"), request.query.get("after")
    if limit is not None and not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        raise Invalid(f"A page has 1 to {MAX_LIMIT} items.", param="limit")
    if after is not None and _CURSOR.fullmatch(after) is None:
        raise Invalid("That is no cursor of this list.", param="after")
    return PageAsked(DEFAULT_LIMIT if limit is None else int(limit), after)


def wait_s(request: web.Request, *, most_s: int) -> int:
    """What `Prefer: wait=N` asks for, cut to what we give; 0 without it."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), most_s) if found else 0


def _check_type(request: web.Request) -> None:
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise Unsupported("The content type is application/json in UTF-8.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unsupported("A body comes without a content encoding.")


async def read_bytes(request: web.Request, *, max_bytes: int) -> bytes:
    """The body whatever it is; `max_bytes` at most and for BODY_WITHIN_S at most."""
    if (request.content_length or 0) > max_bytes:
        raise TooLarge(f"The body has at most {max_bytes} bytes.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > max_bytes:
                    raise TooLarge(f"The body has at most {max_bytes} bytes.")
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {BODY_WITHIN_S:g} s.") from None
    except (web.RequestPayloadError, ConnectionError):
        raise BadRequest("The body ended too early.") from None
    return bytes(body)


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


def _check_readable(body: bytes) -> None:
    try:
        _untyped(body)
    except msgspec.ValidationError:
        pass  # a number past what any field takes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not JSON.") from None


_untyped: Any = msgspec.json.Decoder().decode
