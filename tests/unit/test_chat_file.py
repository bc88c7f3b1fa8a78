"""Recorded chats: what a file must be, and how a wrong one is told."""

from pathlib import Path

import pytest

from gateway.cli.chat_file import ChatLine, read_chat, shipped_chat
from gateway.errors import Invalid

HEADER = "offset_s,viewer,text\n"


def chat(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "chat.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_comments_come_by_their_time_and_those_of_one_second_in_their_order(tmp_path: Path) -> None:
    path = chat(tmp_path, HEADER + '3,bo,"yes, two"\n0.5,ann,hello\n3,ann,茶\n')
    assert read_chat(path) == [ChatLine(0.5, "ann", "hello"), ChatLine(3, "bo", "yes, two"), ChatLine(3, "ann", "茶")]


def test_a_comment_of_several_lines_becomes_one(tmp_path: Path) -> None:
    [line] = read_chat(chat(tmp_path, HEADER + '1,ann,"two\n\tlines"\n'))
    assert line.text == "two lines"


def test_other_columns_and_a_byte_order_mark_do_not_disturb(tmp_path: Path) -> None:
    path = chat(tmp_path, "\ufefftext,colour,viewer,offset_s\nhello,red,ann,1\n")
    assert read_chat(path) == [ChatLine(1, "ann", "hello")]


def test_a_comment_is_cut_to_what_a_comment_may_be_after_normalising(tmp_path: Path) -> None:
    decomposed = "e\u0301" * 250
    [line] = read_chat(chat(tmp_path, f"{HEADER}0,ann,  {decomposed}  \n"))
    assert line.text == "é" * 200


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "line 1: there is no column offset_s, viewer, text"),
        ("offset_s,who,text\n1,ann,hi\n", "line 1: there is no column viewer"),
        (HEADER, "has no comments"),
        (HEADER + "1,ann,hi\nsoon,bo,hi\n", "line 3: offset_s is 'soon'"),
        (HEADER + "-1,ann,hi\n", "line 2: offset_s is '-1'"),
        (HEADER + "nan,ann,hi\n", "line 2: offset_s is 'nan'"),
        (HEADER + "inf,ann,hi\n", "line 2: offset_s is 'inf'"),
        (HEADER + "1,,hi\n", "line 2: viewer has 0 characters"),
        (HEADER + f"1,{'a' * 49},hi\n", "line 2: viewer has 49 characters"),
        (HEADER + "1,ann,hi\n2,ann,  \n", "line 3: text is empty"),
        (HEADER + "1,ann\n", "line 2: it has fewer than 3 columns"),
        (HEADER + '1,ann,"two\nlines"\n2,bo\n', "line 4: it has fewer than 3 columns"),
        (HEADER + '1,ann,"never closed\n', "after line 1: unexpected end of data"),
        (HEADER.encode() + b"1,ann,\xff\n", "is not UTF-8"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    path = chat(tmp_path, content)
    with pytest.raises(Invalid) as told:
        read_chat(path)
    assert told.value.message.startswith(str(path)) and complaint in told.value.message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        read_chat(tmp_path / "none.csv")


def test_the_shipped_chat_is_small_and_speaks_several_languages() -> None:
    lines = read_chat(shipped_chat())
    assert 150 <= len(lines) <= 300
    assert 30 <= len({line.viewer for line in lines}) <= 100
    said = {line.text for line in lines}
    assert {"hello everyone 👋", "大家好", "Guten Abend zusammen", "こんばんは", "안녕하세요", "привет из дома"} <= said
