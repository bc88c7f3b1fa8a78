"""What every test may ask for: real servers, started once a session, and clean for each test."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.properties.profiles import REPORT
from tests.support.servers import SessionServers, flush, session_servers

# How fast a shared machine makes up examples says nothing about the code under test.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture(scope="session")
def servers() -> Iterator[SessionServers]:
    with session_servers() as started:
        yield started


@pytest.fixture
def database_url(servers: SessionServers) -> Iterator[str]:
    """A fresh database with the schema of the ledger."""
    url = servers.fresh_database()
    yield url
    servers.give_back(url)


@pytest.fixture
def empty_database_url(servers: SessionServers) -> str:
    """A fresh database with nothing in it."""
    return servers.empty_database()


@pytest.fixture
def valkey_url(servers: SessionServers) -> str:
    """The orders Valkey, empty."""
    flush(servers.urls.valkey_url)
    return servers.urls.valkey_url


@pytest.fixture
def rooms_valkey_url(servers: SessionServers) -> str:
    """The rooms Valkey, empty."""
    flush(servers.urls.rooms_valkey_url)
    return servers.urls.rooms_valkey_url


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests must not decide what they find."""
    for name in list(os.environ):
        if name.startswith("PEAKGATE_") or name in ("VALKEY_URL", "ROOMS_VALKEY_URL", "DATABASE_URL"):
            monkeypatch.delenv(name)


# Workers take files from the front of what was collected: what takes long must not come when the others are done.
LONG_FILES = (
    "tests/faults/test_torture.py",
    "tests/properties/test_small_world.py",
    "tests/properties/test_scripts.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_FILES))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Frames of bytes are masked at random, and workers that share the tests must call them the same."""
    return argname if isinstance(val, bytes) else None


# Lines that the properties have to say stand at the end of a run, also when it was done by several workers.


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    REPORT.extend(getattr(node, "workeroutput", {}).get("report", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["report"] = REPORT


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if REPORT:
        terminalreporter.section("properties")
        for line in REPORT:
            terminalreporter.write_line(line)
