"""Who calls: the verified claims of a token."""

from enum import StrEnum

import msgspec


class Role(StrEnum):
    VIEWER = "viewer"
    HOST = "host"
    CLERK = "clerk"
    SERVICE = "service"


class Caller(msgspec.Struct, frozen=True):
    shop: str
    sub: str
    role: Role
    expires_at_s: int
    """`exp` of the token, seconds since 1970."""
    rooms: frozenset[str] | None = None
    """The rooms the token is good for; None means all of the shop."""
    name: str | None = None
    ref: str | None = None

    @property
    def is_staff(self) -> bool:
        return self.role is not Role.VIEWER
