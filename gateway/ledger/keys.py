"""What every process asks about shops while it serves: the key a token names, and the origins of pages."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.keys import SigningKey
from gateway.ledger.pool import Ledger

_FIND_KEY = """
SELECT k.kid, h.shop, k.signs, k.alg, k.secret, (extract(epoch FROM k.retires_at) * 1000)::bigint AS retires_at_ms
  FROM shop_keys k JOIN shops h USING (shop_no)
 WHERE ($1::text IS NULL OR k.kid = $1) AND (k.retires_at IS NULL OR k.retires_at > now())
 ORDER BY k.created_at DESC
 LIMIT $2
"""


class LedgerKeys:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find_key(self, kid: str) -> SigningKey | None:
        """The key when it is there and not retired."""
        row = await self._ledger.fetchrow(_FIND_KEY, kid, 1)
        return None if row is None else _key(row)

    async def newest(self, most: int) -> list[SigningKey]:
        """Keys that are not retired, of all shops."""
        return [_key(row) for row in await self._ledger.fetch(_FIND_KEY, None, most)]

    async def origins(self) -> Mapping[str, frozenset[str]]:
        """The origins of every shop that has any."""
        rows = await self._ledger.fetch("SELECT shop, origins FROM shops WHERE origins <> '{}'")
        return {row["shop"]: frozenset(row["origins"]) for row in rows}


def _key(row: Any) -> SigningKey:
    return SigningKey(
        kid=row["kid"],
        shop=row["shop"],
        signs=row["signs"],
        alg=row["alg"],
        secret=bytes(row["secret"]),
        retires_at_ms=row["retires_at_ms"],
    )
