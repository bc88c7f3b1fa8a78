"""The ledger as a file and back, with PostgreSQL's own tools against a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from gateway.__main__ import build_app
from gateway.cli import backup, backup_file
from gateway.cli.backup import OLDEST_SCHEMA, what_to_do
from gateway.cli.backup_file import BLOCK_BYTES, read_manifest
from gateway.domain.ids import IdMint
from gateway.errors import BackupUnusable, Conflict, GatewayError
from gateway.hot.connect import connect
from gateway.ledger.pool import Ledger
from gateway.ledger.shards import LedgerShards
from tests.support.shop_floor import ShopFloor, shop_floor


class Verbs:
    """The two verbs against a database, as from a shell. An error is raised as it is."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "ledger.backup"
        self._monkeypatch = monkeypatch

    def run(self, database_url: str, *argv: str) -> Any:
        for name, url in (
            ("DATABASE_URL", database_url),
            ("VALKEY_URL", "redis://127.0.0.1:1"),
            ("ROOMS_VALKEY_URL", "redis://127.0.0.1:1"),
        ):
            self._monkeypatch.setenv(name, url)
        result = CliRunner().invoke(build_app(), [*argv, "--json"])
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout)

    async def backup(self, database_url: str) -> Any:
        return await asyncio.to_thread(self.run, database_url, "backup", str(self.file))

    async def restore(self, database_url: str, *options: str) -> Any:
        return await asyncio.to_thread(self.run, database_url, "restore", str(self.file), *options)


@pytest.fixture
def verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verbs:
    return Verbs(tmp_path, monkeypatch)


async def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def sold(database_url: str, valkey_url: str, *, orders: int = 3) -> None:
    """A shop with a sale and some confirmed orders; nobody is connected any more."""
    async with shop_floor(database_url, valkey_url) as floor:
        await floor.reserve(*(floor.request(f"vw_{at}") for at in range(orders)))
        await floor.written()


async def test_what_was_backed_up_comes_back(
    verbs: Verbs, database_url: str, valkey_url: str, empty_database_url: str
) -> None:
    await sold(database_url, valkey_url)
    manifest = await verbs.backup(database_url)
    assert (manifest["shops"], manifest["sales"], manifest["orders"]) == (1, 1, 3)
    assert manifest["shards"] == [{"shard": 0, "epoch": 1, "last_seq": 3}]
    assert manifest == read_manifest(verbs.file)
    assert verbs.file.stat().st_mode & 0o777 == 0o600
    told = await verbs.restore(empty_database_url)
    assert told["replaced"] is None and told["restored"] == manifest and len(told["to_do"]) >= 4
    for query in (
        "SELECT order_id, status, viewer, key, seq FROM orders ORDER BY seq",
        "SELECT version, checksum FROM schema_migrations ORDER BY version",
        "SELECT id_key FROM installation",
        "SELECT sale_no, item_no, held, sold FROM sale_items",
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
    ):
        assert await rows(empty_database_url, query) == await rows(database_url, query)


async def test_a_restored_ledger_says_that_every_shard_is_to_be_recounted(
    verbs: Verbs, database_url: str, valkey_url: str, empty_database_url: str
) -> None:
    await sold(database_url, valkey_url)
    await execute(database_url, "UPDATE shards SET lease_holder = 'w', lease_until = now() - interval '1 second'")
    [before] = await rows(database_url, "SELECT epoch, last_seq, lease_token, load_token FROM shards")
    await verbs.backup(database_url)
    await verbs.restore(empty_database_url)
    [after] = await rows(
        empty_database_url,
        "SELECT epoch, last_seq, lease_token, load_token, wants, reopen, lease_holder, opened FROM shards",
    )
    assert after[:2] == before[:2]
    assert after[2] > before[2] + 1000 and after[3] > before[3] + 1000, "what was begun under an old token stays void"
    assert after[4:7] == ("restore", None, None)


async def test_numbers_that_may_have_been_given_after_the_backup_are_not_given_again(
    verbs: Verbs, database_url: str, valkey_url: str, empty_database_url: str
) -> None:
    """A new sale must not meet orders of another one under its number in the stream."""
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    await verbs.restore(empty_database_url)
    [(sale_no,)] = await rows(empty_database_url, "SELECT nextval(pg_get_serial_sequence('sales', 'sale_no'))")
    assert sale_no > 1000


async def test_unpaid_orders_get_time_to_have_their_payments_reported_again(
    verbs: Verbs, database_url: str, valkey_url: str, empty_database_url: str
) -> None:
    await sold(database_url, valkey_url)
    await execute(
        database_url,
        "UPDATE orders SET confirmed_at = confirmed_at - interval '1 hour', pay_by = pay_by - interval '1 hour';"
        "UPDATE deadlines SET pay_by = pay_by - interval '1 hour'",
    )
    await verbs.backup(database_url)
    await verbs.restore(empty_database_url, "--grace", "120")
    found = await rows(
        empty_database_url,
        "SELECT o.pay_by - now() BETWEEN interval '60 seconds' AND interval '120 seconds', d.pay_by >= o.pay_by"
        " FROM orders o JOIN deadlines d ON o.order_id BETWEEN d.first_id AND d.last_id",
    )
    assert found == [(True, True)] * 3


async def test_a_ledger_with_shops_is_not_replaced_unasked(verbs: Verbs, database_url: str, valkey_url: str) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    with pytest.raises(Conflict, match="--replace --yes"):
        await verbs.restore(database_url)
    await execute(database_url, "DELETE FROM orders WHERE seq > 1")
    told = await verbs.restore(database_url, "--replace", "--yes")
    assert told["replaced"]["orders"] == 1
    assert await rows(database_url, "SELECT count(*) FROM orders") == [(3,)]


async def test_without_yes_it_is_asked_for(verbs: Verbs, database_url: str, valkey_url: str) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    with pytest.raises(SystemExit):
        await verbs.restore(database_url, "--replace")  # nobody is there to answer


async def test_another_installations_ledger_is_not_replaced(verbs: Verbs, database_url: str, valkey_url: str) -> None:
    """Its Valkey holds orders of other sales under the same numbers."""
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    await execute(database_url, "UPDATE installation SET id_key = sha256('another')")
    with pytest.raises(Conflict, match="another installation"):
        await verbs.restore(database_url, "--replace", "--yes")


async def test_an_installation_without_shops_takes_any_backup(verbs: Verbs, database_url: str, valkey_url: str) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    await execute(database_url, "UPDATE installation SET id_key = sha256('fresh')")
    await execute(
        database_url,
        "TRUNCATE shops, rooms, sales, sale_items, orders, holdings, deadlines, shop_keys, effects, acts CASCADE",
    )
    await verbs.restore(database_url)
    assert await rows(database_url, "SELECT count(*) FROM orders") == [(3,)]


async def test_a_ledger_in_use_is_left_alone_unless_forced(
    verbs: Verbs, database_url: str, valkey_url: str, empty_database_url: str
) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    as_gateway = {"application_name": "peakgate"}
    elsewhere = await asyncpg.connect(empty_database_url, server_settings=as_gateway)
    gateway = await asyncpg.connect(database_url, server_settings=as_gateway)
    try:
        with pytest.raises(Conflict, match="a gateway uses this ledger"):
            await verbs.restore(database_url, "--replace", "--yes")
        await verbs.restore(database_url, "--replace", "--yes", "--force")
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await gateway.fetchval("SELECT 1")
        assert await elsewhere.fetchval("SELECT 1") == 1
    finally:
        gateway.terminate()
        elsewhere.terminate()


async def test_a_lease_that_still_runs_counts_as_use(verbs: Verbs, database_url: str, valkey_url: str) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    await execute(database_url, "UPDATE shards SET lease_until = now() + interval '1 hour'")
    with pytest.raises(Conflict, match="a gateway uses this ledger"):
        await verbs.restore(database_url, "--replace", "--yes")


async def test_a_database_that_is_shared_is_left_alone(verbs: Verbs, database_url: str, valkey_url: str) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    await execute(database_url, "CREATE TABLE invoices (no int)")
    with pytest.raises(Conflict, match="invoices"):
        await verbs.restore(database_url, "--replace", "--yes")


# Files that are no backups, and restores that fail.


async def test_an_existing_file_is_not_written_over(verbs: Verbs, database_url: str) -> None:
    verbs.file.write_bytes(b"dear")
    with pytest.raises(BackupUnusable, match="exists already"):
        await verbs.backup(database_url)
    assert verbs.file.read_bytes() == b"dear"


async def test_a_dump_that_fails_leaves_no_file(
    verbs: Verbs, database_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "LOCK_WAIT", "300ms")
    await sold(database_url, valkey_url)
    locker = await asyncpg.connect(database_url)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE holdings IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(GatewayError, match="pg_dump failed"):
                await verbs.backup(database_url)
    finally:
        await locker.close()
    assert list(verbs.file.parent.iterdir()) == []


async def test_what_is_cut_off_or_changed_is_found_before_anything_is_replaced(
    verbs: Verbs, database_url: str, valkey_url: str
) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    whole = verbs.file.read_bytes()
    for broken, words in (
        (whole[:-1], "was cut off"),
        (whole[:BLOCK_BYTES], "was cut off"),
        (whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], "was changed"),
        (b"\0" * BLOCK_BYTES + whole[BLOCK_BYTES:], "never finished"),
        (b"PGDMP" + whole[BLOCK_BYTES + 5 :], "is no backup"),
        (b"", "is no backup"),
    ):
        verbs.file.write_bytes(broken)
        with pytest.raises(BackupUnusable, match=words):
            await verbs.restore(database_url, "--replace", "--yes")
    assert await rows(database_url, "SELECT count(*) FROM orders") == [(3,)]


async def test_a_restore_that_fails_in_the_middle_leaves_the_ledger_as_it_was(
    verbs: Verbs, database_url: str, valkey_url: str
) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    manifest = read_manifest(verbs.file)
    whole = verbs.file.read_bytes()
    with verbs.file.open("wb") as file:
        writer = backup_file.BackupWriter(file)
        writer.write(whole[BLOCK_BYTES : BLOCK_BYTES + (len(whole) - BLOCK_BYTES) // 2])
        writer.finish({name: value for name, value in manifest.items() if not name.startswith(("dump_", "kind"))})
    with pytest.raises(GatewayError):
        await verbs.restore(database_url, "--replace", "--yes")
    assert await rows(database_url, "SELECT count(*) FROM orders") == [(3,)]
    assert await rows(database_url, "SELECT wants FROM shards") == [(None,)]


@pytest.mark.parametrize("version", [OLDEST_SCHEMA - 1, 9999])
async def test_a_backup_of_another_schema_is_refused(
    verbs: Verbs, database_url: str, valkey_url: str, version: int
) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    block = verbs.file.read_bytes()[:BLOCK_BYTES]
    manifest = json.loads(block) | {"schema_version": version}
    with verbs.file.open("r+b") as file:
        file.write(json.dumps(manifest).encode().ljust(BLOCK_BYTES))
    with pytest.raises(BackupUnusable, match="schema"):
        await verbs.restore(database_url, "--replace", "--yes")


async def test_the_dump_inside_is_postgresqls_own(verbs: Verbs, database_url: str, valkey_url: str) -> None:
    await sold(database_url, valkey_url)
    await verbs.backup(database_url)
    assert verbs.file.read_bytes()[BLOCK_BYTES : BLOCK_BYTES + 5] == b"PGDMP"


def test_what_is_left_to_do_names_the_time_and_the_payments() -> None:
    steps = what_to_do({"made_at": "2026-01-01T00:00:00+00:00"}, grace_s=900)
    assert sum("2026-01-01" in step for step in steps) >= 4
    assert any("payment" in step and "900 seconds" in step for step in steps)


# After a restore, with the Valkey that went on.


async def test_orders_after_the_backup_come_back_from_the_stream(
    verbs: Verbs, database_url: str, valkey_url: str
) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        await floor.keeper.step()
        await floor.reserve(floor.request("vw_1"))
        await floor.written()
        await verbs.backup(database_url)
        after = await floor.reserve(floor.request("vw_2"), floor.request("vw_3"))
        await floor.written()
        sale = floor.sale
    await verbs.restore(database_url, "--replace", "--yes")
    assert await rows(database_url, "SELECT count(*) FROM orders") == [(1,)]
    async with started_anew(database_url, valkey_url) as floor, floor.writing():
        floor.sale = sale
        await asyncio.wait_for(floor.keeper.step(), 20)
        assert await rows(database_url, "SELECT epoch, wants FROM shards") == [(2, None)]
        found = await rows(database_url, "SELECT order_id FROM orders WHERE seq > 1 ORDER BY seq")
        assert [order for (order,) in found] == after
        assert await floor.counts() == (10, 7, 3)


async def test_with_another_valkey_only_what_was_backed_up_is_there(
    verbs: Verbs, database_url: str, valkey_url: str
) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        await floor.keeper.step()
        await floor.reserve(floor.request("vw_1"))
        await floor.written()
        await verbs.backup(database_url)
        await floor.reserve(floor.request("vw_2"))
        await floor.written()
        await floor.client.flushall()
        sale = floor.sale
    await verbs.restore(database_url, "--replace", "--yes")
    async with started_anew(database_url, valkey_url) as floor, floor.writing():
        floor.sale = sale
        await asyncio.wait_for(floor.keeper.step(), 20)
        assert await floor.counts() == (10, 9, 1)
        await floor.reserve(floor.request("vw_2"))


@asynccontextmanager
async def started_anew(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    """The floor as processes find it that start after the restore."""
    ledger = await Ledger.connect(database_url, size=4)
    client = connect(valkey_url, max_connections=12, reply_timeout_s=5.0)
    try:
        mint = IdMint(await LedgerShards(ledger).id_key())
        yield ShopFloor(ledger=ledger, client=client, mint=mint, database_url=database_url, valkey_url=valkey_url)
    finally:
        await client.aclose()
        await ledger.close()
