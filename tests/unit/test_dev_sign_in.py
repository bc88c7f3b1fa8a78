"""The sign-in of development: who a name becomes."""

from typing import Any, Literal

import jwt
import pytest

from gateway.admission.tokens import AUDIENCE, mint_token
from gateway.clock import SystemClock
from gateway.domain.caller import Role
from gateway.domain.keys import SigningKey
from gateway.errors import Conflict, Invalid, NotFound
from gateway.flows.dev_sign_in import DevSignIn, SignedIn

SECRET = b"s" * 32


class Shop:
    """Of one room, `room_1`, which is the shop `tins`."""

    def __init__(self, alg: Literal["HS256", "ES256"] = "HS256") -> None:
        self.alg: Literal["HS256", "ES256"] = alg
        self.asked: list[tuple[str, str, bool]] = []

    async def of(self, shop: str, signs: Literal["viewer", "staff"], *, may_make: bool) -> SigningKey:
        self.asked.append((shop, signs, may_make))
        return SigningKey(kid="key_1", shop=shop, signs=signs, alg=self.alg, secret=SECRET)

    async def get(self, room_id: str) -> Any:
        if room_id != "room_1":
            raise NotFound("There is no such room.")
        return type("Room", (), {"shop": "tins"})


async def signed(
    role: Role, name: str, stand: Shop | None = None, *, room: str | None = None, shop: str | None = None
) -> SignedIn:
    stand = stand or Shop()
    sign_in = DevSignIn(keys=stand, rooms=stand, mint=mint_token, clock=SystemClock())
    return await sign_in.sign_in(role, name, room=room, shop=shop)


async def test_a_viewer_is_one_of_the_rooms_shop_and_no_shop_is_made_for_them() -> None:
    shop = Shop()
    told = await signed(Role.VIEWER, "Ann", shop, room="room_1", shop="cups")
    claims = jwt.decode(told.token, SECRET, ["HS256"], audience=AUDIENCE)
    assert (claims["shop"], claims["role"], claims["sub"], claims["name"]) == ("tins", "viewer", told.sub, "Ann")
    assert claims["exp"] * 1000 == told.expires_at_ms and claims["exp"] - claims["iat"] == 12 * 3600
    assert shop.asked == [("tins", "viewer", False)]


async def test_a_host_is_one_of_the_shop_that_is_named_or_the_demos() -> None:
    shop = Shop()
    assert (await signed(Role.HOST, "Ann", shop)).shop == "demo"
    assert (await signed(Role.CLERK, "Ann", shop, shop="cups")).shop == "cups"
    assert shop.asked == [("demo", "staff", True), ("cups", "staff", True)]


async def test_the_same_name_is_the_same_person_in_one_role() -> None:
    subs = {(await signed(Role.HOST, name)).sub for name in ("Ann", " ann ", "ANN", "\uff21nn")}
    assert len(subs) == 1
    assert (await signed(Role.CLERK, "Ann")).sub not in subs
    assert (await signed(Role.HOST, "Anne")).sub not in subs
    assert (await signed(Role.HOST, "小 雨")).sub == (await signed(Role.HOST, "小  雨")).sub
    assert len((await signed(Role.HOST, "ß" * 32)).sub) <= 64


@pytest.mark.parametrize("name", ["", "  ", "x" * 33, "a\u202eb", "a\x00b"])
async def test_a_name_is_one_that_can_be_shown(name: str) -> None:
    with pytest.raises(Invalid):
        await signed(Role.HOST, name)


async def test_a_viewer_comes_to_a_room_that_is_there() -> None:
    with pytest.raises(Invalid):
        await signed(Role.VIEWER, "Ann")
    with pytest.raises(NotFound):
        await signed(Role.VIEWER, "Ann", room="room_2")


async def test_for_a_shop_that_keeps_its_key_nobody_else_signs() -> None:
    with pytest.raises(Conflict):
        await signed(Role.HOST, "Ann", Shop("ES256"))
