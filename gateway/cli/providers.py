"""`peakgate provider`: with what the payment providers of a shop sign their notices."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from gateway.cli.output import exit_codes, print_json, print_table
from gateway.cli.servers import DataOption, JsonOption, database_url_of, reach_servers
from gateway.domain.payment import PROVIDER_PATTERN, SANDBOX
from gateway.errors import Invalid
from gateway.ledger.pool import Ledger
from gateway.ledger.providers import LedgerProviders, ProviderRow
from gateway.payments.notices import checked_secret, new_secret
from gateway.settings import Settings

ShopArgument = Annotated[str, typer.Argument(metavar="SHOP", help="Name of the shop.")]
ProviderArgument = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="Name of the provider in its webhook's address: a-z, 0-9, _ and -.")
]
SecretOption = Annotated[
    str | None,
    typer.Option(
        metavar="-",
        help="- reads the provider's own secret (whsec_...) from stdin; without it one is made and printed.",
    ),
]


def register(app: typer.Typer) -> None:
    provider = typer.Typer(
        no_args_is_help=True, help="Set, rotate and list the secrets of payment providers.", rich_markup_mode=None
    )
    no_shop = exit_codes(check_failed="there is no such shop or provider")
    provider.command("set", epilog=no_shop)(set_secret)
    provider.command("rotate", epilog=no_shop)(rotate)
    provider.command("list", epilog=exit_codes())(list_providers)
    app.add_typer(provider, name="provider")


def set_secret(
    shop: ShopArgument,
    provider: ProviderArgument,
    secret: SecretOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a shop a provider, or a provider another secret: what the one before signs is refused from now on.

    How it signs and writes its notices, and which answers it repeats: gateway/payments/README.md.
    """
    settings = reach_servers(data)
    _check_provider(provider)
    given, made = _secret(secret)

    async def work() -> None:
        async with _providers(settings) as providers:
            await providers.set(shop, provider, given)

    asyncio.run(work())
    _say(shop, provider, given if made else None, as_json=as_json)


def rotate(
    shop: ShopArgument,
    provider: ProviderArgument,
    secret: SecretOption = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="End the rotation: the old secret is not valid any more.")
    ] = (False),
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a provider a new secret. The old one stays valid until `rotate --finish`, or the next rotation."""
    settings = reach_servers(data)
    _check_provider(provider)
    if finish and secret is not None:
        raise Invalid("the end of a rotation takes no secret", param="secret")
    given, made = ("", False) if finish else _secret(secret)

    async def work() -> None:
        async with _providers(settings) as providers:
            if finish:
                await providers.finish(shop, provider)
            else:
                await providers.rotate(shop, provider, given)

    asyncio.run(work())
    _say(shop, provider, given if made else None, as_json=as_json)


def list_providers(
    shop: Annotated[str | None, typer.Argument(metavar="[SHOP]", help="Only this shop's.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the providers of all shops, or of one. Secrets are never shown again."""
    settings = reach_servers(data)

    async def work() -> list[ProviderRow]:
        async with _providers(settings) as providers:
            return await providers.all(shop)

    rows = asyncio.run(work())
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    print_table(
        ("shop", "provider", "secret since", "webhook", "rotating"),
        [
            (
                row.shop,
                row.provider,
                row.created_at.isoformat(timespec="seconds"),
                _webhook(row.shop, row.provider),
                "both secrets are valid" if row.rotating else "-",
            )
            for row in rows
        ],
    )


@asynccontextmanager
async def _providers(settings: Settings) -> AsyncIterator[LedgerProviders]:
    ledger = await Ledger.connect(database_url_of(settings), size=1)
    try:
        yield LedgerProviders(ledger)
    finally:
        await ledger.close()


def _check_provider(provider: str) -> None:
    if re.fullmatch(PROVIDER_PATTERN, provider) is None:
        raise Invalid("a provider's name is 1 to 32 of a-z, 0-9, _ and -", param="provider")
    if provider == SANDBOX:
        raise Invalid(f"the secrets of {SANDBOX} are made when they are needed", param="provider")


def _secret(option: str | None) -> tuple[str, bool]:
    """The secret, and whether it was made here. Never taken from an argument, which others on the machine can read."""
    if option is None:
        return new_secret(), True
    if option != "-":
        raise Invalid("a secret is read from stdin: --secret -", param="secret")
    return checked_secret(sys.stdin.readline().strip()), False


def _say(shop: str, provider: str, secret: str | None, *, as_json: bool) -> None:
    webhook = _webhook(shop, provider)
    if as_json:
        facts = {"shop": shop, "provider": provider, "webhook": webhook}
        print_json(facts if secret is None else {**facts, "secret": secret})
    else:
        print_table(("shop", "provider", "webhook", "secret"), [(shop, provider, webhook, secret or "-")])


def _webhook(shop: str, provider: str) -> str:
    return f"/v1/payments/{shop}/{provider}/webhook"
