from pathlib import Path

import pytest

from gateway.cli.pg_tools import PgTools, choose_tools, connection_of, installed_tools
from gateway.errors import ToolsMissing


def tools(*majors: int) -> list[PgTools]:
    return [PgTools(folder=Path(f"/pg{major}"), major=major) for major in majors]


@pytest.mark.parametrize(
    ("there", "server", "at_least", "chosen"),
    [
        ([18], 18, 0, 18),
        ([15, 18], 15, 0, 15),
        ([18, 15], 15, 0, 15),
        ([15, 16, 18], 16, 0, 16),
        ([15, 18], 16, 0, 18),
        ([15, 18], 15, 18, 18),
    ],
)
def test_the_tools_nearest_to_the_server_are_taken(there: list[int], server: int, at_least: int, chosen: int) -> None:
    assert choose_tools(tools(*there), server, at_least=at_least).major == chosen


@pytest.mark.parametrize("there", [[], [15], [15, 17]])
def test_older_tools_than_the_server_are_said_not_to_do(there: list[int]) -> None:
    with pytest.raises(ToolsMissing, match="PostgreSQL 18 are needed") as raised:
        choose_tools(tools(*there), 18)
    assert ("none" in raised.value.message) is (not there)


def test_the_embedded_tools_are_found() -> None:
    assert any(each.major >= 18 for each in installed_tools())


@pytest.mark.parametrize(
    ("url", "named", "password"),
    [
        ("postgresql://u:p%40ss@db:5432/x?sslmode=require", "postgresql://u@db:5432/x?sslmode=require", "p@ss"),
        ("postgresql://u@/x?host=/run/pg", "postgresql://u@/x?host=/run/pg", None),
        ("postgresql:///x?host=/run/pg", "postgresql:///x?host=/run/pg", None),
        ("postgres://u@[::1]:5432/x", "postgres://u@[::1]:5432/x", None),
    ],
)
def test_a_password_does_not_stand_in_the_list_of_processes(url: str, named: str, password: str | None) -> None:
    told, environment = connection_of(url)
    assert told == named
    assert environment.get("PGPASSWORD") == password
