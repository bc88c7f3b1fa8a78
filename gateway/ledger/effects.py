"""Effects remembered by idempotency key, for everything but orders (whose row is their memory)."""

from typing import Any

from gateway.domain.drafts import Effect
from gateway.errors import KeyReused
from gateway.ledger.pool import Ledger

_TAKE = """
INSERT INTO effects (shop_no, caller, kind, key, fingerprint, object) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING RETURNING true
"""
_FIND = "SELECT fingerprint, object FROM effects WHERE shop_no = $1 AND caller = $2 AND kind = $3 AND key = $4"
_FIND_BY_SHOP = """
SELECT e.fingerprint, e.object FROM effects e JOIN shops h USING (shop_no)
 WHERE h.shop = $1 AND e.caller = $2 AND e.kind = $3 AND e.key = $4
"""


async def take_key(connection: Any, *, shop_no: int, effect: Effect, object_id: str) -> str | None:
    """Takes the key for `object_id` in the caller's transaction, or names the object that holds it already.

    While another transaction holds the key uncommitted this waits for its end: a repeat in flight gets the same answer.
    Raises KeyReused when the key holds other content.
    """
    taken = await connection.fetchval(
        _TAKE, shop_no, effect.caller, effect.kind, effect.key, effect.fingerprint, object_id
    )
    if taken:
        return None
    return _same(await connection.fetchrow(_FIND, shop_no, effect.caller, effect.kind, effect.key), effect)


async def find_key(connection: Any, *, shop: str, effect: Effect) -> str | None:
    """The object this key holds, or None. Raises KeyReused when it holds other content."""
    row = await connection.fetchrow(_FIND_BY_SHOP, shop, effect.caller, effect.kind, effect.key)
    return None if row is None else _same(row, effect)


class LedgerEffects:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find(self, shop: str, effect: Effect) -> str | None:
        """As `find_key`, by itself."""
        async with self._ledger.connection() as connection:
            return await find_key(connection, shop=shop, effect=effect)


def _same(row: Any, effect: Effect) -> str:
    if row["fingerprint"] != effect.fingerprint:
        raise KeyReused
    held: str = row["object"]
    return held
