import asyncio
import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import auth
from gateway.admission.auth import MAX_TTL_S, Authenticator
from gateway.admission.tokens import mint_token
from gateway.domain.caller import Role
from gateway.domain.keys import SigningKey
from gateway.errors import LedgerUnavailable, RateLimited, Unauthorized, Unavailable

VIEWER_SECRET = b"v" * 32
STAFF_SECRET = b"s" * 32
OTHER_SECRET = b"o" * 32
PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
NOW_S = 1_900_000_000


class SetClock:
    """Both clocks stand still until moved."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.passed_s

    def now_ms(self) -> int:
        return int((NOW_S + self.passed_s) * 1000)


class KeysOfTests:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False
        self.answers = asyncio.Event()
        """Unset: it hangs."""
        self.answers.set()
        self.keys = {
            key.kid: key
            for key in (
                SigningKey("viewers", "tins", "viewer", "HS256", VIEWER_SECRET),
                SigningKey("staff", "tins", "staff", "HS256", STAFF_SECRET),
                SigningKey("curve", "tins", "viewer", "ES256", PUBLIC_PEM),
                SigningKey("others", "cups", "viewer", "HS256", OTHER_SECRET),
            )
        }

    async def find_key(self, kid: str) -> SigningKey | None:
        self.asked.append(kid)
        await asyncio.sleep(0)
        if self.away:
            raise LedgerUnavailable
        found = self.keys.get(kid)
        await self.answers.wait()
        return found


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def keys() -> KeysOfTests:
    return KeysOfTests()


@pytest.fixture
def authenticator(keys: KeysOfTests, clock: SetClock) -> Authenticator:
    return Authenticator(keys=keys, clock=clock)


def claims(**changes: Any) -> dict[str, Any]:
    good = {"sub": "ann", "shop": "tins", "role": "viewer", "aud": "peakgate", "exp": NOW_S + 600}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def signed(secret: Any = VIEWER_SECRET, *, kid: Any = "viewers", alg: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret, algorithm=alg, headers={"kid": kid})


def unsigned(alg: str, kid: str = "viewers") -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': alg, 'typ': 'JWT', 'kid': kid})}.{part(claims())}."


def confused() -> str:
    """Signed by HMAC with the public key of an ES256 key, which everybody knows."""
    import hashlib
    import hmac

    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"curve"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    seal = hmac.new(PUBLIC_PEM, head + b"." + body, hashlib.sha256).digest()
    return b".".join((head, body, base64.urlsafe_b64encode(seal).rstrip(b"="))).decode()


def with_other_signature(token: str) -> str:
    head, body, seal = token.split(".")
    return f"{head}.{body}.{'A' if seal[0] != 'A' else 'B'}{seal[1:]}"


RSA_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)

BAD = {
    "nothing": "",
    "no token at all": "hello",
    "three dots of nothing": "..",
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "no alg that we know": unsigned("HS999"),
    "another signature": with_other_signature(signed()),
    "a signature of nothing": signed().rsplit(".", 1)[0] + ".",
    "another secret": signed(b"x" * 32),
    "HMAC with the public key": confused(),
    "RS256 on an HS256 key": signed(RSA_PRIVATE, alg="RS256"),
    "HS384 on an HS256 key": signed(VIEWER_SECRET * 2, alg="HS384"),
    "ES256 on an HS256 key": signed(PRIVATE, alg="ES256"),
    "HS256 on an ES256 key": signed(VIEWER_SECRET, kid="curve"),
    "expired": signed(exp=NOW_S - 3),
    "no end": signed(exp=...),
    "an end that is none": signed(exp="soon"),
    "lives longer than a day": signed(exp=NOW_S + MAX_TTL_S + 60),
    "not valid yet": signed(nbf=NOW_S + 60),
    "another audience": signed(aud="elsewhere"),
    "no audience": signed(aud=...),
    "another shop than the key's": signed(shop="cups"),
    "another shop's key": signed(OTHER_SECRET, kid="others"),
    "a viewer key that signs a host": signed(role="host"),
    "a viewer key that signs a clerk": signed(role="clerk"),
    "a viewer key that signs a service": signed(role="service"),
    "a staff key that signs a viewer": signed(STAFF_SECRET, kid="staff"),
    "a role that is none": signed(role="owner"),
    "no sub": signed(sub=...),
    "an empty sub": signed(sub=""),
    "a long sub": signed(sub="a" * 65),
    "a sub with a control character": signed(sub="ann\n"),
    "a sub with a reversed direction": signed(sub="ann\u202e"),
    "rooms that are no list": signed(rooms="room_1"),
    "an unknown kid": signed(kid="nobody"),
    "no kid": jwt.encode(claims(), VIEWER_SECRET, algorithm="HS256"),
    "a kid that is long": signed(kid="k" * 65),
    "claims that are no object": jwt.api_jws.PyJWS().encode(b"[]", VIEWER_SECRET, headers={"kid": "viewers"}),
    "claims that are no JSON": jwt.api_jws.PyJWS().encode(b"\xff", VIEWER_SECRET, headers={"kid": "viewers"}),
    "a huge token": signed(name="x" * 5000),
    "characters of no token": "é.é.é",
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
async def test_a_bad_token_is_refused_and_never_remembered(authenticator: Authenticator, token: str) -> None:
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await authenticator.verify(token)
        assert authenticator.cached(token) is None


@given(st.text(max_size=200))
def test_no_text_at_all_breaks_the_reader(text: str) -> None:
    authenticator = Authenticator(keys=KeysOfTests(), clock=SetClock())
    with pytest.raises(Unauthorized):
        asyncio.run(authenticator.verify(text))


async def test_a_good_token_names_its_caller(authenticator: Authenticator) -> None:
    caller = await authenticator.verify(signed(rooms=["room_1"], name="Ann", ref="guide-7"))
    assert (caller.shop, caller.sub, caller.role, caller.expires_at_s) == ("tins", "ann", Role.VIEWER, NOW_S + 600)
    assert (caller.rooms, caller.name, caller.ref) == (frozenset({"room_1"}), "Ann", "guide-7")


@pytest.mark.parametrize("role", ["host", "clerk", "service"])
async def test_a_staff_key_signs_staff(authenticator: Authenticator, role: str) -> None:
    caller = await authenticator.verify(signed(STAFF_SECRET, kid="staff", role=role))
    assert caller.role == role
    assert caller.is_staff


async def test_a_public_key_verifies_es256(authenticator: Authenticator) -> None:
    assert (await authenticator.verify(signed(PRIVATE, kid="curve", alg="ES256"))).sub == "ann"


async def test_a_minted_token_is_good(authenticator: Authenticator) -> None:
    token = mint_token(kid="viewers", secret=VIEWER_SECRET, shop="tins", sub="ann", role=Role.VIEWER, now_s=NOW_S)
    assert (await authenticator.verify(token)).sub == "ann"


async def test_an_audience_may_be_one_of_several(authenticator: Authenticator) -> None:
    assert await authenticator.verify(signed(aud=["shop", "peakgate"]))


async def test_a_verified_token_is_remembered_until_it_ends(
    authenticator: Authenticator, keys: KeysOfTests, clock: SetClock
) -> None:
    token = signed(exp=NOW_S + 20)
    assert authenticator.cached(token) is None
    assert authenticator.verify_known(token) is None
    caller = await authenticator.verify(token)
    assert authenticator.cached(token) is caller
    assert authenticator.verify_known(signed(sub="bob")) is not None
    assert keys.asked == ["viewers"]
    clock.passed_s = 23
    assert authenticator.cached(token) is None
    with pytest.raises(Unauthorized):
        await authenticator.verify(token)


async def test_what_is_remembered_is_bounded(keys: KeysOfTests, clock: SetClock) -> None:
    authenticator = Authenticator(keys=keys, clock=clock, remember_max=10)
    tokens = [signed(sub=f"viewer-{number}") for number in range(11)]
    for token in tokens:
        await authenticator.verify(token)
    assert authenticator.cached(tokens[0]) is None
    assert all(authenticator.cached(token) for token in tokens[1:])


async def test_a_crowd_asks_for_a_key_once(authenticator: Authenticator, keys: KeysOfTests) -> None:
    callers = await asyncio.gather(*(authenticator.verify(signed(sub=f"viewer-{n}")) for n in range(100)))
    assert {caller.sub for caller in callers} == {f"viewer-{n}" for n in range(100)}
    assert keys.asked == ["viewers"]


async def test_a_flood_of_forged_keys_reaches_the_ledger_a_few_times_a_second(
    authenticator: Authenticator, keys: KeysOfTests, clock: SetClock
) -> None:
    forged = [signed(kid=f"forged-{number}") for number in range(500)]
    outcomes = await asyncio.gather(*(authenticator.verify(token) for token in forged), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unauthorized, RateLimited}
    assert len(keys.asked) <= 20
    # Who has a key that is known is not kept waiting by the flood, and a new one gets in a moment later.
    clock.passed_s = 1
    assert await authenticator.verify(signed())


async def test_a_kid_that_nobody_has_is_not_asked_for_again_at_once(
    authenticator: Authenticator, keys: KeysOfTests, clock: SetClock
) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            await authenticator.verify(signed(kid="late"))
    assert keys.asked == ["late"]
    keys.keys["late"] = SigningKey("late", "tins", "viewer", "HS256", VIEWER_SECRET)
    clock.passed_s = 6
    assert await authenticator.verify(signed(kid="late"))


async def test_a_revoked_key_ends_what_it_verified(authenticator: Authenticator, keys: KeysOfTests) -> None:
    token = signed()
    await authenticator.verify(token)
    del keys.keys["viewers"]
    assert authenticator.cached(token) is not None
    authenticator.forget("tins")
    assert authenticator.cached(token) is None
    with pytest.raises(Unauthorized):
        await authenticator.verify(token)


async def test_a_revoked_key_is_noticed_also_when_nobody_says_so(
    authenticator: Authenticator, keys: KeysOfTests, clock: SetClock
) -> None:
    token = signed()
    await authenticator.verify(token)
    del keys.keys["viewers"]
    clock.passed_s = 31
    with pytest.raises(Unauthorized):
        await authenticator.verify(token)


async def test_a_key_retires_at_its_time(authenticator: Authenticator, keys: KeysOfTests, clock: SetClock) -> None:
    keys.keys["viewers"] = SigningKey(
        "viewers", "tins", "viewer", "HS256", VIEWER_SECRET, retires_at_ms=(NOW_S + 10) * 1000
    )
    token = signed()
    assert await authenticator.verify(token)
    clock.passed_s = 11
    assert authenticator.cached(token) is None
    with pytest.raises(Unauthorized):
        await authenticator.verify(token)


async def test_known_keys_go_on_while_the_ledger_is_away_and_unknown_ones_are_told_to_wait(
    authenticator: Authenticator, keys: KeysOfTests, clock: SetClock
) -> None:
    token = signed()
    await authenticator.verify(token)
    keys.away = True
    clock.passed_s = 60
    assert await authenticator.verify(token)
    assert await authenticator.verify(signed(sub="bob"))
    assert keys.asked == ["viewers", "viewers"]
    with pytest.raises(Unavailable):
        await authenticator.verify(signed(STAFF_SECRET, kid="staff", role="host"))


async def test_nobody_stands_long_before_a_ledger_that_hangs(
    authenticator: Authenticator, keys: KeysOfTests, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_ASK_WITHIN_S", 0.05)
    token = signed()
    await authenticator.verify(token)
    keys.answers.clear()
    clock.passed_s = 60
    async with asyncio.timeout(2):
        # A key that is known goes on, one that is not is told to come again.
        assert await authenticator.verify(token)
        with pytest.raises(Unavailable):
            await authenticator.verify(signed(STAFF_SECRET, kid="staff", role="host"))
    # While that question is open nobody waits for it a second time, and no other one is asked.
    clock.passed_s = 120
    monkeypatch.setattr(auth, "_ASK_WITHIN_S", 60)
    async with asyncio.timeout(2):
        assert await authenticator.verify(token)
    assert keys.asked == ["viewers", "viewers", "staff"]


async def test_an_answer_that_comes_late_still_counts(
    authenticator: Authenticator, keys: KeysOfTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_ASK_WITHIN_S", 0.05)
    keys.answers.clear()
    with pytest.raises(Unavailable):
        await authenticator.verify(signed())
    keys.answers.set()
    await asyncio.sleep(0)
    assert await authenticator.verify(signed())
    assert keys.asked == ["viewers"]


async def test_who_leaves_while_a_key_is_asked_for_takes_it_from_nobody(
    authenticator: Authenticator, keys: KeysOfTests
) -> None:
    keys.answers.clear()
    first, second = (asyncio.create_task(authenticator.verify(signed(sub=sub))) for sub in ("ann", "bob"))
    await asyncio.sleep(0.01)
    first.cancel()
    keys.answers.set()
    assert (await second).sub == "bob"
    assert keys.asked == ["viewers"]


async def test_what_was_read_before_a_change_was_told_is_read_again(
    authenticator: Authenticator, keys: KeysOfTests
) -> None:
    token = signed()
    keys.answers.clear()
    waiting = asyncio.create_task(authenticator.verify(token))
    await asyncio.sleep(0.01)
    # The key goes while the answer that still has it is on its way.
    del keys.keys["viewers"]
    authenticator.forget("tins")
    keys.answers.set()
    await waiting
    with pytest.raises(Unauthorized):
        await authenticator.verify(token)
