"""Who may do what: by role, and by the rooms a token is limited to. The shop is checked where a thing is found."""

from gateway.domain.caller import Caller, Role
from gateway.errors import Forbidden


def require_host(caller: Caller) -> None:
    if caller.role is not Role.HOST:
        raise Forbidden("Only a host may do this.")


def require_room(caller: Caller, room: str | None) -> None:
    """A token limited to rooms reaches only what belongs to one of them."""
    if caller.rooms is not None and room not in caller.rooms:
        raise Forbidden("This token is not for this room.")
