"""A shard in rebuild, as Valkey has it: the bindings of the scripts that shut, fill and open it.

Everything goes over connections to one server. Another one under the same address is refused (`ServerUnknown`), so the
steps of one rebuild never fall on two servers. Each rebuild carries a token of the ledger; what a script would do for
another one than the latest is refused with `RebuildLost`, so a rebuilder that was stopped and goes on changes nothing.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from gateway.errors import RebuildLost
from gateway.hot.connect import Client, KnownServers, connect, hot_errors, renew, run_id_of
from gateway.hot.keys import ShardKeys
from gateway.hot.scripts import Scripts

_pack = msgspec.msgpack.Encoder().encode

# Fields a script call: about a millisecond of Valkey's time, and well under what `unpack` takes.
FIELDS_AT_ONCE = 1000
# Calls in flight while a shard is filled: one sync of the file covers them all.
CALLS_IN_FLIGHT = 8
_KEYS_AT_ONCE = 200
_REPLY_WITHIN_S = 10.0
# A server may live on while its address already leads to another one: what stands where is asked over connections no
# older than this.
_RENEW_EVERY_S = 1.0


class ShardStand(NamedTuple):
    """How a shard stands, and on which server; what it does not have reads as 0."""

    run_id: str
    epoch: int
    seq: int
    released: int
    open: bool
    loading: int
    """Token of the rebuild that fills it."""

    @property
    def there(self) -> bool:
        return bool(self.epoch or self.loading)


async def read_stand(client: Client, shard: int) -> ShardStand:
    """Both answers come over one connection, so they are of one server."""
    with hot_errors():
        pipe = client.pipeline(transaction=False)
        pipe.execute_command("INFO", "server", NEVER_DECODE=True)
        pipe.hmget(ShardKeys(shard).shard, ["epoch", "seq", "released", "open", "loading"])
        info, (epoch, seq, released, is_open, loading) = await pipe.execute()
    run_id = info["run_id"] if isinstance(info, dict) else run_id_of(info)
    return ShardStand(run_id, int(epoch or 0), int(seq or 0), int(released or 0), is_open == b"1", int(loading or 0))


class HotRebuilds:
    """Where the shards stand, and a hold on one server for whoever rebuilds a shard there. `client` is not guarded."""

    def __init__(self, *, url: str, client: Client) -> None:
        self._url = url
        self._client = client
        self._renew_at_s = 0.0

    async def stand(self, shard: int) -> ShardStand:
        """Of the server that a new connection reaches, or reached a second ago."""
        now_s = time.monotonic()
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + _RENEW_EVERY_S
            renew(self._client)
        return await read_stand(self._client, shard)

    @asynccontextmanager
    async def on(self, run_id: str, shard: int) -> AsyncIterator["HotRebuild"]:
        client = connect(
            self._url,
            max_connections=CALLS_IN_FLIGHT + 1,
            reply_timeout_s=_REPLY_WITHIN_S,
            wait_s=_REPLY_WITHIN_S,
            known=KnownServers(run_id),
        )
        try:
            yield HotRebuild(client=client, shard=shard)
        finally:
            await client.aclose()


class HotRebuild:
    """Each step may be repeated. Raises HotUnavailable when its effect is unknown."""

    def __init__(self, *, client: Client, shard: int) -> None:
        scripts = Scripts(client)
        self._client = client
        self._keys = ShardKeys(shard)
        self._shard = shard
        self._create = scripts.named("open_shard")
        self._shut = scripts.named("shut_shard")
        self._advance = scripts.named("advance_shard")
        self._begin = scripts.named("begin_load")
        self._drop = scripts.named("drop_keys")
        self._fill = scripts.named("load_fields")
        self._open = scripts.named("open_loaded")

    async def stand(self) -> ShardStand:
        return await read_stand(self._client, self._shard)

    async def create(self, epoch: int) -> None:
        """A new shard sells from here on; one that is there is left as it is."""
        await self._create([self._keys.shard], [epoch])

    async def shut(self, seen_epoch: int, token: int = 0) -> bool:
        """From here on no rebuild with an older token changes the shard. True: one was filling it."""
        word: bytes = await self._shut([self._keys.shard], [seen_epoch, token])
        if word == b"moved":
            raise RebuildLost(f"shard {self._shard} was rebuilt meanwhile")
        return word == b"filling"

    async def last_entry(self, epoch: int) -> int:
        """The last sequence number that the stream has of an epoch; 0 when it has none."""
        with hot_errors():
            reply: Any = await self._client.xrevrange(self._keys.stream, max=str(epoch), min=str(epoch), count=1)
        return int(reply[0][0].partition(b"-")[2]) if reply else 0

    async def newest_epoch(self) -> int:
        """The highest epoch that ever had an entry in the stream, whatever was trimmed of it."""
        with hot_errors():
            if not await self._client.exists(self._keys.stream):
                return 0
            found: Any = await self._client.xinfo_stream(self._keys.stream)
        last_id: bytes = found.get("last-generated-id") or found.get(b"last-generated-id")
        return int(last_id.partition(b"-")[0])

    async def has_sales(self, sale_nos: Sequence[int]) -> bool:
        """Whether every one of them is there."""
        return await self._has([self._keys.sale(sale_no) for sale_no in sale_nos])

    async def has_coupons(self, coupon_nos: Sequence[int]) -> bool:
        return await self._has([self._keys.coupon(coupon_no) for coupon_no in coupon_nos])

    async def _has(self, keys: Sequence[str]) -> bool:
        with hot_errors():
            for at in range(0, len(keys), _KEYS_AT_ONCE):
                names = keys[at : at + _KEYS_AT_ONCE]
                if await self._client.exists(*names) != len(names):
                    return False
        return True

    async def advance(self, *, ended_epoch: int, ended_seq: int, epoch: int, token: int) -> bool:
        """False when the shard is not where the epoch ended: it has to be recounted."""
        word = await self._advance([self._keys.shard], [ended_epoch, ended_seq, epoch, token])
        return bool(word == b"advanced")

    # A recount.

    async def begin(self, token: int) -> None:
        """From here on nothing but this rebuild changes the shard; all that it held is forgotten."""
        self._still_ours(await self._begin([self._keys.shard], [token]), b"begun")
        kept = {self._keys.shard.encode(), self._keys.stream.encode()}
        cursor = 0
        while True:
            with hot_errors():
                reply: Any = await self._client.scan(cursor, match=self._keys.pattern, count=1000)
            cursor = int(reply[0])
            found: list[bytes] = [name for name in reply[1] if name not in kept]
            if found:
                keys = [self._keys.shard, *(name.decode() for name in found)]
                self._still_ours(await self._drop(keys, [token]), b"dropped")
            if cursor == 0:
                return

    async def fill_sale(self, token: int, sale_no: int, fields: Sequence[str | int]) -> None:
        """The fields of the sale's own hash and their values, one after the other; so too with the others."""
        await self._fill_part(token, self._keys.sale(sale_no), fields)

    async def fill_answers(self, token: int, sale_no: int, fields: Sequence[str]) -> None:
        await self._fill_part(token, self._keys.answers(sale_no), fields)

    async def fill_units(self, token: int, sale_no: int, fields: Sequence[str]) -> None:
        await self._fill_part(token, self._keys.units(sale_no), fields)

    async def fill_coupon(self, token: int, coupon_no: int, fields: Sequence[str]) -> None:
        await self._fill_part(token, self._keys.coupon(coupon_no), fields)

    async def fill_coupon_answers(self, token: int, coupon_no: int, fields: Sequence[str]) -> None:
        await self._fill_part(token, self._keys.coupon_answers(coupon_no), fields)

    async def fill_coupon_viewers(self, token: int, coupon_no: int, fields: Sequence[str]) -> None:
        await self._fill_part(token, self._keys.coupon_viewers(coupon_no), fields)

    async def fill_coupon_claims(self, token: int, coupon_no: int, fields: Sequence[str]) -> None:
        await self._fill_part(token, self._keys.coupon_claims(coupon_no), fields)

    async def fill_acts(self, token: int, fields: Sequence[str]) -> None:
        await self._fill_part(token, self._keys.acts, fields)

    async def open(self, *, token: int, epoch: int, released: int) -> None:
        self._still_ours(await self._open([self._keys.shard], [token, epoch, released]), b"opened")

    async def _fill_part(self, token: int, key: str, fields: Sequence[str | int]) -> None:
        for at in range(0, len(fields), 2 * FIELDS_AT_ONCE):
            packed = _pack(fields[at : at + 2 * FIELDS_AT_ONCE])
            self._still_ours(await self._fill([self._keys.shard, key], [token, packed]), b"loaded")

    def _still_ours(self, word: bytes, wanted: bytes) -> None:
        if word != wanted:
            raise RebuildLost(f"shard {self._shard}: {word.decode()}")
