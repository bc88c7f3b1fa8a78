"""Rebuilds a shard that Valkey lost, in part or as a whole: a new epoch of the ledger, and counters the ledger stands
behind.

The steps, each repeatable by whoever comes next:

1. fence and shut: the rebuild takes a token from the ledger and shuts the shard under it. From here on nothing more is
   decided from counters that are in doubt, and no rebuild that began before ends an epoch or opens this server. What
   the shard was when it was shut is then certain.
2. drain: what the stream still holds of the epoch becomes rows of the ledger; the writer does that.
3. move: one transaction ends the epoch where it was drained to and begins the next. From here on whatever the old epoch
   promised and the ledger does not have is lost, and is told so.
4. advance, where Valkey has all that the ledger has; else recount: the shard is given up, the ledger is read in one
   moment behind that, and the shard is filled from it.
5. open, and tell the ledger.

Settlement goes on in the ledger meanwhile. What it releases has numbers past the recount's own, and is applied to
Valkey once the shard sells.
"""

import asyncio

import structlog

from gateway import points
from gateway.clock import Clock
from gateway.errors import GatewayError, RebuildLost
from gateway.keeper.rebuild_fill import fill
from gateway.keeper.rebuild_ports import Hot, Ledger, Stand, Standing, Valkey
from gateway.metrics import REBUILD_SECONDS

log = structlog.get_logger(__name__)

MAX_EPOCH = 65_535
# While the stream is not drained the shard is shut, so the ledger is asked often and people are told.
_DRAIN_ASK_EVERY_S = 0.02
_DRAIN_ALARM_EVERY_S = 5.0
# After this long the whole rebuild begins anew: its server may be gone.
_DRAIN_MOST_S = 30.0
_LOSSES = frozenset({"missing", "epoch", "behind", "released", "gap"})


class Rebuilder:
    """Says whether a shard may sell, and makes it so that it may."""

    def __init__(self, *, ledger: Ledger, valkey: Valkey, clock: Clock) -> None:
        self._ledger = ledger
        self._valkey = valkey
        self._clock = clock

    async def look(self, shard: int) -> tuple[Standing, Stand, str]:
        """Both sides, and why the shard must not sell: empty when all is well, `new` when nobody has opened it yet.

        The ledger is read first. What it has of Valkey only grows there, so no step between the two looks wrong.
        """
        row = await self._ledger.standing(shard)
        stand = await self._valkey.stand(shard)
        why = doubt(row, stand)
        if not why and stand.released > row.outbox_no:
            # More may have been released since the ledger was read.
            newer = await self._ledger.standing(shard)
            why = "released" if stand.released > newer.outbox_no else ""
        return row, stand, why

    async def mend(self, shard: int) -> bool:
        """Rebuilds the shard if there is still a reason to. False: another rebuilder is at it."""
        async with self._ledger.alone(shard) as mine:
            if not mine:
                return False
            row, stand, why = await self.look(shard)
            if not why:
                return True
            began_s = self._clock.monotonic()
            async with self._valkey.on(stand.run_id, shard) as hot:
                if why == "new":
                    await hot.create(row.epoch)
                    await self._ledger.adopt(shard, row.epoch, stand.run_id)
                    log.info("shard_created", shard=shard, epoch=row.epoch)
                    return True
                # A server that was restarted with its file is no loss yet, and a wish is none.
                said = log.critical if why in _LOSSES else log.warning
                said("shard_lost", shard=shard, epoch=row.epoch, why=why, server=stand.run_id)
                epoch, how, orders = await self._rebuild(hot, row, stand, why)
            took_s = self._clock.monotonic() - began_s
            REBUILD_SECONDS.set(took_s)
            log.warning("shard_rebuilt", shard=shard, epoch=epoch, how=how, orders=orders, took_s=round(took_s, 3))
            return True

    async def _rebuild(self, hot: Hot, row: Standing, stand: Stand, why: str) -> tuple[int, str, int | None]:
        shard = row.shard
        if sells_already(row, stand):
            await self._ledger.finish(shard, epoch=row.epoch, token=None, orders=None)
            return row.epoch, "found", None
        epoch = row.epoch
        token = await self._ledger.fence(shard, epoch=epoch, token=row.load_token)
        filling = await hot.shut(stand.epoch, token)
        points.reach("rebuild.shut")
        row = await self._ours(shard, epoch, token)
        if row.reopen is not None and goes_on(row, stand, filling=filling):
            how, ended_epoch, ended_seq = row.reopen, row.ended_epoch, row.ended_seq
        else:
            ended_epoch = epoch
            how, epoch, token, ended_seq = await self._end_epoch(hot, stand.run_id, epoch, token, why, shard)
        if how == "advance":
            if await hot.advance(ended_epoch=ended_epoch, ended_seq=ended_seq, epoch=epoch, token=token):
                orders = None
            else:
                how = "recount"
                token = await self._ledger.take_over(shard, epoch=epoch, token=token, how=how)
        if how == "recount":
            orders = await self._recount(hot, shard, epoch, token)
        points.reach("rebuild.opened")
        await self._ledger.finish(shard, epoch=epoch, token=token, orders=orders)
        return epoch, how, orders

    async def _ours(self, shard: int, epoch: int, token: int) -> Standing:
        """The ledger's row of the shard. Raises RebuildLost when another rebuild has begun."""
        row = await self._ledger.standing(shard)
        if (row.epoch, row.load_token) != (epoch, token):
            raise RebuildLost(f"shard {shard} has been taken over")
        return row

    async def _end_epoch(
        self, hot: Hot, run_id: str, ending: int, token: int, why: str, shard: int
    ) -> tuple[str, int, int, int]:
        """How the next epoch is to begin, its number, the token to go on with, and the last number of the one that
        ended."""
        await self._shut_strangers(shard, run_id)
        last_seq = await self._drained(hot, shard, ending)
        points.reach("rebuild.drained")
        row, stand = await self._ours(shard, ending, token), await hot.stand()
        whole = (
            why not in {"missing", "behind", "epoch"}
            and row.wants is None
            and (stand.epoch, stand.seq) == (row.epoch, last_seq)
            and row.forgotten <= stand.released <= row.outbox_no
            and await hot.has_sales(await self._ledger.loaded_sales(shard))
            and await hot.has_coupons(await self._ledger.loaded_coupons(shard))
        )
        # Past whatever epoch this server has ever heard of: entries and order ids of two epochs must never meet.
        epoch = max(row.epoch, stand.epoch, await hot.newest_epoch()) + 1
        if epoch > MAX_EPOCH:
            raise GatewayError(f"shard {shard} has used up its {MAX_EPOCH} epochs")
        how = "advance" if whole else "recount"
        token = await self._ledger.next_epoch(
            shard, epoch=ending, last_seq=last_seq, token=token, next_epoch=epoch, run_id=run_id, why=why, how=how
        )
        points.reach("rebuild.moved")
        return how, epoch, token, last_seq

    async def _shut_strangers(self, shard: int, run_id: str) -> None:
        """Shuts every other shard on this server whose epoch names another one. Once an epoch of any shard names the
        server, processes talk to it about all of them."""
        for row in await self._ledger.all():
            if row.shard != shard and row.run_id is not None and row.run_id != run_id:
                async with self._valkey.on(run_id, row.shard) as hot:
                    await hot.shut((await hot.stand()).epoch)

    async def _drained(self, hot: Hot, shard: int, epoch: int) -> int:
        """The ledger's cursor once it has all that the stream holds of the epoch. Nothing is added: the shard is
        shut."""
        last = await hot.last_entry(epoch)
        began_s = told_s = self._clock.monotonic()
        while True:
            at_epoch, seq = await self._ledger.cursor(shard)
            if at_epoch != epoch:
                raise RebuildLost(f"shard {shard} is in epoch {at_epoch}")
            if seq >= last:
                return seq
            now_s = self._clock.monotonic()
            if now_s - told_s >= _DRAIN_ALARM_EVERY_S:
                told_s = now_s
                log.critical("rebuild_waits_for_writer", shard=shard, epoch=epoch, cursor=seq, last=last)
            if now_s - began_s >= _DRAIN_MOST_S:
                raise GatewayError(f"shard {shard}: the writer is at {seq} of {last}")
            await asyncio.sleep(_DRAIN_ASK_EVERY_S)

    async def _recount(self, hot: Hot, shard: int, epoch: int, token: int) -> int:
        """Fills the shard and opens it; how many answers it has."""
        # Given up first, read then: what was released in Valkey before that is in the snapshot, and nothing is after.
        await hot.begin(token)
        points.reach("rebuild.loading")
        async with self._ledger.recount(shard, epoch=epoch, token=token) as recount:
            orders = await fill(hot, token, shard, recount)
        points.reach("rebuild.loaded")
        await hot.open(token=token, epoch=epoch, released=recount.outbox_no)
        return orders


def doubt(row: Standing, stand: Stand) -> str:
    """Why a shard must not sell as it stands; empty when nothing speaks against it."""
    if row.reopen is not None:
        return "unfinished"
    if not stand.there:
        untouched = not row.opened and row.last_seq == 0 and row.outbox_no == 0
        return "new" if untouched else "missing"
    if row.run_id is not None and row.run_id != stand.run_id:
        return "server"
    if stand.epoch != row.epoch:
        return "epoch"
    if stand.seq < row.last_seq:
        return "behind"
    if stand.released < row.forgotten:
        return "released"
    if row.wants is not None:
        return row.wants
    return "" if stand.open else "shut"


def sells_already(row: Standing, stand: Stand) -> bool:
    """Whoever began the epoch opened it and did not come to say so."""
    return row.reopen is not None and stand.open and (stand.run_id, stand.epoch) == (row.run_id, row.epoch)


def goes_on(row: Standing, stand: Stand, *, filling: bool) -> bool:
    """Whether the epoch that the ledger began can still be opened: it is certain that nothing was sold in it, because
    this server, now shut under our token, still had what was there before it, or a recount that was not ended
    (`filling`)."""
    return stand.run_id == row.run_id and row.last_seq == 0 and (filling or stand.epoch == row.ended_epoch)
