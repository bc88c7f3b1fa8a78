import json
import logging

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.logs import HidePersons, set_up_logs

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def test_a_viewer_is_a_hash_that_only_the_key_repeats() -> None:
    one, other = HidePersons(b"a key of one"), HidePersons(b"a key of another")
    first, again = one(None, "info", {"sub": "anna"}), one(None, "info", {"viewer": "anna"})
    assert first["sub"] == again["viewer"] != "anna"
    assert other(None, "info", {"sub": "anna"})["sub"] != first["sub"]


def test_tokens_and_what_viewers_wrote_never_appear_however_deep() -> None:
    shown = HidePersons(b"key")(
        None,
        "info",
        {
            "event": f"bad token {TOKEN} given",
            "token": TOKEN,
            "text": "hello there",
            "frame": {"t": "hello", "token": TOKEN, "sub": "anna", "inner": {"comment": "hello there"}},
        },
    )
    said = json.dumps(shown)
    assert TOKEN not in said and "hello there" not in said and "anna" not in said


def test_a_line_is_json_on_stderr_with_its_process_and_no_locals_in_tracebacks(
    capfd: pytest.CaptureFixture[str],
) -> None:
    set_up_logs(process="live 1", level="info", log_format="json", key=b"key", clock=SystemClock())
    try:
        log = structlog.get_logger()
        log.debug("too_quiet")
        try:
            hushed = TOKEN
            raise ValueError("broken")
        except ValueError:
            log.exception("it_broke", size=len(hushed))
    finally:
        structlog.reset_defaults()
    said = capfd.readouterr()
    assert said.out == ""
    line = json.loads(said.err)
    assert (line["event"], line["level"], line["process"]) == ("it_broke", "error", "live 1")
    assert "ValueError: broken" in line["exception"] and TOKEN not in said.err


def test_what_a_library_says_is_one_line_of_the_same_form_without_its_rows(capfd: pytest.CaptureFixture[str]) -> None:
    handlers, level = logging.root.handlers[:], logging.root.level
    set_up_logs(process="api", level="info", log_format="json", key=b"key", clock=SystemClock())
    try:
        try:
            raise ValueError("broken\nDETAIL: anna ordered a tin")
        except ValueError:
            logging.getLogger("asyncpg.pool").warning("it failed", exc_info=True)
        logging.getLogger("asyncpg.pool").info("too quiet")
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    line = json.loads(capfd.readouterr().err)
    assert (line["event"], line["library"], line["message"]) == ("library_said", "asyncpg.pool", "it failed")
    assert line["error"] == "ValueError: broken" and "anna" not in json.dumps(line)
