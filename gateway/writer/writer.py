"""The writer's loop over one shard: lease, read behind the cursor, apply, tell.

The cursor moves in the same transaction as the orders, so a batch is applied once whatever dies when. What the writer
knows beside it (the lease, the next entries) is only ever a guess that the transaction checks.
"""

import asyncio
import random
from collections.abc import Sequence

import msgspec
import structlog

from gateway.clock import Clock
from gateway.domain.batch import Lease, Place
from gateway.domain.ids import IdMint
from gateway.errors import GatewayError, LeaseLost
from gateway.wire import bus, entries
from gateway.writer.batch import Unreadable, fold
from gateway.writer.news import Newsroom
from gateway.writer.ports import Entry, Ledger, Publisher, Stream
from gateway.writer.steps import Steps

log = structlog.get_logger(__name__)

LEASE_S = 2.0  # how long confirmations wait, at most, after a writer was killed
_IDLE_WAIT_MS = 400  # below a third of the lease, so that an idle writer prolongs it in time
_READ_ENTRIES = 64  # groups read at once; under a full load that is a dozen batches
# A batch begins no sooner than this after the one before, unless the stream holds a full one: a commit costs the same
# for one order as for fifty. A lone order finds the last batch long ago and waits for nothing.
_FLUSH_EVERY_S = 0.004
_KEEP_SEQS = 20_000  # what stays in the stream behind the cursor, for the audit
_GIVE_LEASE_WITHIN_S = 0.3
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
# An idle writer asks this often which server is there: the one it reads may live on while its name leads elsewhere, and
# a rebuild waits until the writer has read what the new one holds of the epoch.
_RENEW_EVERY_S = 1.0


class OrderWriter:
    """Applies one shard's stream to the ledger for as long as it holds the shard's lease. An outage is waited for."""

    def __init__(
        self,
        *,
        shard: int,
        holder: str,
        stream: Stream,
        ledger: Ledger,
        publisher: Publisher,
        mint: IdMint,
        clock: Clock,
        batch_max: int,
    ) -> None:
        self._shard = shard
        self._holder = holder
        self._stream = stream
        self._ledger = ledger
        self._publisher = publisher
        self._mint = mint
        self._clock = clock
        self._batch_max = batch_max
        self._steps = Steps(shard=shard, ledger=ledger, clock=clock)
        self._newsroom = Newsroom(ledger)
        self._lease: Lease | None = None
        self._stopping = asyncio.Event()
        self.caught_up = asyncio.Event()
        """Set while the stream has nothing the ledger lacks."""

    def stop(self) -> None:
        """Finish what the stream holds, then return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while not (self._stopping.is_set() and self.caught_up.is_set()):
            try:
                self._lease = await self._ledger.take_lease(self._shard, holder=self._holder, for_s=LEASE_S)
                if self._lease is None:
                    if self._stopping.is_set():
                        break
                    await asyncio.sleep(LEASE_S / 8)
                else:
                    log.info("writer_holds_shard", shard=self._shard, seq=self._lease.last_seq)
                    pause_s = _SHORTEST_PAUSE_S
                    await self._apply_stream(self._lease)
            except* LeaseLost as errors:
                log.warning("lease_lost", shard=self._shard, error=str(errors.exceptions[0]))
            except* GatewayError as errors:
                log.warning("writer_waits", shard=self._shard, error=str(errors.exceptions[0]))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Gives the lease back, so that the next writer need not wait for its end."""
        try:
            # A connection whose query was cancelled may first have to hear of that from a server that hangs.
            async with asyncio.timeout(_GIVE_LEASE_WITHIN_S):
                if self._lease is not None:
                    await self._ledger.give_lease(self._shard, self._lease.token)
        except (GatewayError, TimeoutError):
            pass
        await self._ledger.close()

    async def _apply_stream(self, lease: Lease) -> None:
        """Applies entries until the lease is lost, a server is away or the writer is told to stop and has caught up."""
        epoch, seq = lease.epoch, lease.last_seq
        prolong_at_s = self._clock.monotonic() + LEASE_S / 3
        renew_at_s = self._clock.monotonic() + _RENEW_EVERY_S
        self._stream.renew()
        async with asyncio.TaskGroup() as tasks:
            flushed_at_s = 0.0
            telling = tasks.create_task(self._stream.applied(epoch, seq, keep=_KEEP_SEQS))
            try:
                while True:
                    found = await self._read(epoch, seq, wait=not self._stopping.is_set())
                    if found:
                        self.caught_up.clear()
                        early_s = flushed_at_s + _FLUSH_EVERY_S - self._clock.monotonic()
                        if early_s > 0 and len(found) < _READ_ENTRIES:
                            await asyncio.sleep(early_s)
                            found += await self._read(epoch, found[-1].last, wait=False)
                        flushed_at_s = self._clock.monotonic()
                        told = await self._apply(lease, found, seq)
                        seq = found[-1].last
                        # Telling runs beside the next read and transaction.
                        await telling
                        telling = tasks.create_task(self._tell(epoch, seq, told))
                    else:
                        self.caught_up.set()
                        if self._stopping.is_set():
                            break
                        if self._clock.monotonic() >= renew_at_s:
                            renew_at_s = self._clock.monotonic() + _RENEW_EVERY_S
                            self._stream.renew()
                    if self._clock.monotonic() >= prolong_at_s:
                        prolong_at_s = self._clock.monotonic() + LEASE_S / 3
                        held = await self._ledger.take_lease(self._shard, holder=self._holder, for_s=LEASE_S)
                        if held is None or held.token != lease.token or held.epoch != epoch:
                            raise LeaseLost
            finally:
                await asyncio.wait([telling])

    async def _read(self, epoch: int, after: int, *, wait: bool) -> list[Entry]:
        wait_ms = _IDLE_WAIT_MS if wait else 0
        found = await self._stream.read(epoch, after, count=_READ_ENTRIES, wait_ms=wait_ms)
        ours = [entry for entry in found if entry.epoch == epoch]
        if found and not ours and wait:
            # The stream is in a later epoch. So is the ledger, or it will be once the shard is rebuilt.
            held = await self._ledger.take_lease(self._shard, holder=self._holder, for_s=LEASE_S)
            if held is None or held.epoch != epoch:
                raise LeaseLost(f"epoch {epoch} has ended")
            await asyncio.sleep(_IDLE_WAIT_MS / 1000)
        return ours

    async def _apply(self, lease: Lease, found: Sequence[Entry], after: int) -> list[bus.ShopOrders]:
        """What is to be told of it, a shop."""
        news = self._newsroom.news()
        decoded = map(_decode, found)
        for step in fold(decoded, epoch=lease.epoch, after=after, most=self._batch_max, mint=self._mint):
            await self._steps.apply(Place(self._shard, lease.epoch, step.after, step.last, lease.token), step, news)
        return news.shops()

    async def _tell(self, epoch: int, seq: int, shops: list[bus.ShopOrders]) -> None:
        """Viewers first; the mark in Valkey only bounds the backlog."""
        await self._publisher.publish(
            bus.encode(bus.Applied(self._shard, epoch, seq, msgspec.Raw(bus.encode_shops(shops))))
        )
        await self._stream.applied(epoch, seq, keep=_KEEP_SEQS)


def _decode(entry: Entry) -> entries.Entry | Unreadable:
    try:
        found: entries.Entry = entries.decode(entry.body)
        return found
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Unreadable(entry.last, entry.body, str(error))
