"""Structured logs: one event a line on stderr, JSON by default.

Here: the set-up and what no line may show. A viewer appears as a keyed hash, so that lines of one viewer can be found
together without saying who it is; tokens, secrets and what viewers wrote never appear. Which events exist is the
business of the code that logs them.
"""

import hashlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Protocol

import structlog

HASHED_KEYS: Final = frozenset({"sub", "viewer"})
HIDDEN_KEYS: Final = frozenset({"token", "authorization", "secret", "password", "text", "comment"})
HIDDEN: Final = "[hidden]"

# A JWT's header always begins so ('{"' in base64); a token that slips into a message is cut out of it.
_JWT_START: Final = "eyJ"

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Clock(Protocol):
    """When a line was written."""

    def now_ms(self) -> int: ...


class HidePersons:
    """A processor: hashes who a line is about, hides what must not be shown, also inside nested values."""

    def __init__(self, key: bytes) -> None:
        self._key = key[:64]

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in event.items():
            event[name] = self._shown(name, value)
        return event

    def _shown(self, name: str, value: Any) -> Any:
        if name in HASHED_KEYS:
            return self.hashed(str(value))
        if name in HIDDEN_KEYS:
            return HIDDEN
        if isinstance(value, dict):
            return {key: self._shown(str(key), inner) for key, inner in value.items()}
        if isinstance(value, str) and _JWT_START in value:
            return _without_tokens(value)
        return value

    def hashed(self, person: str) -> str:
        return hashlib.blake2b(person.encode(), key=self._key, digest_size=8).hexdigest()


def _without_tokens(text: str) -> str:
    words = text.split(" ")
    return " ".join(HIDDEN if _JWT_START in word and word.count(".") >= 2 else word for word in words)


class _Stamp:
    """A processor: when, by our clock, and which process."""

    def __init__(self, clock: Clock, process: str) -> None:
        self._clock = clock
        self._process = process

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["ts_ms"] = self._clock.now_ms()
        event["process"] = self._process
        return event


class _FromLibraries(logging.Handler):
    """What a library says, as one line of ours. No traceback: what it carries is theirs, and may show rows."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = {} if error is None else {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        structlog.get_logger(record.name).warning(
            "library_said", library=record.name, message=record.getMessage().partition("\n")[0], **told
        )


def set_up_logs(*, process: str, level: str, log_format: str, key: bytes, clock: Clock) -> None:
    """Once a process, before the first line. `key` is the data folder's or the deployment's own, so hashes match."""
    # Tracebacks keep the message and the place but no local variables: those hold tokens and names.
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _Stamp(clock, process),
    ]
    if log_format == "json":
        processors.append(structlog.processors.format_exc_info)
    processors += [HidePersons(key), renderer]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; only their warnings are worth a line, in the same stream.
    logging.root.setLevel(max(_LEVELS[level], logging.WARNING))
    if not any(isinstance(handler, _FromLibraries) for handler in logging.root.handlers):
        logging.root.addHandler(_FromLibraries())
