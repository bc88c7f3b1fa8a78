"""`peakgate openapi` and `peakgate asyncapi`: the whole contract, without a gateway."""

from typing import Annotated

import typer

from gateway.cli.output import exit_codes, print_json


def register(app: typer.Typer) -> None:
    app.command("openapi", epilog=exit_codes())(openapi)
    app.command("asyncapi", epilog=exit_codes())(asyncapi)


def openapi() -> None:
    """Print the HTTP contract as OpenAPI 3.1: every address, whichever process serves it."""
    from gateway.api.contract import all_routes
    from gateway.api.openapi import openapi as document

    print_json(document(all_routes()))


def asyncapi(
    live_url: Annotated[str, typer.Option(help="Where the sockets are.")] = "wss://live.example.com",
) -> None:
    """Print the live socket as AsyncAPI 3.0."""
    from gateway.api.asyncapi import asyncapi as document

    print_json(document(live_url))
