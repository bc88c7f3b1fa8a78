"""Errors as HTTP tells them: RFC 9457 problem documents. The one table from a code to its status and title."""

import math
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.errors import (
    AlreadyRedeemed,
    GatewayError,
    HotUnavailable,
    Invalid,
    LedgerRejected,
    LedgerUnavailable,
    MethodNotAllowed,
    NotFound,
    NoticeForged,
    OutcomeUnknown,
    PaymentNotJudged,
    ShardClosed,
    TooLarge,
    Unavailable,
)
from gateway.wire.objects import optional_instant

# Code to status and title; the contract's table.
KINDS: Final = {
    "bad_request": (HTTPStatus.BAD_REQUEST, "The request cannot be read"),
    "invalid": (HTTPStatus.UNPROCESSABLE_ENTITY, "A value is not allowed"),
    "unauthorized": (HTTPStatus.UNAUTHORIZED, "The token is missing or not good"),
    "forbidden": (HTTPStatus.FORBIDDEN, "The role may not do this"),
    "not_found": (HTTPStatus.NOT_FOUND, "There is no such thing"),
    "method_not_allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The address does not know the method"),
    "conflict": (HTTPStatus.CONFLICT, "The state does not allow this"),
    "stock_in_use": (HTTPStatus.CONFLICT, "The stock is held or sold"),
    "amount_mismatch": (HTTPStatus.CONFLICT, "The amount is another one"),
    "already_redeemed": (HTTPStatus.CONFLICT, "The code was redeemed before"),
    "not_confirmed": (HTTPStatus.CONFLICT, "The order is not confirmed yet"),
    "key_reused": (HTTPStatus.UNPROCESSABLE_ENTITY, "The key was used with other content"),
    "too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "unsupported": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The content type is not supported"),
    "rate_limited": (HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "overloaded": (HTTPStatus.SERVICE_UNAVAILABLE, "Too much at once"),
    "unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "Not available just now"),
    "outcome_unknown": (HTTPStatus.SERVICE_UNAVAILABLE, "The outcome is not known"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here"),
}
# Errors that share a code with others, and that its title would say something untrue of.
_TITLES: Final[dict[type[GatewayError], str]] = {
    NoticeForged: "The signature is missing or not good",
    PaymentNotJudged: "The payment is not judged yet",
}
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# When an error that may pass says no time of its own; long enough for a server to come back into sight.
_RETRY_AFTER_MS: Final = 1000


class Problem(Struct, kw_only=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    retryable: bool
    param: str | None = None
    retry_after_ms: int | None = None
    redeemed_at: str | None = None
    """Of `already_redeemed`: when."""


def public_error(error: Exception, *, method: str) -> GatewayError:
    """What a client is told. Errors of our servers lose their words, and keep what they promise about the effect."""
    if isinstance(error, HotUnavailable | LedgerUnavailable):
        return Unavailable() if method in SAFE_METHODS else OutcomeUnknown()
    if isinstance(error, ShardClosed):
        return Unavailable()
    if isinstance(error, LedgerRejected):
        return Invalid("A value cannot be stored.")
    if isinstance(error, GatewayError) and error.code in KINDS:
        return error
    if isinstance(error, web.HTTPNotFound):
        return NotFound("There is nothing at this address.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed()
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge()
    return GatewayError()


def problem_response(error: GatewayError, *, request_id: str) -> web.Response:
    status, title = KINDS[error.code]
    retry_after_ms = error.retry_after_ms
    if retry_after_ms is None and error.retryable:
        retry_after_ms = _RETRY_AFTER_MS
    problem = Problem(
        type=f"urn:peakgate:problem:{error.code}",
        title=_TITLES.get(type(error), title),
        status=status.value,
        detail=error.message,
        code=error.code,
        request_id=request_id,
        retryable=error.retryable,
        param=error.param,
        retry_after_ms=retry_after_ms,
        redeemed_at=optional_instant(error.at_ms) if isinstance(error, AlreadyRedeemed) else None,
    )
    response = web.Response(
        body=msgspec.json.encode(problem), status=status.value, content_type="application/problem+json"
    )
    if retry_after_ms is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after_ms / 1000)))
    if status is HTTPStatus.UNAUTHORIZED:
        # HTTP wants a scheme named; that of notices is in no registry.
        response.headers["WWW-Authenticate"] = "StandardWebhooks" if isinstance(error, NoticeForged) else "Bearer"
    return response
