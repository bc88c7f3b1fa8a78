"""The writer process: the streams of all shards into the ledger."""

import asyncio
import os
import secrets
import socket

from gateway.app.base import OnReady, serving, standing
from gateway.hot.connect import connect
from gateway.hot.stream import OrderStream
from gateway.ledger.batches import LedgerBatches
from gateway.process import settle_memory
from gateway.settings import Settings
from gateway.writer.writer import OrderWriter


async def run_writer(settings: Settings, *, on_ready: OnReady) -> int:
    """Brings the streams of all shards into the ledger, each under its lease."""
    async with standing(settings) as base:
        assert settings.valkey_url and settings.database_url
        # Blocking reads wait on purpose: each shard has its own reader, which holds one connection, and telling Valkey
        # another. Not guarded: in a rebuild the writer reads what a server holds before an epoch names it.
        clients = {shard: connect(settings.valkey_url, max_connections=3, reply_timeout_s=5.0) for shard in base.hot}
        # Names of machines and numbers of processes repeat, in containers above all.
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        writers = [
            OrderWriter(
                shard=shard,
                holder=holder,
                stream=OrderStream(client=client, shard=shard),
                ledger=LedgerBatches(settings.database_url),
                publisher=base.bus,
                mint=base.mint,
                clock=base.clock,
                batch_max=settings.writer_batch_max,
            )
            for shard, client in clients.items()
        ]
        async with serving(base, []), asyncio.TaskGroup() as group:
            running = [group.create_task(writer.run()) for writer in writers]
            settle_memory()
            on_ready({"role": "writer"})
            await base.stopping.wait()
            for writer in writers:
                writer.stop()
            # With the ledger away the stream keeps what is reserved; the next writer goes on from the cursor.
            await asyncio.wait(running, timeout=settings.drain_s * 0.8)
            for task in running:
                task.cancel()
        for writer in writers:
            await writer.close()
        for client in clients.values():
            await client.aclose()
    return 0
