"""Another server than the one that is shipped, on which the scripts must do the same: Debian's `redis-server`, where it
is installed."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from gateway.embedded.process import die_with_parent
from gateway.embedded.valkey import ORDERS
from tests.support.servers import eventually_now

# Read once: a test itself sees no settings from outside.
_GIVEN = os.environ.get("REDIS_SERVER")


def find_redis_server() -> str | None:
    """What REDIS_SERVER names, or what is on the path."""
    return _GIVEN or shutil.which("redis-server")


def version_of(binary: str) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([\d.]+)", said)
    return found.group(1) if found else said.strip()


@contextmanager
def redis_server(binary: str) -> Iterator[str]:
    """Told the same as the orders Valkey; gives its address."""
    folder = Path(tempfile.mkdtemp(prefix="peakgate-redis-"))
    socket = folder / "redis.sock"
    argv = [binary, "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", "", *ORDERS]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL))
    url = f"unix://{socket}"
    try:
        client = redis.Redis.from_url(url)
        eventually_now(lambda: _answers(client))
        client.close()
        yield url
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
