import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.admission.tokens import mint_token
from gateway.domain.caller import Role
from gateway.errors import Conflict, Invalid, LedgerUnavailable, NotFound
from gateway.ledger.shops import Alg, Shops, Signs


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


async def test_a_new_shop_has_one_key_of_each_kind(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        shop = await shops.create("tins", origins=["https://tins.example"])
        assert shop.origins == ("https://tins.example",)
        assert {key.signs for key in shop.keys} == {Signs.VIEWER, Signs.STAFF}
        assert len({key.secret for key in shop.keys}) == 2
        assert all(len(key.secret) == 32 for key in shop.keys)
        assert [each.shop for each in await shops.read_all()] == ["tins"]


async def test_the_origins_of_a_shop_are_set_as_a_whole_and_of_that_shop_alone(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        await shops.create("tins", origins=["https://tins.example"])
        await shops.create("tea", origins=["https://tea.example"])
        changed = await shops.set_origins("tins", ["https://a.example", "https://b.example"])
        assert changed.origins == ("https://a.example", "https://b.example")
        assert (await shops.set_origins("tins", [])).origins == ()
        assert (await shops.get("tea")).origins == ("https://tea.example",)
        with pytest.raises(NotFound):
            await shops.set_origins("nobody", ["https://a.example"])


async def test_a_shop_is_created_once_however_many_ask(database_url: str) -> None:
    async def ask() -> int:
        async with Shops.connect(database_url) as shops:
            return (await shops.get_or_create("tins")).shop_no

    assert len(set(await asyncio.gather(*(ask() for _ in range(8))))) == 1
    async with Shops.connect(database_url) as shops:
        with pytest.raises(Conflict):
            await shops.create("tins")


@pytest.mark.parametrize("name", ["", "Tins", "a b", "x" * 65, "tins\n"])
async def test_a_name_that_is_none_is_refused(database_url: str, name: str) -> None:
    async with Shops.connect(database_url) as shops:
        with pytest.raises(Invalid):
            await shops.create(name)
        assert await shops.read_all() == []


async def test_the_old_key_stays_valid_for_the_overlap_and_the_new_one_signs(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        old = (await shops.create("tins")).key_for(Signs.VIEWER)
        new = await shops.rotate_key("tins", Signs.VIEWER, overlap_s=600)
        shop = await shops.get("tins")
        assert shop.key_for(Signs.VIEWER).kid == new.kid
        kept = next(key for key in shop.keys if key.kid == old.kid)
        assert kept.retires_at is not None
        assert timedelta(seconds=500) < kept.retires_at - datetime.now(UTC) <= timedelta(seconds=601)
        assert len(shop.keys) == 3


async def test_without_overlap_the_old_key_is_gone_at_once(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        old = (await shops.create("tins")).key_for(Signs.STAFF)
        await shops.rotate_key("tins", Signs.STAFF, overlap_s=0)
        assert old.kid not in {key.kid for key in (await shops.get("tins")).keys}


async def test_a_second_rotation_does_not_prolong_the_first_key(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        first = (await shops.create("tins")).key_for(Signs.VIEWER)
        await shops.rotate_key("tins", Signs.VIEWER, overlap_s=60)
        await shops.rotate_key("tins", Signs.VIEWER, overlap_s=3600)
        kept = next(key for key in (await shops.get("tins")).keys if key.kid == first.kid)
        assert kept.retires_at is not None
        assert kept.retires_at - datetime.now(UTC) <= timedelta(seconds=61)


async def test_a_shop_may_bring_its_own_public_key(database_url: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    async with Shops.connect(database_url) as shops:
        shop = await shops.create("tins", public_keys={Signs.VIEWER: public_pem(private)})
    key = shop.key_for(Signs.VIEWER)
    assert (key.alg, shop.key_for(Signs.STAFF).alg) == (Alg.ES256, Alg.HS256)
    assert key.secret == public_pem(private)


async def test_a_key_of_another_curve_or_no_key_is_refused(database_url: str) -> None:
    other = public_pem(ec.generate_private_key(ec.SECP384R1()))
    async with Shops.connect(database_url) as shops:
        for pem in (other, b"no key at all"):
            with pytest.raises(Invalid):
                await shops.create("tins", public_keys={Signs.STAFF: pem})
        assert await shops.read_all() == []


async def test_an_unknown_shop_is_not_found(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        with pytest.raises(NotFound):
            await shops.rotate_key("nobody", Signs.VIEWER)


async def test_a_ledger_without_tables_says_what_to_do(empty_database_url: str) -> None:
    with pytest.raises(LedgerUnavailable, match="peakgate migrate"):
        async with Shops.connect(empty_database_url) as shops:
            await shops.read_all()


async def test_a_minted_token_carries_what_the_contract_names(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        key = (await shops.create("tins")).key_for(Signs.STAFF)
    token = mint_token(
        kid=key.kid, secret=key.secret, shop="tins", sub="h-1", role=Role.HOST, ttl_s=60, rooms=["room_1"]
    )
    assert jwt.get_unverified_header(token)["kid"] == key.kid
    claims = jwt.decode(token, key.secret, algorithms=["HS256"], audience="peakgate")
    assert (claims["sub"], claims["shop"], claims["role"], claims["rooms"]) == ("h-1", "tins", "host", ["room_1"])
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.parametrize("ttl_s", [0, -1, 24 * 3600 + 1])
def test_a_token_never_lives_longer_than_a_day(ttl_s: int) -> None:
    with pytest.raises(Invalid):
        mint_token(kid="k", secret=b"s" * 32, shop="tins", sub="a", role=Role.VIEWER, ttl_s=ttl_s)


async def test_the_schema_itself_refuses_a_key_that_signs_something_else(database_url: str) -> None:
    async with Shops.connect(database_url) as shops:
        shop = await shops.create("tins")
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                "INSERT INTO shop_keys (kid, shop_no, signs, alg, secret) VALUES ('k', $1, 'admin', 'HS256', $2)",
                shop.shop_no,
                b"x" * 32,
            )
    finally:
        await connection.close()
