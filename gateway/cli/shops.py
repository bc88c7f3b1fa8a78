"""`peakgate token` and `peakgate shop`: shops, their keys, and tokens for trying things out."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.admission.auth import MAX_NAME_CHARS, MAX_ROOMS
from gateway.admission.tokens import MAX_TTL_S, mint_token
from gateway.cli.output import exit_codes, print_json, print_table
from gateway.cli.servers import DataOption, JsonOption, database_url_of, reach_servers
from gateway.domain.caller import Role
from gateway.domain.limits import MAX_COMMENTS_PER_S, MAX_ROOMS_A_DAY, MAX_VIEWERS, ShopLimits
from gateway.errors import Conflict, Invalid
from gateway.ledger.shops import DEFAULT_OVERLAP_S, Alg, Shop, ShopKey, Shops, Signs, check_shop_name
from gateway.settings import Settings

MAX_TOKENS: Final = 1_000_000

ShopOption = Annotated[str, typer.Option("--shop", help="Name of the shop: 1 to 64 of a-z, 0-9 and -.")]
ShopArgument = Annotated[str, typer.Argument(metavar="SHOP", help="Name of the shop: 1 to 64 of a-z, 0-9 and -.")]
SecretsOption = Annotated[bool, typer.Option("--secrets", help="Also print the secrets.")]


def register(app: typer.Typer) -> None:
    app.command("token", epilog=exit_codes(check_failed="there is no such shop, or we cannot sign for it"))(token)
    shop = typer.Typer(
        no_args_is_help=True,
        help="Create and list shops, say which pages are theirs and what they may use, rotate their keys.",
        rich_markup_mode=None,
    )
    shop.command("create", epilog=exit_codes(check_failed="there is such a shop already"))(create)
    shop.command("list", epilog=exit_codes())(list_shops)
    shop.command("origins", epilog=exit_codes(check_failed="there is no such shop"))(origins)
    shop.command("rotate-key", epilog=exit_codes(check_failed="there is no such shop"))(rotate_key)
    shop.command("limits", epilog=exit_codes(check_failed="there is no such shop"))(limits)
    app.add_typer(shop, name="shop")


def token(
    shop: ShopOption,
    sub: Annotated[str, typer.Option(help="Who the token is for: the person's opaque id in the shop.")],
    role: Annotated[Role, typer.Option(help="What the person may do.")],
    ttl: Annotated[int, typer.Option(min=1, max=MAX_TTL_S, help="Seconds the token lives.")] = 3600,
    count: Annotated[
        int | None, typer.Option(min=1, max=MAX_TOKENS, help="That many tokens, for SUB-1, SUB-2, ...")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the person is called beside their comments.")] = None,
    room: Annotated[
        list[str] | None, typer.Option(help="A room the token is good for, and no other; may be repeated.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a token, or many, one a line. On embedded servers an unknown shop is created."""
    check_shop_name(shop)
    _check_claims(name, room or [])
    settings = reach_servers(data)
    key = asyncio.run(signing_key(settings, shop, Signs.VIEWER if role is Role.VIEWER else Signs.STAFF))
    subs = [sub] if count is None else [f"{sub}-{number}" for number in range(1, count + 1)]
    tokens = (
        mint_token(
            kid=key.kid, secret=key.secret, shop=shop, sub=each, role=role, ttl_s=ttl, name=name, rooms=room or None
        )
        for each in subs
    )
    if as_json:
        print_json([{"sub": each, "token": minted} for each, minted in zip(subs, tokens, strict=True)])
        return
    for minted in tokens:
        typer.echo(minted)


def create(
    shop: ShopArgument,
    origin: Annotated[list[str] | None, typer.Option(help="An Origin its pages come from; may be repeated.")] = None,
    viewer_public_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="ES256 public key (PEM) that signs viewers.")
    ] = None,
    staff_public_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="ES256 public key (PEM) that signs staff.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a shop with a key for viewers and one for staff, and print them once, with their secrets."""
    settings = reach_servers(data)
    files = {Signs.VIEWER: viewer_public_key, Signs.STAFF: staff_public_key}
    public_keys = {signs: file.read_bytes() for signs, file in files.items() if file is not None}

    async def work() -> Shop:
        async with Shops.connect(database_url_of(settings)) as shops:
            return await shops.create(
                shop, origins=_origins(origin or []), shards=settings.shards, public_keys=public_keys
            )

    _print_shops([asyncio.run(work())], as_json=as_json, with_secrets=True, single=True)


def list_shops(data: DataOption = None, with_secrets: SecretsOption = False, as_json: JsonOption = False) -> None:
    """List the shops and the keys that are valid now."""
    settings = reach_servers(data)

    async def work() -> list[Shop]:
        async with Shops.connect(database_url_of(settings)) as shops:
            return await shops.read_all()

    _print_shops(asyncio.run(work()), as_json=as_json, with_secrets=with_secrets, single=False)


def origins(
    shop: ShopArgument,
    new: Annotated[
        list[str] | None, typer.Option("--set", metavar="ORIGIN", help="The new list, one by one; may be repeated.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Empty the list: no page of a browser may call.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the Origins a shop's pages may come from, one a line, or set the whole list anew.

    Running processes are told at once, and read it anew within 15 seconds where they were not; sockets that are open
    stay. Callers that are no browser send no Origin and need none.
    """
    if new and none:
        raise Invalid("--set gives a list and --none an empty one: only one of them", param="set")
    settings = reach_servers(data)

    async def work() -> Shop:
        async with Shops.connect(database_url_of(settings)) as shops:
            if not (new or none):
                return await shops.get(shop)
            changed = await shops.set_origins(shop, _origins(new or []))
        await _tell(settings, shop)
        return changed

    found = asyncio.run(work())
    if as_json:
        print_json({"shop": found.shop, "origins": list(found.origins)})
        return
    for each in found.origins:
        typer.echo(each)


def rotate_key(
    shop: ShopArgument,
    signs: Annotated[Signs, typer.Option(help="Which of the two keys.")],
    overlap: Annotated[
        float, typer.Option("--keep-for", "--overlap", help="Seconds the old key stays valid.")
    ] = DEFAULT_OVERLAP_S,
    public_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="ES256 public key (PEM); default: a new secret.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a shop a new key and print it once, with its secret. It is good at once; the old one for a while longer.

    Tokens of a key that is not valid any more are refused at once (within 30 seconds where a running process could not
    be told); a socket that was let in with one stays until the token ends.
    """
    settings = reach_servers(data)

    async def work() -> ShopKey:
        async with Shops.connect(database_url_of(settings)) as shops:
            pem = public_key.read_bytes() if public_key is not None else None
            rotated = await shops.rotate_key(shop, signs, overlap_s=overlap, public_key=pem)
        await _tell(settings, shop)
        return rotated

    key = asyncio.run(work())
    if as_json:
        print_json(_key_facts(key, with_secrets=True))
    else:
        print_table(_KEY_TITLES, [[shop, *_key_row(key, with_secrets=True)]])


def limits(
    shop: ShopArgument,
    rooms_a_day: Annotated[int | None, typer.Option(min=0, max=MAX_ROOMS_A_DAY, help="New rooms a day of UTC.")] = None,
    viewers: Annotated[
        str | None, typer.Option(metavar="N|none", help="Open sockets of viewers in all its rooms, roughly.")
    ] = None,
    comments_per_s: Annotated[
        str | None, typer.Option(metavar="N|none", help="Comments a second of its viewers in all its rooms.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a shop may use, or change what is named; the rest stays.

    Beyond a limit: a new room is refused until the next day of UTC, a viewer is asked to come back in 5 to 15 seconds,
    a comment is too_fast. Viewers are counted late by a second, so a crowd that comes at once may pass the limit by as
    many as come in it; comments by each live process, which allows its share. Nobody who is in is shown out. Processes
    that run are told at once, and read it anew within 5 seconds where they were not.
    """
    settings = reach_servers(data)
    changes: dict[str, int | None] = {}
    if rooms_a_day is not None:
        changes["rooms_a_day"] = rooms_a_day
    if viewers is not None:
        changes["viewers"] = _limit(viewers, "viewers", least=0, most=MAX_VIEWERS)
    if comments_per_s is not None:
        changes["comments_per_s"] = _limit(comments_per_s, "comments-per-s", least=1, most=MAX_COMMENTS_PER_S)

    async def work() -> ShopLimits:
        async with Shops.connect(database_url_of(settings)) as shops:
            before = await shops.limits(shop)
            if not changes:
                return before
            after = await shops.set_limits(shop, msgspec.structs.replace(before, **changes))
        await _tell(settings, shop)
        return after

    found = asyncio.run(work())
    if as_json:
        print_json({"shop": shop, **msgspec.structs.asdict(found)})
        return
    shown = {name: "none" if limit is None else str(limit) for name, limit in msgspec.structs.asdict(found).items()}
    print_table(("limit", "value"), [[name, value] for name, value in shown.items()])


@dataclass(frozen=True, slots=True)
class SigningKey:
    kid: str
    secret: bytes


async def signing_key(settings: Settings, shop: str, signs: Signs, *, may_create: bool = True) -> SigningKey:
    """On embedded servers an unknown shop is made, if it may be."""
    async with Shops.connect(database_url_of(settings)) as shops:
        if settings.embedded and may_create:
            found = await shops.get_or_create(shop, shards=settings.shards)
        else:
            found = await shops.get(shop)
    key = found.key_for(signs)
    if key.alg is not Alg.HS256:
        raise Conflict(f"the {signs} key of {shop} is {key.alg}: only the shop has its private half")
    return SigningKey(kid=key.kid, secret=key.secret)


async def _tell(settings: Settings, shop: str) -> None:
    """Running processes read anew what they know of the shop. Where they cannot be told they do so by themselves."""
    assert settings.rooms_valkey_url
    from gateway.hot.bus import Bus
    from gateway.hot.connect import connect
    from gateway.wire import bus

    client = connect(settings.rooms_valkey_url, max_connections=1, reply_timeout_s=1.0)
    try:
        await Bus(url=settings.rooms_valkey_url, client=client).publish(bus.encode(bus.ShopChanged(shop)))
    finally:
        await client.aclose()


def _limit(given: str, name: str, *, least: int, most: int) -> int | None:
    if given == "none":
        return None
    if not (given.isascii() and given.isdigit() and least <= int(given[:12]) <= most):
        raise Invalid(f"--{name} is {least} to {most}, or none, not {given!r}", param=name)
    return int(given)


def _check_claims(name: str | None, rooms: list[str]) -> None:
    """What a gateway would refuse of a token is refused before it is signed."""
    if name is not None and not (len(name) <= MAX_NAME_CHARS and name.isprintable()):
        raise Invalid(f"a name has at most {MAX_NAME_CHARS} printable characters", param="name")
    if len(rooms) > MAX_ROOMS:
        raise Invalid(f"a token names at most {MAX_ROOMS} rooms", param="room")


def _origins(given: list[str]) -> list[str]:
    for origin in given:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise Invalid(f"an Origin is scheme://host[:port] with no path, not {origin!r}", param="origin")
    return given


_KEY_TITLES = ("shop", "signs", "kid", "alg", "retires at", "secret")


def _print_shops(shops: list[Shop], *, as_json: bool, with_secrets: bool, single: bool) -> None:
    if as_json:
        facts = [_shop_facts(shop, with_secrets=with_secrets) for shop in shops]
        print_json(facts[0] if single else facts)
        return
    rows = [[shop.shop, *_key_row(key, with_secrets=with_secrets)] for shop in shops for key in shop.keys]
    print_table(_KEY_TITLES, rows)


def _key_row(key: ShopKey, *, with_secrets: bool) -> list[str]:
    retires = key.retires_at.isoformat(timespec="seconds") if key.retires_at else "-"
    return [key.signs, key.kid, key.alg, retires, _secret(key).replace("\n", "\\n") if with_secrets else "***"]


def _shop_facts(shop: Shop, *, with_secrets: bool) -> dict[str, Any]:
    return {
        "shop": shop.shop,
        "shard": shop.shard,
        "origins": list(shop.origins),
        "created_at": shop.created_at.isoformat(),
        "keys": [_key_facts(key, with_secrets=with_secrets) for key in shop.keys],
    }


def _key_facts(key: ShopKey, *, with_secrets: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kid": key.kid,
        "signs": key.signs.value,
        "alg": key.alg.value,
        "created_at": key.created_at.isoformat(),
        "retires_at": key.retires_at.isoformat() if key.retires_at else None,
    }
    if with_secrets:
        facts["public_key" if key.alg is Alg.ES256 else "secret_hex"] = _secret(key)
    return facts


def _secret(key: ShopKey) -> str:
    return key.secret.decode() if key.alg is Alg.ES256 else key.secret.hex()
