"""A recorded chat: a CSV file with the columns `offset_s`, `viewer`, `text`, one comment a line."""

import csv
import importlib.resources
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.domain.live import MAX_COMMENT_LENGTH
from gateway.errors import Invalid

COLUMNS: Final = ("offset_s", "viewer", "text")
# Read whole into memory: days of a busy chat, and no file that was meant for something else.
MAX_LINES: Final = 500_000
# A viewer of the file is a `sub` of the shop, with a prefix in front.
MAX_VIEWER_LENGTH: Final = 48


@dataclass(frozen=True, slots=True)
class ChatLine:
    offset_s: float
    """Since the start of the recording."""
    viewer: str
    text: str
    """Not empty, and no longer than a comment may be: the rest is cut off."""


def shipped_chat() -> Path:
    """A small made-up one that comes with the package."""
    return Path(str(importlib.resources.files("gateway.cli") / "chat_sample.csv"))


def read_chat(path: Path) -> list[ChatLine]:
    """The comments by their time. Raises `Invalid` naming the file's line that is not what it should be."""
    lines: list[ChatLine] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise Invalid(
                    f"{path}, line 1: there is no column {', '.join(missing)}; {', '.join(COLUMNS)} are needed"
                )
            for row in rows:
                if len(lines) == MAX_LINES:
                    raise Invalid(f"{path}, line {rows.line_num}: a chat has at most {MAX_LINES:,} comments")
                try:
                    lines.append(_line(row))
                except ValueError as error:
                    raise Invalid(f"{path}, line {rows.line_num}: {error}") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8, after line {len(lines) + 1}: {error.reason}") from error
    except csv.Error as error:
        raise Invalid(f"{path}, after line {len(lines) + 1}: {error}") from error
    if not lines:
        raise Invalid(f"{path} has no comments")
    # A recording may have been put together from several; two of the same time keep their order.
    lines.sort(key=lambda line: line.offset_s)
    return lines


def _line(row: dict[str, str | None]) -> ChatLine:
    offset, viewer, text = (row[name] for name in COLUMNS)
    if offset is None or viewer is None or text is None:
        raise ValueError(f"it has fewer than {len(COLUMNS)} columns")
    try:
        offset_s = float(offset)
    except ValueError:
        raise ValueError(f"offset_s is {offset!r}; seconds since the start are needed") from None
    if not 0 <= offset_s < float("inf"):
        raise ValueError(f"offset_s is {offset!r}; it must be 0 or more")
    if not 1 <= len(viewer) <= MAX_VIEWER_LENGTH:
        raise ValueError(f"viewer has {len(viewer)} characters; 1 to {MAX_VIEWER_LENGTH} are allowed")
    # A comment is one line: what a recording breaks over several is joined.
    text = " ".join(unicodedata.normalize("NFC", text).split())[:MAX_COMMENT_LENGTH].strip()
    if not text:
        raise ValueError("text is empty")
    return ChatLine(offset_s, viewer, text)
