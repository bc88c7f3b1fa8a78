"""Payment providers of shops: with what each signs its notices."""

from datetime import datetime
from typing import NamedTuple

from gateway.domain.payment import ShopPlace
from gateway.errors import NotFound
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("providers.sql")


class ProviderRow(NamedTuple):
    shop: str
    provider: str
    created_at: datetime
    """Of the newest secret."""
    rotating: bool
    """The secret before is still valid."""


class LedgerProviders:
    """A provider of a shop has one secret, or two while it is rotated. They leave the ledger for checking signatures
    only."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def place_of(self, shop: str) -> ShopPlace | None:
        row = await self._ledger.fetchrow(_QUERIES["place"], shop)
        return None if row is None else ShopPlace(row["shop_no"], row["shard"])

    async def secrets(self, shop: str, provider: str) -> tuple[str, ...]:
        """Those valid now, the newest first; none for a provider the shop does not have."""
        row = await self._ledger.fetchrow(_QUERIES["secrets"], shop, provider)
        return () if row is None else tuple(secret for secret in row if secret is not None)

    async def make(self, shop: str, provider: str, secret: str) -> str:
        """The provider's newest secret: `secret` when it had none."""
        await self._ledger.execute(_QUERIES["make"], shop, provider, secret)
        found = await self.secrets(shop, provider)
        if not found:
            raise NotFound(f"there is no shop {shop}", param="shop")
        return found[0]

    async def set(self, shop: str, provider: str, secret: str) -> None:
        """From here on this secret alone is valid."""
        if not await self._ledger.fetchval(_QUERIES["set"], shop, provider, secret):
            raise NotFound(f"there is no shop {shop}", param="shop")

    async def rotate(self, shop: str, provider: str, secret: str) -> None:
        """The secret before stays valid until `finish`, or the next rotation."""
        if not await self._ledger.fetchval(_QUERIES["rotate"], shop, provider, secret):
            raise NotFound(f"the shop {shop} has no provider {provider}; set it", param="provider")

    async def finish(self, shop: str, provider: str) -> None:
        """Ends a rotation: the secret before is not valid any more."""
        if not await self._ledger.fetchval(_QUERIES["finish"], shop, provider):
            raise NotFound(f"the shop {shop} has no provider {provider}", param="provider")

    async def all(self, shop: str | None = None) -> list[ProviderRow]:
        return [ProviderRow(*row) for row in await self._ledger.fetch(_QUERIES["all"], shop)]
