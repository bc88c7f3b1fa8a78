"""What the writer does in the ledger: takes and keeps a shard's lease, applies batches under it, parks what cannot be.

One connection of its own, no pool: while PostgreSQL is away the writer alone decides how to wait.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.domain.batch import (
    ActColumns,
    AppliedLate,
    AppliedOrders,
    ClaimColumns,
    ClaimsNamed,
    CouponActColumns,
    LateColumns,
    Lease,
    OrderColumns,
    Place,
)
from gateway.errors import LedgerUnavailable
from gateway.ledger.pool import ledger_errors, open_connection

_TAKE_LEASE = """
UPDATE shards SET lease_holder = $2, lease_until = clock_timestamp() + make_interval(secs => $3),
       lease_token = lease_token + CASE WHEN lease_holder IS NOT DISTINCT FROM $2 THEN 0 ELSE 1 END
 WHERE shard = $1 AND (lease_holder IS NOT DISTINCT FROM $2 OR lease_until < clock_timestamp())
RETURNING epoch, last_seq, lease_token
"""
_GIVE_LEASE = "UPDATE shards SET lease_until = '-infinity' WHERE shard = $1 AND lease_token = $2"
_APPLY_ORDERS = """
SELECT * FROM apply_orders($1::int2, $2, $3, $4, $5, $6::int8[], $7::int4[], $8::int2[], $9::text[], $10::text[],
                           $11::text[], $12::text[], $13::int4[], $14::int8[], $15::int8[], $16::text[],
                           $17::int8[], $18::int4[], $19::int4[], $20::int8[])
"""
_APPLY_CLAIMS = """
SELECT * FROM apply_claims($1::int2, $2, $3, $4, $5, $6::int8[], $7::int4[], $8::text[], $9::text[], $10::text[],
                           $11::int8[], $12::int8[])
"""
_APPLY_ACT = "SELECT apply_act($1::int2, $2, $3, $4, $5, $6, $7, $8::int2, $9, $10, $11, $12, $13, $14, $15, $16)"
_APPLY_COUPON_ACT = "SELECT apply_coupon_act($1::int2, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_APPLY_LATE = "SELECT status, claim FROM apply_late($1::int2, $2, $3, $4, $5, $6, $7, $8::int2, $9, $10, $11)"
_SKIP_LOST = "SELECT skip_lost($1::int2, $2, $3, $4, $5)"
_PARK_ENTRY = "SELECT park_entry($1::int2, $2, $3, $4, $5, $6, $7)"
_PARK_LATE = "SELECT park_late($1::int2, $2, $3, $4, $5, $6, $7, $8)"
_PARK_ORDER = """
SELECT park_order($1::int2, $2, $3, $4, $5, $6, $7, $8, $9::int2, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""
_PARK_CLAIM = "SELECT park_claim($1::int2, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
_SHOPS = "SELECT s.sale_no, h.shop FROM sales s JOIN shops h USING (shop_no) WHERE s.sale_no = ANY($1::int[])"
_SHOPS_OF_COUPONS = """
SELECT k.coupon_no, h.shop FROM coupons k JOIN shops h USING (shop_no) WHERE k.coupon_no = ANY($1::int[])
"""
_NO_CLAIMS = (None, None, None, None)
# A batch takes milliseconds, and waits for a lock for five seconds at most. Who hears nothing for longer has a dead
# connection, and all confirmations wait until it is replaced.
_ANSWERS_WITHIN_S = 8.0


class LedgerBatches:
    """Each call is one transaction. Raises LeaseLost when another holds the shard,
    LedgerRejected for data that no repeat will make good, LedgerUnavailable for all else (the effect is unknown)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    async def _open(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await open_connection(self._url, answers_within_s=_ANSWERS_WITHIN_S)
        return self._connection

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[Any]:
        """The connection, dropped when what was asked over it did not end as it should: its state is anyone's guess."""
        connection = await self._open()
        try:
            with ledger_errors():
                yield connection
        except (LedgerUnavailable, asyncio.CancelledError):
            connection.terminate()
            self._connection = None
            raise

    async def take_lease(self, shard: int, *, holder: str, for_s: float) -> Lease | None:
        """Takes or prolongs the lease, by PostgreSQL's clock; None while another holds it."""
        async with self._using() as connection:
            row = await connection.fetchrow(_TAKE_LEASE, shard, holder, for_s)
        return Lease(row["epoch"], row["last_seq"], row["lease_token"]) if row else None

    async def give_lease(self, shard: int, token: int) -> None:
        async with self._using() as connection:
            await connection.execute(_GIVE_LEASE, shard, token)

    async def apply_orders(self, at: Place, orders: OrderColumns) -> AppliedOrders:
        async with self._using() as connection:
            row = await connection.fetchrow(
                _APPLY_ORDERS,
                *at,
                orders.seqs,
                orders.sales,
                orders.items,
                orders.order_ids,
                orders.viewers,
                orders.keys,
                orders.fingerprints,
                orders.quantities,
                orders.prices,
                orders.at_ms,
                orders.extras,
                *(_NO_CLAIMS if orders.claims is None else _named(orders.claims)),
            )
        redeeming = zip(row["claimed_by"] or (), row["claims"] or (), row["claim_states"] or (), strict=True)
        return AppliedOrders(
            dict(zip(row["sales"] or (), row["pay_by_ms"] or (), strict=True)),
            dict(zip(row["refused"], row["reasons"], strict=True)),
            {seq: (claim, state) for seq, claim, state in redeeming if claim is not None},
        )

    async def apply_claims(self, at: Place, claims: ClaimColumns) -> dict[int, str]:
        """Those refused, by sequence number, and why."""
        async with self._using() as connection:
            row = await connection.fetchrow(
                _APPLY_CLAIMS,
                *at,
                claims.seqs,
                claims.coupons,
                claims.claims,
                claims.viewers,
                claims.keys,
                claims.values,
                claims.at_ms,
            )
        return dict(zip(row["refused"], row["reasons"], strict=True))

    async def apply_act(self, at: Place, act: ActColumns) -> bool:
        """False when the ledger could not take a change of stock; the act is kept, without effect."""
        async with self._using() as connection:
            return bool(
                await connection.fetchval(
                    _APPLY_ACT,
                    *at,
                    act.sale_no,
                    act.act,
                    act.item_no,
                    act.value,
                    act.actor,
                    act.at_ms,
                    act.kind,
                    act.key or None,
                    act.fingerprint,
                    act.reason or None,
                    act.text,
                )
            )

    async def apply_coupon_act(self, at: Place, act: CouponActColumns) -> bool:
        """False when the ledger could not take it; it is kept without effect, and the shard is to be recounted."""
        async with self._using() as connection:
            return bool(
                await connection.fetchval(
                    _APPLY_COUPON_ACT,
                    *at,
                    act.coupon_no,
                    act.act,
                    act.room_no or None,
                    act.claim_until_ms,
                    act.actor,
                    act.at_ms,
                    act.kind,
                    act.key or None,
                    act.fingerprint,
                )
            )

    async def apply_late(self, at: Place, late: LateColumns) -> AppliedLate:
        async with self._using() as connection:
            return AppliedLate(*await connection.fetchrow(_APPLY_LATE, *at, *late))

    async def skip_lost(self, at: Place) -> None:
        """Moves the cursor over numbers that the stream does not have, and has the shard recounted."""
        async with self._using() as connection:
            await connection.execute(_SKIP_LOST, *at)

    async def park_entry(self, at: Place, *, reason: str, entry: bytes) -> None:
        """Moves the cursor past an entry that the ledger cannot take; it is kept for people, and the shard is to be
        recounted."""
        async with self._using() as connection:
            await connection.execute(_PARK_ENTRY, *at, _clean(reason)[:500], entry)

    async def park_late(self, at: Place, *, payment_no: int, reason: str, entry: bytes) -> None:
        """The same for late money, which is to be refunded."""
        async with self._using() as connection:
            await connection.execute(_PARK_LATE, *at, _clean(reason)[:500], entry, payment_no)

    async def park_order(self, at: Place, orders: OrderColumns, *, reason: str, entry: bytes) -> None:
        """For one order, which also becomes a refused row and gives its units back; nothing is to be recounted."""
        async with self._using() as connection:
            await connection.execute(
                _PARK_ORDER,
                *at,
                _clean(reason)[:500],
                entry,
                orders.sales[0],
                orders.items[0],
                orders.order_ids[0],
                _clean(orders.viewers[0]),
                _clean(orders.keys[0]),
                _clean(orders.fingerprints[0]),
                orders.quantities[0],
                orders.prices[0],
                orders.at_ms[0],
                *([None, None, None] if orders.claims is None else [each[0] for each in _named(orders.claims)[1:]]),
            )

    async def park_claim(self, at: Place, claims: ClaimColumns, *, reason: str, entry: bytes) -> None:
        """For one claim, which also becomes a refused row and gives its copy back; nothing is to be recounted."""
        async with self._using() as connection:
            await connection.execute(
                _PARK_CLAIM,
                *at,
                _clean(reason)[:500],
                entry,
                claims.coupons[0],
                claims.claims[0],
                _clean(claims.viewers[0]),
                _clean(claims.keys[0]),
                claims.values[0],
                claims.at_ms[0],
            )

    async def shops_of_coupons(self, coupons: Sequence[int]) -> dict[int, str]:
        async with self._using() as connection:
            return {row["coupon_no"]: row["shop"] for row in await connection.fetch(_SHOPS_OF_COUPONS, coupons)}

    async def shops_of(self, sales: Sequence[int]) -> dict[int, str]:
        async with self._using() as connection:
            return {row["sale_no"]: row["shop"] for row in await connection.fetch(_SHOPS, sales)}

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _named(claims: ClaimsNamed) -> tuple[list[int | None], ...]:
    return claims.discounts, claims.coupons, claims.epochs, claims.seqs


def _clean(text: str) -> str:
    """What PostgreSQL can store of a text: everything but NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
