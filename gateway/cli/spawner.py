"""`peakgate spawner`: what `peakgate up` has its processes forked by. Not for people."""

import importlib
import socket
import sys
from typing import Annotated, Final

import typer
from setproctitle import setproctitle

from gateway.spawner import serve

_READ_AHEAD: Final = ("cli.roles", "app.live", "app.api", "app.writer", "app.keeper")


def register(app: typer.Typer) -> None:
    app.command("spawner", hidden=True)(spawner)


def spawner(descriptor: Annotated[int, typer.Argument(help="The socket that orders come by.")]) -> None:
    """Read the code of every process, then fork one for each order."""
    setproctitle("peakgate spawner")
    for module in _READ_AHEAD:
        importlib.import_module(f"gateway.{module}")
    # The end of this call is the beginning of a child.
    sys.argv[1:] = serve(socket.socket(fileno=descriptor))
    from gateway.__main__ import main

    main()
