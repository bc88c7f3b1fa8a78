"""Minting tokens: for the command line, the demo and tests. A shop mints its own with the same two keys.

Here: which claims a token carries and which kind of key may sign which role. Not here: verifying, and where keys
are kept.
"""

import time
from typing import Final

import jwt

from gateway.domain.caller import Role
from gateway.errors import Invalid

AUDIENCE: Final = "peakgate"
MAX_TTL_S: Final = 24 * 3600
MAX_SUB_CHARS: Final = 64


def mint_token(
    *,
    kid: str,
    secret: bytes,
    shop: str,
    sub: str,
    role: Role,
    ttl_s: int = 3600,
    alg: str = "HS256",
    name: str | None = None,
    rooms: list[str] | None = None,
    ref: str | None = None,
    now_s: int | None = None,
) -> str:
    """A signed token that lives `ttl_s` from now. For ES256 `secret` is the private key (PEM) only the shop has."""
    if not 1 <= ttl_s <= MAX_TTL_S:
        raise Invalid(f"a token lives 1 to {MAX_TTL_S} seconds", param="ttl")
    if not 1 <= len(sub) <= MAX_SUB_CHARS:
        raise Invalid(f"a sub has 1 to {MAX_SUB_CHARS} characters", param="sub")
    issued_at_s = int(time.time()) if now_s is None else now_s
    claims: dict[str, object] = {
        "sub": sub,
        "shop": shop,
        "role": role.value,
        "aud": AUDIENCE,
        "iat": issued_at_s,
        "exp": issued_at_s + ttl_s,
    }
    optional = {"name": name, "rooms": rooms, "ref": ref}
    claims.update({claim: value for claim, value in optional.items() if value is not None})
    return jwt.encode(claims, secret, algorithm=alg, headers={"kid": kid})
