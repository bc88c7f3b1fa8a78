"""The binding of `lua/control_sale.lua`: one act of a host on a sale."""

from typing import NamedTuple

from gateway import points
from gateway.clock import Clock
from gateway.domain.acts import Act
from gateway.domain.order import DECIDE_WITHIN_S
from gateway.errors import Conflict, KeyReused, ShardClosed, StockInUse, Unavailable
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard


class ActDone(NamedTuple):
    """The act is in force. It is kept once the ledger has applied `seq` of `epoch` (0: it has already)."""

    epoch: int
    seq: int
    replayed: bool


class HotControl:
    """Acts on the sales of one shard, in the same stream as its orders."""

    def __init__(self, *, shard: HotShard, scripts: Scripts, clock: Clock) -> None:
        self._shard = shard
        self._control = scripts.named("control_sale")
        self._clock = clock

    async def act(
        self,
        sale_no: int,
        act: Act,
        *,
        actor: str,
        item_no: int = 0,
        value: int = 0,
        key: str = "",
        fingerprint: str = "",
        reason: str = "",
        shop: str = "",
        text: str = "",
        arrived_s: float | None = None,
    ) -> ActDone:
        """`text`: of a plan its steps, of a window when it closes; `value` of a window is when it opens.

        Raises Conflict (closed is final, or the window cannot be so), StockInUse, KeyReused, ShardClosed or
        Unavailable: nothing happened then. Raises HotUnavailable when the reply was lost; repeating the same act is
        harmless."""
        shard, keys = self._shard, self._shard.keys
        now_s = self._clock.monotonic()
        # A repeat after a lost reply is still the same request: its time runs from its arrival.
        until_s = (now_s if arrived_s is None else arrived_s) + DECIDE_WITHIN_S
        if not shard.clock.known:
            await shard.read_clock(now_s)
        points.reach("control.script.before")
        word, epoch, seq, now_ms = await self._control(
            [keys.shard, keys.sale(sale_no), keys.acts, keys.stream],
            [
                shard.epoch,
                sale_no,
                str(act),
                item_no,
                value,
                actor,
                key,
                fingerprint,
                shard.clock.ms_at(until_s),
                reason,
                shop,
                text,
            ],
        )
        points.reach("control.script.after")
        shard.clock.learn(now_ms, now_s)
        match str(word, "ascii"):
            case "done" | "same" | "replayed" as done:
                return ActDone(epoch, seq, done == "replayed")
            case "ended":
                raise Conflict("The sale is closed; closed is final.")
            case "started":
                raise Conflict("The sale has begun; when it opened stays.")
            case "past":
                raise Conflict("The sale would close at once, or before it opens.")
            case "in_use":
                raise StockInUse
            case "key_reused":
                raise KeyReused
            case "late":
                raise Unavailable(retry_after_ms=500)
            case other:
                self._shard.doubt()
                raise ShardClosed(f"shard {shard.shard}: {other}")
