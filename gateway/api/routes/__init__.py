"""One class a group of addresses: each handler reads the request, asks one flow, and shows what it answers."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from gateway.api.middleware import Audience, Handler
from gateway.domain.caller import Role


class Route(NamedTuple):
    """An address, and what its page in the contract says of it."""

    method: str
    path: str
    handler: Handler
    audience: Audience
    about: str = ""
    """What it does, in one sentence."""
    takes: Any = None
    """The type of the JSON body, if there is one; `T | None`: it may be left out."""
    gives: Mapping[int, Any] = {200: None}
    """The type of each good answer's body, by status; None: no body, a string: the content type of one that is not
    JSON. A page of a list is `PageReply[ItemReply]`, one of several is a union."""
    refuses: tuple[str, ...] = ()
    """Codes of errors of its own, beside those that any address of its audience may answer with."""
    query: tuple[str, ...] = ()
    """Names of what may stand behind the `?`."""
    keyed: bool = False
    """Whether it takes an Idempotency-Key."""
    roles: tuple[Role, ...] | None = None
    """Who may ask, where that is not what the audience says: viewers, hosts, or any; (): whoever, without a token."""
    needs: tuple[str, ...] = ()
    """Those of `query` without which it is `invalid`."""
    headers: tuple[str, ...] = ()
    """Request headers of its own, such as Prefer."""
    takes_as: str = "application/json"
    """The content type of the body."""


class Routes(Protocol):
    def routes(self) -> Iterable[Route]: ...
