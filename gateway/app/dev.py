"""The sign-in of development, which a gateway has under `--dev` alone."""

from typing import Literal

from gateway.admission.tokens import mint_token
from gateway.app.edge import Edge
from gateway.domain.keys import SigningKey
from gateway.flows.dev_sign_in import DevSignIn
from gateway.ledger.shops import Shops, Signs
from gateway.settings import Settings


def build_dev_sign_in(edge: Edge) -> DevSignIn | None:
    settings = edge.base.settings
    if not settings.dev:
        return None
    return DevSignIn(keys=_ShopKeys(settings), rooms=edge.rooms, mint=mint_token, clock=edge.base.clock)


class _ShopKeys:
    """Over a connection of its own each time: people sign in seldom."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def of(self, shop: str, signs: Literal["viewer", "staff"], *, may_make: bool) -> SigningKey:
        async with Shops.connect(self._settings.database_url or "") as shops:
            if may_make:
                found = await shops.get_or_create(shop, shards=self._settings.shards)
            else:
                found = await shops.get(shop)
        key = found.key_for(Signs(signs))
        return SigningKey(kid=key.kid, shop=found.shop, signs=signs, alg=key.alg.value, secret=key.secret)
