"""The pool when the way to PostgreSQL goes without a word."""

import asyncio
import time
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from gateway.errors import LedgerUnavailable
from gateway.ledger.pool import Ledger
from tests.support.fault_proxy import Bend, FaultProxy, LinkPlan, Mode
from tests.support.gateway import free_ports

SIZE = 3
ANSWERS_WITHIN_S = 1.5


@pytest.mark.parametrize("where", ["outside of a transaction", "in a transaction"])
async def test_one_dead_connection_is_waited_for_and_the_others_with_it_are_replaced(
    database_url: str, where: str
) -> None:
    parts = urlsplit(database_url)
    folder = unquote(parse_qs(parts.query)["host"][0])
    port = free_ports(1)
    link = LinkPlan(name="ledger", port=port, target=f"{folder}/.s.PGSQL.5432")
    async with FaultProxy([link]) as proxy:
        url = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        ledger = await Ledger.connect(url, size=SIZE, answers_within_s=ANSWERS_WITHIN_S)
        try:
            await asyncio.gather(*(ledger.execute("SELECT pg_sleep(0.2)") for _ in range(SIZE)))
            with pytest.raises(LedgerUnavailable):
                if where == "in a transaction":
                    async with ledger.transaction() as connection:
                        await proxy.set(["ledger"], Bend(mode=Mode.HALF_OPEN))
                        await connection.fetchval("SELECT 1")
                else:
                    await proxy.set(["ledger"], Bend(mode=Mode.HALF_OPEN))
                    await ledger.fetchval("SELECT 1")
            began_s = time.monotonic()
            for _ in range(2 * SIZE):
                assert await ledger.fetchval("SELECT 1") == 1
            assert time.monotonic() - began_s < ANSWERS_WITHIN_S, "a second dead connection was waited for"
        finally:
            await ledger.close()
