"""One class a group of addresses: each handler reads the request, asks one flow, and shows what it answers."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from gateway.api.middleware import Audience, Handler


class Route(NamedTuple):
    method: str
    path: str
    handler: Handler
    audience: Audience


class Routes(Protocol):
    def routes(self) -> Iterable[Route]: ...
