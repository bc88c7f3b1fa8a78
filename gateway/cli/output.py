"""How the verbs speak: data on stdout, errors on stderr, exit codes with a stated meaning."""

import json
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NoReturn

import typer

from gateway.errors import (
    DataFolderInUse,
    EmbeddedServerError,
    GatewayError,
    HotUnavailable,
    Invalid,
    LedgerUnavailable,
    ServersNotRunning,
    SettingsError,
    Unavailable,
)


class ExitCode(IntEnum):
    OK = 0
    CHECK_FAILED = 1
    BAD_USAGE = 2
    UNREACHABLE = 3
    FOLDER_IN_USE = 4


_MEANING = {
    ExitCode.OK: "it is done",
    ExitCode.CHECK_FAILED: "it was refused, or a check failed",
    ExitCode.BAD_USAGE: "wrong usage or a wrong setting",
    ExitCode.UNREACHABLE: "the servers cannot be reached or started",
    ExitCode.FOLDER_IN_USE: "another gateway runs on the data folder",
}


def exit_codes(**meanings: str) -> str:
    """The end of a verb's help. A keyword such as `check_failed` says what the code means for this verb."""
    told = {code: meanings.get(code.name.lower(), meaning) for code, meaning in _MEANING.items()}
    # \b keeps click from flowing the lines together.
    return "\b\nExit codes:\n" + "\n".join(f"  {code.value}  {meaning}" for code, meaning in told.items())


def exit_code_of(error: GatewayError) -> ExitCode:
    match error:
        case DataFolderInUse():
            return ExitCode.FOLDER_IN_USE
        case SettingsError() | Invalid():
            return ExitCode.BAD_USAGE
        case LedgerUnavailable() | HotUnavailable() | EmbeddedServerError() | ServersNotRunning() | Unavailable():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.CHECK_FAILED


def fail(error: GatewayError) -> NoReturn:
    typer.echo(f"peakgate: {error.message}", err=True)
    raise SystemExit(int(exit_code_of(error)))


def print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def print_json_line(data: Any) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Plain columns: the same on a terminal and in a pipe, with no colour in either. The last column may be long. What
    others chose (a name, what an endpoint answered) cannot speak to the terminal."""
    rows = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        sys.stdout.write("  ".join([*cells, row[-1]]).rstrip() + "\n")


def _plain(cell: str) -> str:
    return cell if cell.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in cell)
