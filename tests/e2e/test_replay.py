"""Verbs that people use on a whole gateway: a recorded chat, tokens for trying, a shop's pages."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.chat_file import read_chat, shipped_chat
from gateway.client import Host, Viewer, ViewerAway
from gateway.wire.close_codes import CloseCode
from tests.e2e.conftest import make_show
from tests.support.gateway import Gateway


def test_every_comment_of_a_replay_is_shown_or_counted_as_skipped_and_no_tick_is_missing(gateway: Gateway) -> None:
    lines = read_chat(shipped_chat())
    ended = gateway.command("replay", "--speed", "80", "--viewers", "5", "--json")
    told = json.loads(ended.stdout)
    assert (told["comments"], told["holes"]) == (len(lines), 0)
    assert told["posted"] + sum(told["other_outcomes"].values()) == len(lines)
    # Eighty times as fast nobody is told to wait for long: what is refused is refused for that alone.
    assert told["other_outcomes"].keys() <= {"too_fast"}
    assert told["shown"] > 0 and told["shown"] + told["skipped"] == told["posted"]
    assert told["not_shown"] == told["skipped"]
    assert told["viewers"] == len({line.viewer for line in lines}) + 5 + 1
    assert told["seen_ms"]["p50"] > 0


def test_a_bad_file_is_told_by_its_line(gateway: Gateway, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("offset_s,viewer,text\n0,ann,hello\nlater,bo,hello\n")
    ended = gateway.command("replay", str(wrong), check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{wrong}, line 3: offset_s is 'later'" in ended.stderr


def test_a_room_nobody_knows_is_told_with_the_shop_that_was_asked(gateway: Gateway) -> None:
    gateway.token("host", "host", shop="asked")
    for shop in ("asked", "never-made"):
        ended = gateway.command("replay", "--shop", shop, "--room", "room_0000000000000000", check=False)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr == (
            f"peakgate: there is no room room_0000000000000000 in the shop {shop}; --shop names the shop it is in\n"
        )
    assert "never-made" not in gateway.command("shop", "list").stdout


def test_a_shop_that_is_not_there_is_not_made_in_passing(gateway: Gateway) -> None:
    ended = gateway.command("replay", "--shop", "mistyped", check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "there is no shop mistyped" in ended.stderr and "peakgate shop create mistyped" in ended.stderr
    assert "mistyped" not in gateway.command("shop", "list").stdout


async def test_a_viewer_with_a_name_is_called_so_and_enters_the_rooms_of_the_token_alone(
    gateway: Gateway, host: Host
) -> None:
    show, other = await make_show(gateway, host), await make_show(gateway, host)
    argv = ("token", "--shop", "shop", "--sub", "ann", "--role", "viewer", "--name", "Ann", "--room", show.room)
    token = gateway.command(*argv).stdout.strip()
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with Viewer(show.live_url, token, on_event=heard.put_nowait) as ann:
        await ann.comment("hello")
        event = await asyncio.wait_for(heard.get(), 5)
        while event["k"] != "comment":
            event = await asyncio.wait_for(heard.get(), 5)
    assert (event["name"], event["text"]) == ("Ann", "hello")
    with pytest.raises(ViewerAway) as refused:
        async with Viewer(other.live_url, token):
            pass
    assert refused.value.status == 403 or refused.value.close_code == CloseCode.NOT_ALLOWED


def test_the_origins_of_a_shop_are_read_set_and_emptied_by_hand(gateway: Gateway) -> None:
    gateway.command("shop", "create", "pages", "--origin", "https://old.example")
    argv = ("shop", "origins", "pages")
    assert gateway.command(*argv).stdout.split() == ["https://old.example"]
    told = gateway.command(*argv, "--set", "https://a.example", "--set", "http://b.example:81", "--json").stdout
    assert json.loads(told) == {"shop": "pages", "origins": ["https://a.example", "http://b.example:81"]}
    ended = gateway.command(*argv, "--set", "https://a.example/page", check=False)
    assert ended.returncode == 2
    assert gateway.command(*argv).stdout.split() == ["https://a.example", "http://b.example:81"]
    assert gateway.command(*argv, "--none").stdout == gateway.command(*argv).stdout == ""
