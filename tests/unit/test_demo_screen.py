"""The picture of a demo."""

import io
import re
from pathlib import Path
from xml.dom import minidom

from rich.console import Console

from gateway.cli.demo_screen import save_picture


def test_a_picture_shows_what_was_printed_and_fetches_nothing(tmp_path: Path) -> None:
    console = Console(record=True, force_terminal=True, width=80, file=io.StringIO())
    console.print("[green]holds [/]<all> of it 晚安")
    save_picture(console, tmp_path / "demo.svg", title="make demo")
    drawn = (tmp_path / "demo.svg").read_text(encoding="utf-8")
    parts = [part for node in minidom.parseString(drawn).getElementsByTagName("text") for part in node.childNodes]
    shown = "".join(part.data for part in parts).replace("\N{NO-BREAK SPACE}", " ")
    assert shown == "make demoholds <all> of it 晚安\n"
    assert set(re.findall(r"https?://[^\"' <]*", drawn)) == {"http://www.w3.org/2000/svg"}
