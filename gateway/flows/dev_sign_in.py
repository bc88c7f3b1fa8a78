"""The sign-in of development: whoever says a name is that person. Nothing of it is there in production."""

import unicodedata
from typing import Final, Literal, Protocol

from msgspec import Struct

from gateway.clock import Clock
from gateway.domain.caller import Role
from gateway.domain.keys import SigningKey
from gateway.domain.room import Room
from gateway.errors import Conflict, Invalid

SHOP: Final = "demo"
MAX_NAME_CHARS: Final = 32
_TTL_S: Final = 12 * 3600


class Rooms(Protocol):
    """`gateway.flows.room_book.RoomBook`."""

    async def get(self, room_id: str) -> Room: ...


class Keys(Protocol):
    async def of(self, shop: str, signs: Literal["viewer", "staff"], *, may_make: bool) -> SigningKey: ...


class Mint(Protocol):
    """`gateway.admission.tokens.mint_token`."""

    def __call__(
        self, *, kid: str, secret: bytes, shop: str, sub: str, role: Role, ttl_s: int, name: str, now_s: int
    ) -> str: ...


class SignedIn(Struct, frozen=True):
    token: str
    shop: str
    sub: str
    expires_at_ms: int


class DevSignIn:
    def __init__(self, *, keys: Keys, rooms: Rooms, mint: Mint, clock: Clock) -> None:
        self._keys = keys
        self._rooms = rooms
        self._mint = mint
        self._clock = clock

    async def sign_in(self, role: Role, name: str, *, room: str | None, shop: str | None) -> SignedIn:
        """The same name is the same person, role by role. A viewer comes to a room, staff to a shop, which is made
        where it may be."""
        name = " ".join(unicodedata.normalize("NFKC", name).split())
        if not (1 <= len(name) <= MAX_NAME_CHARS and name.isprintable()):
            raise Invalid(f"A name has 1 to {MAX_NAME_CHARS} printable characters.", param="name")
        if role is Role.VIEWER:
            if room is None:
                raise Invalid("A viewer comes to a room.", param="room")
            shop = (await self._rooms.get(room)).shop
        key = await self._keys.of(
            shop or SHOP, "viewer" if role is Role.VIEWER else "staff", may_make=role is not Role.VIEWER
        )
        if key.alg != "HS256":
            raise Conflict("Only the shop itself signs its tokens: it keeps that key.")
        now_s = self._clock.now_ms() // 1000
        sub = f"{role}:{name.casefold()}"[:64]
        token = self._mint(
            kid=key.kid, secret=key.secret, shop=key.shop, sub=sub, role=role, ttl_s=_TTL_S, name=name, now_s=now_s
        )
        return SignedIn(token, key.shop, sub, (now_s + _TTL_S) * 1000)
