"""The entry of `peakgate` and of `python -m gateway`."""

import importlib
import secrets
import sys
from collections.abc import Callable
from typing import Final

import typer

from gateway.cli.output import exit_codes, fail
from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.logs import set_up_logs

# The files of `gateway.cli` in the order of the help, each with its verbs. What a file imports is the most of what a
# short verb costs, and much of the start of a process: only the file that is asked for is read, unless help is.
_GROUPS: Final = {
    "up": ("up",),
    "roles": ("live", "api", "writer", "keeper"),
    "shops": ("token", "shop"),
    "providers": ("provider",),
    "webhooks": ("webhook",),
    "ledger": ("migrate", "audit"),
    "rebuild": ("rebuild",),
    "report": ("report",),
    "backup": ("backup", "restore"),
    "config": ("config",),
    "contract": ("openapi", "asyncapi"),
    "preflight": ("preflight",),
    "spawner": ("spawner",),
}
# What stands on the viewer's client, with what its code means by "a check failed".
_ON_THE_CLIENT: Final = {
    "demo": "the audit does not hold, units are left over, or the room's ticks had a hole",
    "replay": "no comment was posted, or the room's ticks had a hole",
}


def build_app(verb: str = "") -> typer.Typer:
    """All verbs, or, when it is told which one is called, that one and perhaps others."""
    app = typer.Typer(
        name="peakgate",
        help="The gateway a shop puts in front of its live-stream sales.",
        epilog=exit_codes(),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Plain help: the same on a terminal and in a pipe.
        rich_markup_mode=None,
    )
    wanted = [group for group, verbs in _GROUPS.items() if verb in verbs]
    for group in wanted or _GROUPS:
        importlib.import_module(f"gateway.cli.{group}").register(app)
    for name, failed in () if wanted else _ON_THE_CLIENT.items():
        found = _find(name)
        if found is not None:
            app.command(name, epilog=exit_codes(check_failed=failed))(found)
    # Of one verb alone the app would make itself.
    app.callback()(lambda: None)
    return app


def _find(verb: str) -> Callable[..., None] | None:
    """A production image may leave the demo, the viewer client or what they stand on out."""
    try:
        return getattr(importlib.import_module(f"gateway.cli.{verb}"), verb, None)
    except ModuleNotFoundError:
        return None


def main() -> None:
    # Data goes to stdout and nothing else does; a role sets its logs up again, by its settings.
    set_up_logs(
        process="peakgate", level="warning", log_format="text", key=secrets.token_bytes(32), clock=SystemClock()
    )
    try:
        build_app(*sys.argv[1:2])()
    except GatewayError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
