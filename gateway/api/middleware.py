"""Around every request: its id, its line in the log, its place among those in flight, its errors, its origin."""

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

import structlog
from aiohttp import hdrs, web

from gateway.admission.origins import Origins
from gateway.api.callers import shop_of
from gateway.api.problems import problem_response, public_error
from gateway.errors import BadRequest, GatewayError, Overloaded, TooLarge, Unavailable
from gateway.metrics import HTTP_REQUESTS

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Audience(StrEnum):
    """Whose route it is. `ANY` is served on both surfaces and counted among the viewers', PROVIDERS with the hosts'."""

    VIEWERS = "viewers"
    HOSTS = "hosts"
    PROVIDERS = "providers"
    ANY = "any"
    HEALTH = "health"


REQUEST_ID: Final = web.RequestKey("request_id", str)
AUDIENCES: Final = web.AppKey("audiences", dict[web.AbstractRoute, Audience])

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:\-]{1,64}")
# Each waits for Valkey or the ledger, whose own queues are shorter; past it more waiting helps nobody. Hosts have
# places of their own, so that a sale can be paused while viewers fill theirs, and while anybody knocks where providers
# tell of payments, which has no token.
VIEWERS_IN_FLIGHT: Final = 4000
HOSTS_IN_FLIGHT: Final = 400
PROVIDERS_IN_FLIGHT: Final = 400

_ALLOW_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, Prefer, X-Request-Id"
_EXPOSE_HEADERS: Final = "Idempotent-Replayed, Preference-Applied, Retry-After, X-Request-Id"
_PREFLIGHT_FRESH_S: Final = 600


class Edge:
    """The one middleware. After `stop_admitting` everything but health is refused, and connections are given up."""

    def __init__(self, *, origins: Origins) -> None:
        self._origins = origins
        self._most = {
            Audience.VIEWERS: VIEWERS_IN_FLIGHT,
            Audience.HOSTS: HOSTS_IN_FLIGHT,
            Audience.PROVIDERS: PROVIDERS_IN_FLIGHT,
        }
        self._in_flight = dict.fromkeys(self._most, 0)
        self._admitting = True

    def stop_admitting(self) -> None:
        self._admitting = False

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started_s = time.monotonic()
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request[REQUEST_ID] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        audience, route = _route_of(request)
        code: str | None = None
        try:
            response = await self._admitted(request, handler, audience)
        except (GatewayError, web.HTTPException) as error:
            told = public_error(error, method=request.method)
            response, code = problem_response(told, request_id=request_id), told.code
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers[hdrs.ALLOW] = ",".join(sorted(error.allowed_methods))
            if isinstance(error, TooLarge | BadRequest):
                # What is left of the body is not waited for.
                response.force_close()
            if told is not error and isinstance(error, GatewayError):
                log.warning("http_error", code=error.code, error=error.message)
        except Exception:
            log.exception("http_failed", route=route)
            told = GatewayError()
            response, code = problem_response(told, request_id=request_id), told.code
        if not self._admitting:
            response.force_close()
        HTTP_REQUESTS.labels(route, response.status).inc()
        if audience is not Audience.HEALTH:
            log.info(
                "http_request",
                method=request.method,
                route=route,
                status=response.status,
                ms=round((time.monotonic() - started_s) * 1000, 1),
                **({} if code is None else {"code": code}),
            )
        return response

    async def _admitted(self, request: web.Request, handler: Handler, audience: Audience) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS:
            return await self._preflight(request, handler)
        if audience is Audience.HEALTH:
            return await handler(request)
        if not self._admitting:
            raise Unavailable("This process is going away; repeat elsewhere.", retry_after_ms=500)
        place = audience if audience in self._most else Audience.VIEWERS
        if self._in_flight[place] >= self._most[place]:
            raise Overloaded
        self._in_flight[place] += 1
        try:
            return await handler(request)
        finally:
            self._in_flight[place] -= 1

    async def _preflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answered for every address we have; whether the page may go on is said by `sign`."""
        failure = request.match_info.http_exception
        if not isinstance(failure, web.HTTPMethodNotAllowed):
            return await handler(request)
        methods = ", ".join(sorted(failure.allowed_methods))
        response = web.Response(status=204, headers={hdrs.ALLOW: methods})
        if hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers and await self._allows(request):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _ALLOW_HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_FRESH_S)
        return response

    async def sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Headers of every response, streams included: called as it is about to be sent."""
        response.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
        response.headers[hdrs.SERVER] = "peakgate"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN in response.headers:
            return  # open to everybody's pages
        varies = response.headers.get(hdrs.VARY)
        response.headers[hdrs.VARY] = "Origin" if varies is None else f"{varies}, Origin"
        if await self._allows(request):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSE_HEADERS

    async def _allows(self, request: web.Request) -> bool:
        origin = request.headers.get(hdrs.ORIGIN)
        return origin is not None and await self._origins.allows(origin, shop=shop_of(request))


def _route_of(request: web.Request) -> tuple[Audience, str]:
    """Whose route it is, and its name for logs and metrics; never the address itself, which clients choose."""
    route = request.match_info.route
    resource = route.resource
    return (
        request.app[AUDIENCES].get(route, Audience.ANY),
        "unmatched" if resource is None else resource.canonical,
    )
