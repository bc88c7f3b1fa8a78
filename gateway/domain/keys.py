"""A key that signs tokens of a shop."""

from typing import Literal

from msgspec import Struct


class SigningKey(Struct, frozen=True):
    """`secret` is the shared secret (HS256) or the public key in PEM (ES256)."""

    kid: str
    shop: str
    signs: Literal["viewer", "staff"]
    alg: Literal["HS256", "ES256"]
    secret: bytes
    retires_at_ms: int | None = None

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r}, {self.shop!r}, {self.signs!r}, {self.alg!r})"
