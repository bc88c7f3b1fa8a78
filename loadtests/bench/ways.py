"""The ways that are compared, and how each is brought up for one run."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from . import rivals
from .drive import READY_TIMEOUT_S, Target, read_line, running
from .generator import Fate, Outcome
from .peakgate_path import gateway
from .rival_server import Hosting, RivalName
from .script_and_insert import prepare_valkey
from .servers import Servers, empty, python_module

STOCK = 20_000_000
"""Units on sale in every run: nobody meets the end of the stock unless that is what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to take orders, in a number of processes."""

    name: str
    title: str
    rival: RivalName | None
    """None: Peakgate itself."""
    processes: int = 1
    outage_rate: float
    """Orders a second in open loop while something is done to PostgreSQL: well below what the way can do."""
    open_rates: tuple[float, ...]


_SMALL, _MEDIUM, _LARGE = (500.0, 1_000.0), (1_000.0, 2_500.0), (2_500.0, 5_000.0, 10_000.0, 20_000.0)

WAYS = (
    Way(
        name="one_transaction",
        title="(a) one transaction an order on a hot row",
        rival="one_transaction",
        outage_rate=300,
        open_rates=_SMALL,
    ),
    Way(
        name="one_statement",
        title="(a) the same as one statement",
        rival="one_statement",
        outage_rate=300,
        open_rates=_SMALL,
    ),
    Way(
        name="script_and_insert",
        title="(b) one script call and one INSERT an order",
        rival="script_and_insert",
        outage_rate=600,
        open_rates=_MEDIUM,
    ),
    Way(
        name="queue_bare",
        title="(c) one queue, unnest, stock and key only",
        rival="queue_unnest_bare",
        outage_rate=2_000,
        open_rates=_LARGE,
    ),
    Way(
        name="queue_guarded",
        title="(c) one queue, unnest, the same guards as ours",
        rival="queue_unnest_guarded",
        outage_rate=2_000,
        open_rates=_LARGE,
    ),
    Way(
        name="queue_bare_x2",
        title="(c) bare, two processes",
        rival="queue_unnest_bare",
        processes=2,
        outage_rate=2_000,
        open_rates=_LARGE,
    ),
    Way(
        name="queue_guarded_x2",
        title="(c) guarded, two processes",
        rival="queue_unnest_guarded",
        processes=2,
        outage_rate=2_000,
        open_rates=_LARGE,
    ),
    Way(
        name="peakgate",
        title="(d) Peakgate, one live process",
        rival=None,
        outage_rate=2_000,
        open_rates=_LARGE,
    ),
    Way(
        name="peakgate_x2",
        title="(d) Peakgate, two live processes",
        rival=None,
        processes=2,
        outage_rate=2_000,
        open_rates=_LARGE,
    ),
)
OURS = frozenset(way.name for way in WAYS if way.rival is None)


@contextlib.asynccontextmanager
async def up(way: Way, servers: Servers, scratch: Path, *, sockets: int) -> AsyncIterator[Target]:
    """Bring `way` up on empty tables with one open sale."""
    await empty(servers)
    if way.rival is None:
        async with gateway(servers, scratch, workers=way.processes, tokens=sockets, stock=STOCK) as target:
            yield target
        return
    guarded = way.rival == "queue_unnest_guarded"
    await rivals.prepare_tables(servers.rivals_url, guarded=guarded, stock=STOCK)
    await prepare_valkey(servers.valkey_url, sale=rivals.SALE, sku=rivals.SKU, stock=STOCK)
    async with contextlib.AsyncExitStack() as stack:
        hosts: list[asyncio.subprocess.Process] = []
        urls: list[str] = []
        for worker in range(way.processes):
            hosting = Hosting(
                rival=way.rival, database_url=servers.rivals_url, valkey_url=servers.valkey_url, worker=worker
            )
            host = await stack.enter_async_context(running(python_module("rival_server"), hosting))
            async with asyncio.timeout(READY_TIMEOUT_S):
                ready = msgspec.json.decode(await read_line(host, way.name))
            hosts.append(host)
            urls.append(f"ws://127.0.0.1:{ready['port']}")

        async def check(outcome: Outcome, fates: list[Fate]) -> list[str]:
            return await compare_with_tables(servers.rivals_url, outcome, fates)

        yield Target(
            urls=urls,
            dialect="rival",
            sale=rivals.SALE,
            sku=rivals.SKU,
            amount_minor=rivals.PRICE_MINOR,
            processes=lambda: {"rival": [psutil.Process(host.pid) for host in hosts]},
            check=check,
        )


async def compare_with_tables(url: str, outcome: Outcome, fates: list[Fate]) -> list[str]:
    """Each confirmed order is a row; rows beyond those belong to orders whose answer is missing or unknown."""
    books = await rivals.read_books(url)
    found: list[str] = []
    open_ends = outcome.unanswered + outcome.refused.get("outcome_unknown", 0)
    if not outcome.confirmed_total <= books.orders <= outcome.confirmed_total + open_ends:
        found.append(f"{outcome.confirmed_total} confirmed, {open_ends} without an answer, {books.orders} rows")
    if fates:
        keys = await rivals.read_keys(url)
        missing = sum(1 for fate in fates if fate.outcome == "confirmed" and fate.key not in keys)
        if missing:
            found.append(f"{missing} confirmed orders have no row")
    return found
