"""`peakgate backup` and `peakgate restore`: the ledger as one file, and back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.backup_file import check_dump, dump_of, new_backup, read_manifest
from gateway.cli.output import exit_codes, print_json, print_table
from gateway.cli.pg_tools import connection_of, find_tools, running
from gateway.cli.servers import DataOption, JsonOption
from gateway.embedded import DataFolder
from gateway.embedded.postgres import PostgresServer
from gateway.errors import BackupUnusable, Conflict, GatewayError
from gateway.ledger.backup import LedgerBackup, LedgerFacts, restore_begins, restore_ends
from gateway.ledger.migrate import MIGRATIONS, migrate, read_migrations
from gateway.settings import read_settings

# Earlier ledgers have no word for "recount before you sell".
OLDEST_SCHEMA: Final = 4
GRACE_S: Final = 900
# How long a table that somebody locked is waited for.
LOCK_WAIT = "10s"

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)]


def register(app: typer.Typer) -> None:
    app.command("backup", epilog=exit_codes(check_failed="the file exists, or the dump failed; nothing was written"))(
        backup
    )
    app.command(
        "restore",
        epilog=exit_codes(check_failed="it was refused or failed; the ledger is as it was"),
    )(restore)


def backup(file: FileArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Write the ledger to one file, as of one moment; also during a sale. It holds the shops' keys: keep it safe."""
    manifest = asyncio.run(_backup(file, data))
    if as_json:
        print_json(manifest)
        return
    print_table(("", ""), _rows(manifest))


def restore(
    file: FileArgument,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a ledger that has shops in it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Replace it without asking.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also while processes of a gateway use the ledger; they are cut off.")
    ] = False,
    grace: Annotated[
        int, typer.Option(min=0, max=86_400, help="Seconds that unpaid orders get at least, to report payments again.")
    ] = GRACE_S,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the ledger back from a file, all of it or nothing, and say what is left to do."""
    if replace and not yes:
        yes = typer.confirm(f"Replace the whole ledger by {file}?", err=True)
    manifest = read_manifest(file)
    _check_schema(manifest)
    check_dump(file, manifest)
    replaced = asyncio.run(_restore(file, manifest, data, replace=replace and yes, force=force, grace_s=grace))
    steps = what_to_do(manifest, grace_s=grace)
    if as_json:
        print_json({"restored": manifest, "replaced": replaced, "to_do": steps})
        return
    print_table(("", ""), [*_rows(manifest), ("replaced", f"{replaced['orders']} orders" if replaced else "nothing")])
    typer.echo("\nThe ledger is back as it was then. What is left to do:")
    for number, step in enumerate(steps, start=1):
        typer.echo(f"{number}. {step}")


def what_to_do(manifest: dict[str, Any], *, grace_s: int) -> list[str]:
    """What nobody but the shop can bring back; the gateway sees to all else when it starts."""
    then = manifest["made_at"]
    return [
        "Start the gateway. It recounts every shard before it sells. Orders that were made after the backup come back"
        " by themselves as far as the stream of the orders Valkey still reaches from where the backup ends (some"
        " 20,000 orders a shard, and not past an epoch that ended since); then run `peakgate audit`.",
        f"Report every payment and every refund since {then} again: repeats of what the ledger knows change nothing."
        f" Unpaid orders of then have {grace_s} seconds from the restore on, so that they do not expire meanwhile.",
        f"Compare the orders that were confirmed since {then} in your own records with the sale's export. Those that"
        " are answered as refused with reason `lost` do not come back: tell their viewers, and refund what they paid.",
        f"Cancel again what viewers cancelled since {then}; such orders are confirmed again until they expire.",
        f"Make again what was made since {then}: shops and keys (`peakgate shop list`), rooms, sales. Repeat changes of"
        " stock, price and state of sales, unless they came back with the stream.",
    ]


async def _backup(path: Path, data: Path | None) -> dict[str, Any]:
    async with _ledger_url(data, must_exist=True) as url, LedgerBackup.connect(url) as ledger:
        tools = find_tools(await ledger.server_major())
        named, environment = connection_of(url)
        with new_backup(path) as file:
            async with ledger.snapshot() as (snapshot, facts):
                options = ("--format=custom", "--no-owner", "--no-privileges", f"--lock-wait-timeout={LOCK_WAIT}")
                what = (f"--schema={facts.schema}", f"--snapshot={snapshot}", f"--dbname={named}")
                async with running(tools.argv("pg_dump", *options, *what), environment) as dump:
                    await dump.written()
                    while piece := await dump.read():
                        file.write(piece)
                    await dump.ended()
            return file.finish(_manifest(facts, tool_major=tools.major))


async def _restore(
    path: Path, manifest: dict[str, Any], data: Path | None, *, replace: bool, force: bool, grace_s: int
) -> dict[str, Any] | None:
    async with _ledger_url(data, must_exist=False) as url:
        async with LedgerBackup.connect(url) as ledger:
            before = await ledger.facts()
            await _check_target(ledger, before, manifest, replace=replace, force=force)
            tools = find_tools(await ledger.server_major(), at_least=manifest["tool_major"])
            schema = await ledger.schema()
            if force:
                await ledger.end_users()
        named, environment = connection_of(url)
        # What is in the schema, not the schema itself: that is there.
        options = ("--no-owner", "--no-privileges", f"--schema={manifest['schema']}", "--file=-")
        settings = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", f"--dbname={named}")
        async with (
            running(tools.argv("pg_restore", *options), environment) as script,
            running(tools.argv("psql", *settings), environment) as psql,
        ):
            await psql.write(restore_begins(schema).encode())

            async def feed() -> None:
                for piece in dump_of(path):
                    await script.write(piece)
                await script.written()

            async def pump() -> None:
                while piece := await script.read():
                    await psql.write(piece)

            try:
                async with asyncio.TaskGroup() as pipe:
                    pipe.create_task(feed())
                    pipe.create_task(pump())
            except* GatewayError as errors:
                raise errors.exceptions[-1] from None
            # Without its good end the transaction is left unfinished, which undoes all of it.
            await script.ended()
            await psql.write(restore_ends(schema, grace_s=grace_s).encode())
            await psql.written()
            await psql.read()
            await psql.ended()
        # A backup of an older version is brought forward; the shards are marked already.
        await migrate(url)
    return None if before is None else {"installation": before.installation, "orders": before.orders}


async def _check_target(
    ledger: LedgerBackup, before: LedgerFacts | None, manifest: dict[str, Any], *, replace: bool, force: bool
) -> None:
    strange = await ledger.strange_tables()
    if strange:
        raise Conflict(
            f"the database also has what is no ledger's ({', '.join(strange[:5])}): a restore would remove it. Restore"
            " into a database of its own"
        )
    users = await ledger.users()
    if users and not force:
        raise Conflict(
            f"a gateway uses this ledger ({users} connections or leases): stop it first, or restore with --force"
        )
    if before is None or not before.shops:
        return
    if not replace:
        raise Conflict(
            f"there is a ledger with {before.shops} shops and {before.orders} orders: to replace it by the backup, give"
            " --replace --yes"
        )
    if before.installation != manifest["installation"]:
        raise Conflict(
            "the ledger that is there is another installation's, and so is what its Valkey holds: empty both, or"
            " restore into servers of their own"
        )


def _check_schema(manifest: dict[str, Any]) -> None:
    version, newest = manifest["schema_version"], len(read_migrations(MIGRATIONS))
    if version > newest:
        raise BackupUnusable(f"the backup is of schema {version}, this version knows {newest}: use a newer version")
    if version < OLDEST_SCHEMA:
        raise BackupUnusable(
            f"the backup is of schema {version}: restore it with the version that made it, then migrate"
        )


@asynccontextmanager
async def _ledger_url(data: Path | None, *, must_exist: bool) -> AsyncIterator[str]:
    """The ledger of the URLs or of the running gateway; else the data folder's own, whose PostgreSQL is started for as
    long as it is needed. A `--data` on the command line is meant: it comes before URLs in the environment."""
    settings = read_settings(data=data)
    folder = DataFolder(settings.data)
    if settings.database_url is not None and data is None:
        yield settings.database_url
        return
    found = folder.find_running()
    if found is not None:
        yield found.database_url
        return
    if settings.database_url is not None:
        yield settings.database_url
        return
    place = folder.path / "postgres"
    if must_exist and not place.exists():
        raise BackupUnusable(f"there is no ledger in {folder.path}: give --data or set DATABASE_URL")
    await folder.acquire()
    server = PostgresServer(folder=place, sockets=folder.socket_folder(), logs=folder.path / "logs")
    try:
        await server.start()
        yield server.url
    finally:
        with contextlib.suppress(OSError):
            await server.stop(within_s=30.0)
        folder.remove_socket_folder()
        folder.release()


def _manifest(facts: LedgerFacts, *, tool_major: int) -> dict[str, Any]:
    return {
        "installation": facts.installation,
        "schema": facts.schema,
        "made_at": facts.made_at.astimezone(UTC).isoformat(timespec="seconds"),
        "schema_version": facts.schema_version,
        "server_major": facts.server_major,
        "tool_major": tool_major,
        "shops": facts.shops,
        "sales": facts.sales,
        "orders": facts.orders,
        "shards": [{"shard": shard, "epoch": epoch, "last_seq": seq} for shard, epoch, seq in facts.shards],
    }


def _rows(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    age_s = (datetime.now(UTC) - datetime.fromisoformat(manifest["made_at"])).total_seconds()
    cursors = ", ".join(f"{at['shard']}: {at['epoch']}-{at['last_seq']}" for at in manifest["shards"])
    return [
        ("made at", f"{manifest['made_at']} ({max(0, age_s):.0f} s ago)"),
        ("installation", manifest["installation"][:16]),
        ("schema", str(manifest["schema_version"])),
        ("shops, sales, orders", f"{manifest['shops']}, {manifest['sales']}, {manifest['orders']}"),
        ("shard: epoch-cursor", cursors),
        ("bytes", f"{manifest['dump_bytes']:,}"),
    ]
