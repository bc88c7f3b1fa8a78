"""Verifying a token: who calls, by a key of their shop.

Here: which key may have signed what, and what is remembered. Not here: where keys are kept, and minting (tokens.py).
"""

import asyncio
import hashlib
from collections import OrderedDict
from typing import Any, Final, NamedTuple, Protocol

import jwt
import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.clock import Clock
from gateway.domain.caller import Caller, Role
from gateway.domain.keys import SigningKey
from gateway.errors import GatewayError, RateLimited, Unauthorized, Unavailable

AUDIENCE: Final = "peakgate"
MAX_TTL_S: Final = 24 * 3600
LEEWAY_S: Final = 2  # clocks of shops are a little off; a stolen token gains nothing by it
MAX_TOKEN_BYTES: Final = 4096  # as large as a viewer's largest frame
MAX_SUB_CHARS: Final = 64
MAX_NAME_CHARS: Final = 100
MAX_REF_CHARS: Final = 256
MAX_ROOMS: Final = 100

TOKENS_MAX: Final = 50_000  # as many as a process holds sockets by default
_KEYS_MAX: Final = 10_000
_UNKNOWN_MAX: Final = 10_000
_UNKNOWN_FOR_S: Final = 5.0
# A rotated key reaches a process by the bus; where the bus lost it, at the latest after this time.
_KEY_FRESH_S: Final = 30.0
# While the ledger is away known keys go on, and it is asked this seldom for each.
_KEY_RETRY_S: Final = 1.0
# Nobody stands at the door for longer than this because the ledger hangs; what it says afterwards still counts.
_ASK_WITHIN_S: Final = 1.0


class Keys(Protocol):
    async def find_key(self, kid: str) -> SigningKey | None: ...
    async def newest(self, most: int) -> list[SigningKey]: ...


class _Claims(msgspec.Struct):
    sub: str
    shop: str
    role: Role
    exp: int | float
    aud: str | list[str]
    nbf: int | float | None = None
    rooms: list[str] | None = None
    name: str | None = None
    ref: str | None = None


_read_claims = msgspec.json.Decoder(_Claims).decode


class _Known:
    """A key this process has read; `material` is what the signature is checked with."""

    __slots__ = ("fresh_until_s", "jws", "key", "material")

    def __init__(self, key: SigningKey, fresh_until_s: float) -> None:
        self.key = key
        self.fresh_until_s = fresh_until_s
        self.jws = jwt.PyJWS(algorithms=[key.alg])
        self.material: Any = key.secret if key.alg == "HS256" else load_pem_public_key(key.secret)


class _Verified(NamedTuple):
    caller: Caller
    by: _Known
    until_s: float
    """Wall clock: the token's end or its key's, whichever comes first."""


class Authenticator:
    """Turns a token into its caller, or raises Unauthorized.

    Verified tokens are remembered by their hash until they end, `remember_max` at most; a failed one never is. Keys
    that nobody knows are looked up at most `unknown_per_s` times a second in all, so that a flood of forged ones
    reaches no database: past it the answer is RateLimited, since the key may well be a new one.
    """

    def __init__(
        self, *, keys: Keys, clock: Clock, remember_max: int = TOKENS_MAX, unknown_per_s: float = 20.0
    ) -> None:
        self._source = keys
        self._clock = clock
        self._remember_max = remember_max
        self._tokens: OrderedDict[bytes, _Verified] = OrderedDict()
        self._keys: OrderedDict[str, _Known] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Known | None]] = {}
        self._told = 0
        """How often somebody said that keys changed."""
        self._unknown_per_s = unknown_per_s
        self._credit = unknown_per_s
        self._credit_at_s = clock.monotonic()

    async def prepare(self) -> None:
        """Learns the keys there are, so that forged ones cannot keep them out after a start."""
        fresh_until_s = self._clock.monotonic() + _KEY_FRESH_S
        for key in await self._source.newest(_KEYS_MAX):
            self._keys[key.kid] = _Known(key, fresh_until_s)

    def cached(self, token: str) -> Caller | None:
        """The caller when this token was verified before and still holds; never asks, never checks a signature."""
        held = self._tokens.get(_digest(token))
        if held is None or self._now_s() >= held.until_s or not self._is_fresh(held.by):
            return None
        return held.caller

    def verify_known(self, token: str) -> Caller | None:
        """As `verify` without asking anybody: None when the token's key is not known here (any more)."""
        caller = self.cached(token)
        if caller is not None:
            return caller
        kid = _kid(token)
        known = self._keys.get(kid)
        if known is not None and self._is_fresh(known):
            return self._verified(token, known)
        if self._unknown.get(kid, 0.0) > self._clock.monotonic():
            raise Unauthorized
        return None

    async def verify(self, token: str) -> Caller:
        """Raises Unauthorized; RateLimited or Unavailable when the token's key could not be looked up."""
        caller = self.verify_known(token)
        if caller is not None:
            return caller
        known = await self._known_key(_kid(token))
        if known is None:
            raise Unauthorized
        return self._verified(token, known)

    def forget(self, shop: str) -> None:
        """Keys of the shop changed: each is read anew before it is believed again."""
        self._told += 1
        for known in self._keys.values():
            if known.key.shop == shop:
                known.fresh_until_s = 0.0
        self._unknown.clear()

    # Tokens.

    def _verified(self, token: str, known: _Known) -> Caller:
        try:
            # The algorithm is the key's; what the header names only has to agree.
            payload: bytes = known.jws.decode_complete(token, known.material, algorithms=[known.key.alg])["payload"]
            claims = _read_claims(payload)
        except (jwt.PyJWTError, msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            raise Unauthorized from None
        caller = self._judge(claims, known.key)
        until_s = float(caller.expires_at_s + LEEWAY_S)
        if known.key.retires_at_ms is not None:
            until_s = min(until_s, known.key.retires_at_ms / 1000)
            if until_s <= self._now_s():
                raise Unauthorized
        self._tokens[_digest(token)] = _Verified(caller, known, until_s)
        if len(self._tokens) > self._remember_max:
            self._tokens.popitem(last=False)
        return caller

    def _judge(self, claims: _Claims, key: SigningKey) -> Caller:
        """What a signature cannot say. Who could sign may know why it is refused; nobody else gets here."""
        now_s = self._now_s()
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if AUDIENCE not in audiences:
            raise Unauthorized("The token is for another audience.")
        if claims.shop != key.shop:
            raise Unauthorized("The token names another shop than its key's.")
        if (claims.role is Role.VIEWER) is not (key.signs == "viewer"):
            raise Unauthorized("A viewer key signs viewers, a staff key signs staff.")
        if claims.exp <= now_s - LEEWAY_S:
            raise Unauthorized("The token has expired.")
        if claims.exp > now_s + MAX_TTL_S + LEEWAY_S:
            raise Unauthorized("A token lives 24 hours at most.")
        if claims.nbf is not None and claims.nbf > now_s + LEEWAY_S:
            raise Unauthorized("The token is not valid yet.")
        if not 1 <= len(claims.sub) <= MAX_SUB_CHARS or not claims.sub.isprintable():
            raise Unauthorized(f"A sub is 1 to {MAX_SUB_CHARS} printable characters.")
        if claims.name is not None and not (len(claims.name) <= MAX_NAME_CHARS and claims.name.isprintable()):
            raise Unauthorized(f"A name is at most {MAX_NAME_CHARS} printable characters.")
        if claims.ref is not None and len(claims.ref) > MAX_REF_CHARS:
            raise Unauthorized(f"A ref is at most {MAX_REF_CHARS} characters.")
        if claims.rooms is not None and len(claims.rooms) > MAX_ROOMS:
            raise Unauthorized(f"A token names at most {MAX_ROOMS} rooms.")
        return Caller(
            shop=claims.shop,
            sub=claims.sub,
            role=claims.role,
            expires_at_s=int(claims.exp),
            rooms=None if claims.rooms is None else frozenset(claims.rooms),
            name=claims.name,
            ref=claims.ref,
        )

    # Keys.

    def _is_fresh(self, known: _Known) -> bool:
        return self._keys.get(known.key.kid) is known and known.fresh_until_s > self._clock.monotonic()

    async def _known_key(self, kid: str) -> _Known | None:
        """The key, asked for once however many wait for it, and waited for a moment each. Where the ledger takes longer
        a key that is known goes on; for one that is not this raises Unavailable."""
        known = self._keys.get(kid)
        asking = self._asking.get(kid)
        if asking is None:
            if known is None:
                self._take_credit()
            asking = self._asking[kid] = asyncio.create_task(self._ask(kid, known))
            asking.add_done_callback(lambda task: self._asked(kid, task))
        elif known is not None and known.fresh_until_s > 0.0:
            # Somebody has stood here before, and it is the same key as a moment ago unless we were told otherwise.
            return known
        # Not cancelled with who waits: others do too, and a driver's cancelled query may hang where this one does.
        done, _ = await asyncio.wait((asking,), timeout=_ASK_WITHIN_S)
        if done:
            return asking.result()
        if known is None:
            raise Unavailable(retry_after_ms=1000)
        known.fresh_until_s = self._clock.monotonic() + _KEY_RETRY_S
        return known

    def _asked(self, kid: str, task: "asyncio.Task[_Known | None]") -> None:
        del self._asking[kid]
        if not task.cancelled():
            task.exception()  # retrieved: perhaps nobody waits any more

    async def _ask(self, kid: str, known: _Known | None) -> _Known | None:
        told = self._told
        try:
            key = await self._source.find_key(kid)
        except GatewayError as error:
            if known is None:
                raise Unavailable(retry_after_ms=1000) from error
            known.fresh_until_s = self._clock.monotonic() + _KEY_RETRY_S
            return known
        now_s = self._clock.monotonic()
        # What was read before a change was told of may be what it was before it.
        fresh_until_s = now_s + _KEY_FRESH_S if told == self._told else 0.0
        if key is None:
            self._keys.pop(kid, None)
            if told == self._told:
                self._unknown[kid] = now_s + _UNKNOWN_FOR_S
            if len(self._unknown) > _UNKNOWN_MAX:
                self._unknown.popitem(last=False)
            return None
        if known is not None and known.key == key:
            known.fresh_until_s = fresh_until_s
            return known
        # Another object: what the former one verified does not hold any more.
        known = self._keys[kid] = _Known(key, fresh_until_s)
        if len(self._keys) > _KEYS_MAX:
            self._keys.popitem(last=False)
        return known

    def _take_credit(self) -> None:
        now_s = self._clock.monotonic()
        earned = (now_s - self._credit_at_s) * self._unknown_per_s
        self._credit = min(max(1.0, self._unknown_per_s), self._credit + earned)
        self._credit_at_s = now_s
        if self._credit < 1.0:
            raise RateLimited(retry_after_ms=1000)
        self._credit -= 1.0

    def _now_s(self) -> float:
        return self._clock.now_ms() / 1000


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()


_HEADERS: Final = jwt.PyJWS()


def _kid(token: str) -> str:
    """The key the header names; nothing else of the header is believed."""
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthorized
    try:
        kid = _HEADERS.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthorized from None
    if not isinstance(kid, str) or not 1 <= len(kid) <= 64 or not (kid.isascii() and kid.isprintable()):
        raise Unauthorized
    return kid
