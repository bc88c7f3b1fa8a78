import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import points

GATEWAY = Path(points.__file__).parent


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    points.arm(None)


def run_to(folder: Path, point: str) -> subprocess.Popen[bytes]:
    code = (
        "import sys, pathlib; from gateway import points; "
        f"points.arm(pathlib.Path({str(folder)!r})); points.reach({point!r}); sys.exit(7)"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_point_does_nothing_in_a_process_that_is_not_armed(tmp_path: Path) -> None:
    points.order(tmp_path, "writer.commit.before", points.Action.KILL)
    assert not points.is_armed()
    points.reach("writer.commit.before")
    assert (tmp_path / "writer.commit.before").exists()


def test_a_point_that_nobody_ordered_does_nothing_in_an_armed_process(tmp_path: Path) -> None:
    points.order(tmp_path, "writer.commit.before", points.Action.KILL)
    points.arm(tmp_path)
    points.reach("writer.commit.after")
    assert not (tmp_path / points.STRUCK).exists()


@pytest.mark.parametrize(
    ("action", "status"), [(points.Action.KILL, -signal.SIGKILL), (points.Action.EXIT, 1)], ids=["kill", "exit"]
)
def test_the_first_process_to_come_by_claims_the_order_and_writes_it_down(
    tmp_path: Path, action: points.Action, status: int
) -> None:
    ordered = points.order(tmp_path, "writer.commit.before", action)
    first = run_to(tmp_path, "writer.commit.before")
    assert first.wait(20) == status
    assert run_to(tmp_path, "writer.commit.before").wait(20) == 7
    assert not ordered.exists()
    (line,) = (tmp_path / points.STRUCK).read_text().splitlines()
    assert line.split()[:3] == ["writer.commit.before", action, str(first.pid)]


def test_a_stopped_process_goes_on_where_it_stood(tmp_path: Path) -> None:
    points.order(tmp_path, "group.call.after", points.Action.STOP)
    process = run_to(tmp_path, "group.call.after")
    try:
        while Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == 7
    finally:
        process.kill()
        process.wait()


def test_an_unknown_point_cannot_be_ordered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no labelled point"):
        points.order(tmp_path, "writer.comit.before", points.Action.KILL)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        points.arm(tmp_path / "nowhere")


def test_every_point_in_the_code_is_listed_once() -> None:
    found = re.findall(r"points\.reach\(\s*\"([^\"]+)\"", "\n".join(path.read_text() for path in GATEWAY.rglob("*.py")))
    assert set(found) <= set(points.POINTS)
