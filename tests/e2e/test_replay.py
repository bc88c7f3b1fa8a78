"""A recorded chat played through a whole gateway, by the verb that people use."""

import json
from pathlib import Path

from gateway.cli.chat_file import read_chat, shipped_chat
from tests.support.gateway import Gateway


def test_every_comment_of_a_replay_is_shown_or_counted_as_skipped_and_no_tick_is_missing(gateway: Gateway) -> None:
    lines = read_chat(shipped_chat())
    ended = gateway.command("replay", str(shipped_chat()), "--speed", "40", "--viewers", "5", "--json")
    told = json.loads(ended.stdout)
    assert (told["comments"], told["holes"]) == (len(lines), 0)
    assert told["posted"] + sum(told["other_outcomes"].values()) == len(lines)
    # Forty times as fast nobody is told to wait for long: what is refused is refused for that alone.
    assert told["other_outcomes"].keys() <= {"too_fast"}
    assert told["shown"] > 0 and told["shown"] + told["skipped"] == told["posted"]
    assert told["not_shown"] == told["skipped"]
    assert told["viewers"] == len({line.viewer for line in lines}) + 5 + 1
    assert told["seen_ms"]["p50"] > 0


def test_a_bad_file_and_a_room_nobody_knows_are_told(gateway: Gateway, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("offset_s,viewer,text\n0,ann,hello\nlater,bo,hello\n")
    ended = gateway.command("replay", str(wrong), check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{wrong}, line 3: offset_s is 'later'" in ended.stderr
    ended = gateway.command("replay", str(shipped_chat()), "--room", "room_0000000000000000", check=False)
    assert (ended.returncode, ended.stdout) == (1, "") and "Traceback" not in ended.stderr
