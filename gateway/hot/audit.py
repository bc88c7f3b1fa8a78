"""What the audit reads of the orders Valkey: one moment of a shard, and slices of a sale's hashes. Nothing is
written."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

from gateway.hot.connect import Client, hot_errors
from gateway.hot.keys import ShardKeys
from gateway.hot.scripts import Scripts
from gateway.hot.stream import RawEntry

# Fields a slice of HSCAN is asked for: about a millisecond of Valkey's time.
_SCAN_COUNT = 2000


class ItemCut(NamedTuple):
    """The fields of one item; one that is not there reads as 0, one that is no number as -1."""

    price: int
    limit: int
    stock: int
    left: int
    held: int
    floor: int
    plan: str


class SaleCut(NamedTuple):
    hold: str
    opens_at_ms: int
    closes_at_ms: int
    items: Mapping[int, ItemCut]


class Cut(NamedTuple):
    """One moment of a shard. A shard that Valkey does not have reads as epoch 0.

    `entries` are those behind the cursor; None when more sequence numbers stand there than were to be read at once, or
    when the shard is of another epoch. `sales` and `coupons` have those asked for that Valkey has, a coupon as its
    fields. `answers` and `units` have what the named fields hold; a field that is not there is left out.
    `distrusts_clocks`: the keeper has paused opening.
    """

    now_ms: int
    epoch: int
    seq: int
    applied: int
    released: int
    open: bool
    distrusts_clocks: bool
    entries: Sequence[RawEntry] | None
    sales: Mapping[int, SaleCut]
    coupons: Mapping[int, Mapping[str, str]]
    answers: Mapping[str, str]
    units: Mapping[str, int]


class HotAudit:
    """Reads any shard. A cut is one script call; scans are slices, each of its own moment.

    `rest_share` is for how long a scan rests after each slice, as a share of the time that it and its use took."""

    def __init__(self, *, client: Client, scripts: Scripts, rest_share: float = 0.0) -> None:
        self._client = client
        self._rest_share = rest_share
        self._cut = scripts.named("audit_cut")

    async def cut(
        self,
        shard: int,
        *,
        epoch: int,
        after: int,
        most: int,
        sales: Sequence[int] = (),
        coupons: Sequence[int] = (),
        named_sale: int = 0,
        named_coupon: int = 0,
        answers: Sequence[str] = (),
        claims: Sequence[str] = (),
        units: Sequence[str] = (),
    ) -> Cut:
        """The shard behind the cursor (`epoch`, `after`) with at most `most` sequence numbers of entries.

        `answers` and `units` name fields of `named_sale`; of `named_coupon` they are its keys and its viewers, and
        `claims` names its claims instead of keys, and is answered as these are. Callers keep what one call reads small:
        a few sales, a few hundred fields."""
        keys = ShardKeys(shard)
        named = [keys.answers(named_sale), keys.units(named_sale)]
        if named_coupon:
            texts = keys.coupon_claims(named_coupon) if claims else keys.coupon_answers(named_coupon)
            named = [texts, keys.coupon_viewers(named_coupon)]
        fields = claims or answers
        reply = await self._cut(
            [
                keys.shard,
                keys.stream,
                *named,
                *(keys.sale(sale_no) for sale_no in sales),
                *(keys.coupon(coupon_no) for coupon_no in coupons),
            ],
            [epoch, after, most, len(fields), *map(_bytes, fields), *map(_bytes, units)],
        )
        word, now_ms, facts, entries, held, had, hashes = reply
        at_epoch, seq, applied, released, is_open, opens_up_to = facts
        return Cut(
            now_ms=now_ms,
            epoch=int(at_epoch or 0),
            seq=int(seq or 0),
            applied=int(applied or 0),
            released=int(released or 0),
            open=is_open == b"1",
            distrusts_clocks=opens_up_to is not None,
            entries=[_entry(id, body) for id, body in entries] if word == b"whole" else None,
            sales={sale_no: _sale(flat) for sale_no, flat in zip(sales, hashes, strict=False) if flat},
            coupons={no: _texts(flat) for no, flat in zip(coupons, hashes[len(sales) :], strict=True) if flat},
            answers={field: _text(value) for field, value in zip(fields, held, strict=True) if value is not None},
            units={field: _number(value) for field, value in zip(units, had, strict=True) if value is not None},
        )

    def scan_answers(self, shard: int, sale_no: int) -> AsyncIterator[Mapping[bytes, bytes]]:
        """Answers by viewer|key in slices. What is there throughout is given at least once, some of it twice."""
        return self._scan(ShardKeys(shard).answers(sale_no))

    def scan_units(self, shard: int, sale_no: int) -> AsyncIterator[Mapping[bytes, bytes]]:
        """Units by viewer|item no in slices; see `scan_answers`."""
        return self._scan(ShardKeys(shard).units(sale_no))

    def scan_claim_answers(self, shard: int, coupon_no: int) -> AsyncIterator[Mapping[bytes, bytes]]:
        return self._scan(ShardKeys(shard).coupon_answers(coupon_no))

    def scan_claim_viewers(self, shard: int, coupon_no: int) -> AsyncIterator[Mapping[bytes, bytes]]:
        return self._scan(ShardKeys(shard).coupon_viewers(coupon_no))

    def scan_claims(self, shard: int, coupon_no: int) -> AsyncIterator[Mapping[bytes, bytes]]:
        return self._scan(ShardKeys(shard).coupon_claims(coupon_no))

    async def _scan(self, key: str) -> AsyncIterator[Mapping[bytes, bytes]]:
        cursor = 0
        while True:
            began_s = monotonic()
            with hot_errors():
                reply: Any = await self._client.hscan(key, cursor, count=_SCAN_COUNT)
            cursor = int(reply[0])
            yield reply[1]
            if cursor == 0:
                return
            if self._rest_share:
                await asyncio.sleep((monotonic() - began_s) * self._rest_share)


def _entry(id: bytes, body: bytes) -> RawEntry:
    epoch, _, last = id.partition(b"-")
    return RawEntry(int(epoch), int(last), body)


def _sale(flat: Sequence[bytes]) -> SaleCut:
    fields = dict(zip(map(_text, flat[::2]), flat[1::2], strict=True))
    numbers = {int(name.partition(":")[0]) for name in fields if name.partition(":")[0].isdecimal()}
    items = {number: _item(fields, f"{number}:") for number in numbers}
    hold = _text(fields.get("hold", b""))
    return SaleCut(hold, _number(fields.get("opens_at", b"0")), _number(fields.get("closes_at", b"0")), items)


def _item(fields: Mapping[str, bytes], prefix: str) -> ItemCut:
    def number(name: str) -> int:
        return _number(fields.get(prefix + name, b"0"))

    return ItemCut(
        price=number("price"),
        limit=number("limit"),
        stock=number("stock"),
        left=number("left"),
        held=number("held"),
        floor=number("floor"),
        plan=_text(fields.get(prefix + "plan", b"")),
    )


def _texts(flat: Sequence[bytes]) -> dict[str, str]:
    return dict(zip(map(_text, flat[::2]), map(_text, flat[1::2]), strict=True))


# The audit also reads what should not be there: bytes that are no text come back as they were when they are asked for.


def _number(value: bytes) -> int:
    try:
        return int(value)
    except ValueError:
        return -1


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
