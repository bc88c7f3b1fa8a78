"""Shops and their keys: made, listed, rotated, looked up.

Here: the rows. Not here: what a key signs for (that is checked where tokens are), and the shop's sales.
"""

import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

import asyncpg
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.domain.limits import DEFAULT, MAX_ROOMS_A_DAY, ShopLimits
from gateway.errors import Conflict, Invalid, LedgerUnavailable, NotFound
from gateway.ledger.limits import COLUMNS, limits_of

_SHOP_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")
_SECRET_BYTES: Final = 32
_CONNECT_WITHIN_S: Final = 5.0
# Long enough for every token that the old key signed: none lives longer.
DEFAULT_OVERLAP_S: Final = 24 * 3600.0
MAX_OVERLAP_S: Final = 90 * 24 * 3600.0


class Signs(StrEnum):
    """What a key may sign: a viewer key never makes a host."""

    VIEWER = "viewer"
    STAFF = "staff"


class Alg(StrEnum):
    HS256 = "HS256"
    ES256 = "ES256"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopKey:
    """`secret` is the shared secret (HS256) or the public key in PEM (ES256)."""

    kid: str
    signs: Signs
    alg: Alg
    secret: bytes = field(repr=False)
    created_at: datetime
    retires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    shop_no: int
    shop: str
    shard: int
    origins: tuple[str, ...]
    created_at: datetime
    # Keys that are valid now, the newest of each kind first.
    keys: tuple[ShopKey, ...]

    def key_for(self, signs: Signs) -> ShopKey:
        for key in self.keys:
            if key.signs is signs:
                return key
        raise NotFound(f"the shop {self.shop} has no valid {signs} key; rotate it")


class Shops:
    """The shops of a ledger, over one connection. Not for the peak: readers there keep what they read."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def connect(cls, database_url: str) -> AsyncIterator[Self]:
        try:
            connection = await asyncpg.connect(database_url, timeout=_CONNECT_WITHIN_S)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise LedgerUnavailable(f"PostgreSQL cannot be reached: {error}") from error
        try:
            yield cls(connection)
        except asyncpg.UndefinedTableError as error:
            raise LedgerUnavailable("the ledger has no tables yet: run `peakgate migrate`") from error
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
            raise LedgerUnavailable(f"PostgreSQL did not answer: {error}") from error
        finally:
            await connection.close()

    async def create(
        self,
        shop: str,
        *,
        origins: Sequence[str] = (),
        shards: int = 1,
        public_keys: dict[Signs, bytes] | None = None,
    ) -> Shop:
        """A shop with one key of each kind: the given ES256 public key, else a new HS256 secret.

        The shard is drawn once and recorded; it stays whatever `shards` becomes.
        """
        check_shop_name(shop)
        given = {signs: check_public_key(pem) for signs, pem in (public_keys or {}).items()}
        try:
            async with self._connection.transaction():
                shard = secrets.randbelow(shards)
                await self._connection.execute("INSERT INTO shards (shard) VALUES ($1) ON CONFLICT DO NOTHING", shard)
                shop_no = await self._connection.fetchval(
                    "INSERT INTO shops (shop, shard, origins) VALUES ($1, $2, $3) RETURNING shop_no",
                    shop,
                    shard,
                    list(origins),
                )
                for signs in Signs:
                    await self._add_key(shop_no, signs, given.get(signs))
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is a shop {shop} already", param="shop") from error
        return await self.get(shop)

    async def get_or_create(self, shop: str, *, shards: int = 1) -> Shop:
        """A shop that is made by the way is one to try things with, as often as one likes."""
        found = await self.find(shop)
        if found is not None:
            return found
        try:
            made = await self.create(shop, shards=shards)
        except Conflict:
            # Somebody else made it in between.
            return await self.get(shop)
        await self.set_limits(shop, ShopLimits(rooms_a_day=MAX_ROOMS_A_DAY))
        return made

    async def find(self, shop: str) -> Shop | None:
        found = await self._read("WHERE shop = $1", shop)
        return found[0] if found else None

    async def get(self, shop: str) -> Shop:
        found = await self.find(shop)
        if found is None:
            raise NotFound(f"there is no shop {shop}", param="shop")
        return found

    async def read_all(self) -> list[Shop]:
        return await self._read("")

    async def rotate_key(
        self, shop: str, signs: Signs, *, overlap_s: float = DEFAULT_OVERLAP_S, public_key: bytes | None = None
    ) -> ShopKey:
        """A new key of that kind; the ones before stay valid for `overlap_s`, or less if they retire sooner anyway."""
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise Invalid(f"an overlap is 0 to {MAX_OVERLAP_S:g} seconds", param="overlap")
        given = check_public_key(public_key) if public_key is not None else None
        found = await self.get(shop)
        async with self._connection.transaction():
            # Two rotations at once must not both spare the other's new key.
            await self._connection.execute("SELECT FROM shops WHERE shop_no = $1 FOR UPDATE", found.shop_no)
            await self._connection.execute(
                """
                UPDATE shop_keys SET retires_at = least(retires_at, now() + make_interval(secs => $3))
                WHERE shop_no = $1 AND signs = $2
                """,
                found.shop_no,
                signs.value,
                overlap_s,
            )
            kid = await self._add_key(found.shop_no, signs, given)
        return next(key for key in (await self.get(shop)).keys if key.kid == kid)

    async def set_origins(self, shop: str, origins: Sequence[str]) -> Shop:
        """The whole list anew; processes read it again within seconds."""
        await self._connection.execute("UPDATE shops SET origins = $2 WHERE shop = $1", shop, list(origins))
        return await self.get(shop)

    async def limits(self, shop: str) -> ShopLimits:
        """As they are set, else the defaults."""
        found = await self.get(shop)
        row = await self._connection.fetchrow(f"SELECT {COLUMNS} FROM shop_limits WHERE shop_no = $1", found.shop_no)  # noqa: S608
        return DEFAULT if row is None else limits_of(row)

    async def set_limits(self, shop: str, limits: ShopLimits) -> ShopLimits:
        """All of them anew; processes read them again within seconds."""
        found = await self.get(shop)
        await self._connection.execute(
            """
            INSERT INTO shop_limits (shop_no, rooms_a_day, viewers, comments_per_s) VALUES ($1, $2, $3, $4)
            ON CONFLICT (shop_no) DO UPDATE SET rooms_a_day = excluded.rooms_a_day, viewers = excluded.viewers,
                   comments_per_s = excluded.comments_per_s, changed_at = now()
            """,
            found.shop_no,
            limits.rooms_a_day,
            limits.viewers,
            limits.comments_per_s,
        )
        return limits

    async def _add_key(self, shop_no: int, signs: Signs, public_key: bytes | None) -> str:
        kid = f"key_{secrets.token_hex(8)}"
        await self._connection.execute(
            "INSERT INTO shop_keys (kid, shop_no, signs, alg, secret) VALUES ($1, $2, $3, $4, $5)",
            kid,
            shop_no,
            signs.value,
            (Alg.HS256 if public_key is None else Alg.ES256).value,
            secrets.token_bytes(_SECRET_BYTES) if public_key is None else public_key,
        )
        return kid

    async def _read(self, where: str, *arguments: object) -> list[Shop]:
        """`where` is one of the literals above, never a caller's text."""
        shops = await self._connection.fetch(
            f"SELECT shop_no, shop, shard, origins, created_at FROM shops {where} ORDER BY shop",  # noqa: S608
            *arguments,
        )
        keys = await self._connection.fetch(
            """
            SELECT shop_no, kid, signs, alg, secret, created_at, retires_at FROM shop_keys
            WHERE shop_no = ANY($1) AND (retires_at IS NULL OR retires_at > now())
            ORDER BY retires_at DESC NULLS FIRST, created_at DESC, kid
            """,
            [row["shop_no"] for row in shops],
        )
        return [
            Shop(
                shop_no=row["shop_no"],
                shop=row["shop"],
                shard=row["shard"],
                origins=tuple(row["origins"]),
                created_at=row["created_at"],
                keys=tuple(_key(key) for key in keys if key["shop_no"] == row["shop_no"]),
            )
            for row in shops
        ]


def check_shop_name(shop: str) -> str:
    if _SHOP_NAME.fullmatch(shop) is None:
        raise Invalid("a shop's name is 1 to 64 of a-z, 0-9 and -", param="shop")
    return shop


def check_public_key(pem: bytes) -> bytes:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("an ES256 key is a public key on P-256 in PEM", param="public_key")
    return pem


def _key(row: asyncpg.Record) -> ShopKey:
    return ShopKey(
        kid=row["kid"],
        signs=Signs(row["signs"]),
        alg=Alg(row["alg"]),
        secret=bytes(row["secret"]),
        created_at=row["created_at"],
        retires_at=row["retires_at"],
    )
