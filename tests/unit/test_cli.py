import itertools
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.output import ExitCode, exit_code_of, print_table
from gateway.errors import (
    Conflict,
    DataFolderInUse,
    EmbeddedServerError,
    GatewayError,
    LedgerUnavailable,
    ServersNotRunning,
    SettingsError,
)

VERBS = [
    ["up"],
    ["live"],
    ["api"],
    ["writer"],
    ["keeper"],
    ["token"],
    ["shop", "create"],
    ["shop", "list"],
    ["shop", "origins"],
    ["shop", "rotate-key"],
    ["provider", "set"],
    ["provider", "rotate"],
    ["provider", "list"],
    ["migrate"],
    ["audit"],
    ["config"],
    ["demo"],
    ["replay"],
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def peakgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "gateway", *arguments], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_and_its_exit_codes_without_colour(
    verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from gateway.__main__ import build_app

    with pytest.raises(SystemExit) as ended:
        build_app()([*verb, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "Exit codes:" in said and "\x1b" not in said
    for code in ExitCode:
        assert f"\n    {code.value}  " in said


def test_a_verb_for_which_the_others_are_not_read_is_the_same_verb(capsys: pytest.CaptureFixture[str]) -> None:
    from gateway.__main__ import _GROUPS, build_app

    whole = build_app()
    for verb in itertools.chain(*_GROUPS.values()):
        for app in (whole, build_app(verb)):
            with pytest.raises(SystemExit):
                app([verb, "--help"])
        said = capsys.readouterr().out
        assert said[: len(said) // 2] == said[len(said) // 2 :] and f" {verb} " in said


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(), 2),
        (LedgerUnavailable(), 3),
        (EmbeddedServerError(), 3),
        (ServersNotRunning(), 3),
        (DataFolderInUse(), 4),
        (Conflict(), 1),
        (GatewayError(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else str(value),
)
def test_each_cause_has_its_exit_code(error: GatewayError, code: int) -> None:
    assert exit_code_of(error) == code


def test_config_prints_every_setting_as_json() -> None:
    said = peakgate("config", "--json")
    assert said.returncode == 0 and said.stderr == ""
    lines = {line["name"]: line for line in json.loads(said.stdout)}
    assert lines["PEAKGATE_PORT"] == {
        "name": "PEAKGATE_PORT",
        "value": "8080",
        "source": "default",
        "meaning": "port of the HTTP api",
    }
    assert {"VALKEY_URL", "ROOMS_VALKEY_URL", "DATABASE_URL"} <= lines.keys()


def test_a_wrong_setting_stops_the_start_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAKGATE_PORT", "many")
    said = peakgate("up")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "peakgate: PEAKGATE_PORT is 'many' (env); allowed is: a whole number\n"
    assert not Path(".peakgate").exists()


def test_without_running_servers_a_verb_says_how_to_get_them() -> None:
    said = peakgate("shop", "list")
    assert (said.returncode, said.stdout) == (3, "")
    assert "peakgate up" in said.stderr and "Traceback" not in said.stderr


def test_a_server_that_is_away_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u@/d?host={tmp_path}")
    monkeypatch.setenv("VALKEY_URL", f"unix://{tmp_path}/none")
    monkeypatch.setenv("ROOMS_VALKEY_URL", f"unix://{tmp_path}/none")
    said = peakgate("migrate", "--status")
    assert said.returncode == 3
    assert "PostgreSQL cannot be reached" in said.stderr and "Traceback" not in said.stderr


def test_wrong_usage_is_two() -> None:
    said = peakgate("token", "--shop", "tins", "--sub", "a", "--role", "emperor")
    assert said.returncode == 2 and "emperor" in said.stderr


def test_the_demo_says_all_that_its_failure_may_mean(capsys: pytest.CaptureFixture[str]) -> None:
    from gateway.__main__ import build_app

    with pytest.raises(SystemExit):
        build_app()(["demo", "--help"])
    failed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("    1  "))
    assert all(word in failed for word in ("audit", "left over", "hole"))


@pytest.mark.parametrize(
    "claims",
    [
        ["--name", "n" * 101],
        ["--name", "two\nlines"],
        [part for number in range(101) for part in ("--room", str(number))],
    ],
    ids=["a long name", "a name of two lines", "too many rooms"],
)
def test_a_token_that_no_gateway_would_take_is_not_signed(claims: list[str]) -> None:
    said = peakgate("token", "--shop", "tins", "--sub", "a", "--role", "viewer", *claims)
    assert (said.returncode, said.stdout) == (2, "") and said.stderr.startswith("peakgate: a ")


def test_a_shops_origins_are_set_or_emptied_and_not_both() -> None:
    said = peakgate("shop", "origins", "tins", "--set", "https://tins.example", "--none")
    assert (said.returncode, said.stdout) == (2, "") and "only one of them" in said.stderr


def test_a_port_that_is_taken_is_said_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = peakgate("webhook", "listen", "--port", str(port))
    assert ended.returncode == ExitCode.BAD_USAGE
    [said] = ended.stderr.splitlines()
    assert said.startswith(f"peakgate: cannot listen on 127.0.0.1:{port}: ") and "in use" in said


def test_what_others_chose_cannot_speak_to_the_terminal_that_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("shop", "answer"), [("茶", "\x1b[2J\x9b31m no\n")])
    shown = capsys.readouterr().out
    assert "茶" in shown and "no" in shown and len(shown.splitlines()) == 2
    assert not {"\x1b", "\x9b"} & set(shown)
