"""Way (d): Peakgate through real sockets, started as a user starts it, on the servers that the rivals use.

Compared with them it does more for each order: a viewer with a verified token in a room, ticks to every socket, an
answer `reserved` that is on disk before the commit, `confirmed` after it, and all guards. The generator counts an order
as done when `confirmed` arrives, and keeps the time to `reserved` beside it.

Everything here goes through the public contract: the command's ready line and tokens, HTTP for room and sale, the live
socket for orders, and the audit at the end.
"""

import asyncio
import contextlib
import csv
import io
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil

from gateway.client.host import Host

from .drive import DriveError, Target, read_line, running
from .generator import Fate, Outcome
from .servers import Servers, free_ports

SHOP = "bench"
SKU = "tin"
PRICE_MINOR = 1900
LIMIT_PER_VIEWER = 1_000_000
"""A socket is one viewer, who buys again and again here: the limit is checked for each order, and never reached."""
ORDERS_A_SECOND_A_VIEWER = 10_000
"""For the same reason the bound on a viewer's attempts is as high as it goes; it is still asked for each order."""
READY_TIMEOUT_S = 120.0
COMMAND = str(Path(sys.executable).parent / "peakgate")


class Ready(msgspec.Struct):
    """The line that `peakgate up` prints when all its processes are ready."""

    ready: bool
    url: str
    live_url: str


@contextlib.asynccontextmanager
async def gateway(
    servers: Servers,
    scratch: Path,
    *,
    workers: int,
    tokens: int,
    stock: int,
    settings: Mapping[str, str] | None = None,
    pay_within_s: int = 300,
) -> AsyncIterator[Target]:
    """`peakgate up` on the given servers with one shop, one room and one open sale, and a token for each socket.

    Nobody pays: what runs longer than `pay_within_s` sees its first units come back, and its check counts them missing.
    """
    data = scratch / f"gateway-{time.monotonic_ns()}"
    environment = {
        **os.environ,
        "VALKEY_URL": servers.valkey_url,
        "ROOMS_VALKEY_URL": servers.rooms_valkey_url,
        "DATABASE_URL": servers.database_url,
        "PEAKGATE_ORDER_RATE": str(ORDERS_A_SECOND_A_VIEWER),
        "PEAKGATE_ORDER_BURST": str(ORDERS_A_SECOND_A_VIEWER),
        **(settings or {}),
    }
    up = [COMMAND, "up", "--data", str(data), "--port", str(free_ports(3)), "--workers", str(workers)]
    log_path = scratch / "peakgate.log"
    with log_path.open("ab") as log:
        async with running(up, None, env=environment, stderr=log) as process:
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    ready = msgspec.json.decode(await read_line(process, "peakgate up"), type=Ready)
            except (DriveError, TimeoutError) as error:
                raise DriveError(f"peakgate up did not become ready; its words are in {log_path}") from error
            await _command("shop", "create", SHOP, "--data", str(data), environment=environment)
            token_file = scratch / "tokens"
            mint = ("token", "--shop", SHOP, "--data", str(data), "--ttl", "7200")
            viewers = await _command(
                *mint, "--sub", "v", "--role", "viewer", "--count", str(tokens), environment=environment
            )
            await asyncio.to_thread(token_file.write_text, viewers)
            host_token = await _command(*mint, "--sub", "host", "--role", "host", environment=environment)
            async with Host(ready.url, host_token.strip(), timeout_s=60) as host:
                room, sale = await _open_sale(host, stock=stock, pay_within_s=pay_within_s)

                async def check(outcome: Outcome, fates: list[Fate]) -> list[str]:
                    return await _compare(host, sale, environment, data, outcome, fates)

                yield Target(
                    urls=[room],
                    dialect="peakgate",
                    sale=sale,
                    sku=SKU,
                    amount_minor=PRICE_MINOR,
                    tokens=token_file,
                    processes=lambda: _by_role(process.pid),
                    check=check,
                    host=host,
                )


async def _open_sale(host: Host, *, stock: int, pay_within_s: int) -> tuple[str, str]:
    """A live room and a sale in it that is open already; returns the room's socket and the sale's id."""
    room = await host.create_room("bench", key="bench-room")
    await host.start_room(room.room)
    now = datetime.now(UTC)
    sale = await host.create_sale(
        title="bench",
        currency="EUR",
        room=room.room,
        opens_at=(now - timedelta(minutes=1)).isoformat(),
        closes_at=(now + timedelta(days=1)).isoformat(),
        pay_within_s=pay_within_s,
        items=[
            {
                "sku": SKU,
                "title": "A tin",
                "price_minor": PRICE_MINOR,
                "stock": stock,
                "limit_per_viewer": LIMIT_PER_VIEWER,
            }
        ],
        key="bench-sale",
    )
    return room.live_url, sale.sale


async def _command(*arguments: str, environment: dict[str, str]) -> str:
    """Run one verb of the command; its output, or `DriveError` with what it said."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise DriveError(f"peakgate {' '.join(arguments[:2])} ended with {process.returncode}: {err.decode().strip()}")
    return out.decode()


def _by_role(pid: int) -> dict[str, list[psutil.Process]]:
    """The gateway's processes by what `ps` calls them: `peakgate live 1` and `peakgate live 2` are both `live`."""
    roles: dict[str, list[psutil.Process]] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                words = " ".join(process.cmdline()).split()
                role = words[1] if len(words) > 1 and words[0] == "peakgate" else "other"
                roles.setdefault(role, []).append(process)
    return roles


async def _compare(
    host: Host, sale: str, environment: dict[str, str], data: Path, outcome: Outcome, fates: list[Fate]
) -> list[str]:
    """What was told against what the host, the export and the audit see.

    `outcome_unknown` promises nothing either way, so such an order may hold its units.
    """
    found: list[str] = []
    item = (await host.sale(sale)).items[0]
    stock, left = item.stock, item.left
    if stock is not None and left is not None:
        taken, open_ends = stock - left, outcome.unanswered + outcome.refused.get("outcome_unknown", 0)
        told = outcome.confirmed_total + outcome.unconfirmed
        if not told <= taken <= told + open_ends:
            found.append(f"{told} told reserved or confirmed, {open_ends} without an answer, {taken} units taken")
    if fates:
        told_orders = {fate.order for fate in fates if fate.order}
        rows = csv.DictReader(io.StringIO(await host.orders_csv(sale)))
        ledger: dict[str, str] = {row["order"]: row["status"] for row in rows}
        missing = len(told_orders - ledger.keys())
        if missing:
            found.append(f"{missing} orders were told and are not in the ledger")
        broken = sum(
            1 for f in fates if f.outcome == "confirmed" and ledger.get(f.order) not in {"confirmed", "expired"}
        )
        if broken:
            found.append(f"{broken} orders were told confirmed and are something else in the ledger")
    try:
        await _command("audit", "--data", str(data), "--sale", sale, "--json", environment=environment)
    except DriveError as error:
        found.append(f"the audit does not hold: {error}")
    return found
