"""What every process asks about shops while it serves: the key a token names, and the origins of pages."""

from collections.abc import Mapping

from gateway.domain.keys import SigningKey
from gateway.ledger.pool import Ledger

_FIND_KEY = """
SELECT k.kid, h.shop, k.signs, k.alg, k.secret, (extract(epoch FROM k.retires_at) * 1000)::bigint AS retires_at_ms
  FROM shop_keys k JOIN shops h USING (shop_no)
 WHERE k.kid = $1 AND (k.retires_at IS NULL OR k.retires_at > now())
"""


class LedgerKeys:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find_key(self, kid: str) -> SigningKey | None:
        """The key when it is there and not retired."""
        row = await self._ledger.fetchrow(_FIND_KEY, kid)
        if row is None:
            return None
        return SigningKey(
            kid=row["kid"],
            shop=row["shop"],
            signs=row["signs"],
            alg=row["alg"],
            secret=bytes(row["secret"]),
            retires_at_ms=row["retires_at_ms"],
        )

    async def origins(self) -> Mapping[str, frozenset[str]]:
        """The origins of every shop that has any."""
        rows = await self._ledger.fetch("SELECT shop, origins FROM shops WHERE origins <> '{}'")
        return {row["shop"]: frozenset(row["origins"]) for row in rows}
