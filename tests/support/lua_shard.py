"""One shard on the real Valkey as the scripts see it: groups, acts and releases in, and what the keys hold."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgpack
import redis

from gateway.hot.keys import ShardKeys
from gateway.hot.scripts import find_lua_folder

SALE = 7
# Decide-until of a request that is never late, and of one that always is.
NEVER_LATE_MS = 9_999_999_999_999
LONG_AGO_MS = 1
BACKLOG = 50_000
MINUTE_MS = 60_000


class Placed(NamedTuple):
    state: str
    epoch: int
    seq: int
    now_ms: int
    answers: list[list[Any]]

    @property
    def words(self) -> list[str]:
        return [answer[0] for answer in self.answers]


class Done(NamedTuple):
    word: str
    epoch: int
    seq: int
    now_ms: int


class Entry(NamedTuple):
    id: str
    body: list[Any]


def order(
    viewer: str = "vw_1",
    key: str = "k1",
    *,
    item: int = 1,
    quantity: int = 1,
    expect: int = -1,
    extra: str = "",
    until_ms: int = NEVER_LATE_MS,
    fingerprint: str | None = None,
    claim: tuple[int, str] | None = None,
) -> list[Any]:
    """A request of `place_orders`, its fingerprint made of its content as the gateway makes it. `claim`: number of the
    coupon, and the claim as `epoch|seq`."""
    return [
        viewer,
        key,
        fingerprint or f"{item}.{quantity}.{expect}",
        item,
        quantity,
        expect,
        extra,
        until_ms,
        *(claim or ()),
    ]


class LuaShard:
    """Calls the scripts as any client may, over one connection and with nothing of the gateway between."""

    def __init__(self, valkey_url: str, *, shard: int = 3) -> None:
        self.valkey = redis.Redis.from_url(valkey_url)
        self.keys = ShardKeys(shard)
        self._scripts: dict[str, Any] = {}

    def close(self) -> None:
        self.valkey.close()

    def call(self, name: str, keys: list[str], args: list[Any]) -> Any:
        script = self._scripts.get(name)
        if script is None:
            text = (find_lua_folder() / f"{name}.lua").read_text(encoding="utf-8")
            script = self._scripts[name] = self.valkey.register_script(text)
        return script(keys=keys, args=args)

    def now_ms(self) -> int:
        seconds, micros = self.valkey.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # The scripts.

    def open(self, *, epoch: int = 1) -> tuple[str, int, int]:
        word, at_epoch, at_seq = self.call("open_shard", [self.keys.shard], [epoch])
        return word.decode(), at_epoch, at_seq

    def load(
        self,
        items: Iterable[tuple[int, int, int, int] | tuple[int, int, int, int, int, str]] = ((1, 1900, 2, 10),),
        *,
        sale_no: int = SALE,
        hold: str = "active",
        opens_in_ms: int = -MINUTE_MS,
        closes_in_ms: int = 60 * MINUTE_MS,
        epoch: int = 1,
    ) -> str:
        """`items`: (item no, price, limit, stock), or (.., floor or 0, price plan or '')."""
        now_ms = self.now_ms()
        window = [now_ms + opens_in_ms, now_ms + closes_in_ms]
        packed = msgpack.packb([list(item) for item in items])
        word: bytes = self.call("load_sale", [self.keys.shard, self.keys.sale(sale_no)], [epoch, hold, *window, packed])
        return word.decode()

    def place(
        self,
        *requests: list[Any],
        sale_no: int = SALE,
        epoch: int = 1,
        seen: int = 0,
        backlog: int = BACKLOG,
        currency: str = "CNY",
    ) -> Placed:
        keys = self.keys
        names = [keys.shard, keys.sale(sale_no), keys.answers(sale_no), keys.units(sale_no), keys.stream]
        places: dict[int, int] = {}
        packed = []
        for request in requests:
            coupon_no = request[8] if len(request) > 8 else None
            if coupon_no is not None and coupon_no not in places:
                places[coupon_no] = len(names) + 1
                names += [keys.coupon(coupon_no), keys.coupon_claims(coupon_no)]
            packed.append(request if coupon_no is None else [*request[:8], places[coupon_no], request[9], coupon_no])
        asked = [epoch, seen, backlog, sale_no, msgpack.packb(packed, use_bin_type=False), currency]
        reply = self.call("place_orders", names, asked)
        return Placed(*msgpack.unpackb(reply))

    def act(
        self,
        act: str,
        *,
        sale_no: int = SALE,
        epoch: int = 1,
        item: int = 0,
        value: int = 0,
        actor: str = "host_1",
        key: str = "",
        fingerprint: str = "f",
        until_ms: int = NEVER_LATE_MS,
        reason: str = "",
        text: str = "",
    ) -> Done:
        keys = self.keys
        word, at_epoch, seq, now_ms = self.call(
            "control_sale",
            [keys.shard, keys.sale(sale_no), keys.acts, keys.stream],
            [epoch, sale_no, act, item, value, actor, key, fingerprint, until_ms, reason, "", text],
        )
        return Done(word.decode(), at_epoch, seq, now_ms)

    def release(self, *rows: list[Any], epoch: int = 1, sales: tuple[int, ...] = (SALE,)) -> tuple[str, int]:
        """A row: [number, sale no, item no, viewer, key, epoch, seq, quantity, kind], and of one with a claim also
        [.., number of the coupon, `epoch|seq` of the claim]; an `unclaim` has the sale no 0."""
        keys = self.keys
        names = [keys.shard]
        places, coupons = {0: 0}, {}
        for sale_no in sales:
            places[sale_no] = len(names) + 1
            names += [keys.sale(sale_no), keys.answers(sale_no), keys.units(sale_no)]
        for no in dict.fromkeys(row[9] for row in rows if len(row) > 9):
            coupons[no] = len(names) + 1
            names += [keys.coupon(no), keys.coupon_answers(no), keys.coupon_viewers(no), keys.coupon_claims(no)]
        packed = [
            [row[0], places[row[1]], *row[2:9], *([coupons[row[9]], row[10]] if len(row) > 9 else [])] for row in rows
        ]
        word, released = self.call("release_orders", names, [epoch, msgpack.packb(packed)])
        return word.decode(), released

    def revive(
        self,
        payment_no: int = 1,
        *,
        viewer: str = "vw_1",
        item: int = 1,
        quantity: int = 1,
        order_id: str = "ord_1",
        sale_no: int = SALE,
        epoch: int = 1,
        claim: tuple[int, str] | None = None,
        holder: str = "",
        retired: bool = False,
    ) -> tuple[str, int, int]:
        """(word, epoch, seq). `claim`: as of an order; `holder`: the order, as `epoch:seq`;
        `retired`: its sale left."""
        keys = self.keys
        names = [keys.shard, keys.sale(sale_no), keys.units(sale_no), keys.late(sale_no), keys.stream]
        asked: list[Any] = [epoch, sale_no, payment_no, item, viewer, quantity, order_id]
        if claim is not None:
            names.append(keys.coupon_claims(claim[0]))
            asked += [claim[1], holder, int(retired)]
        word, at_epoch, seq = self.call("revive_order", names, asked)
        return word.decode(), at_epoch, seq

    # What the keys hold.

    def everything(self) -> dict[bytes, bytes | None]:
        """Every key of the server with its content, byte by byte."""
        return {name: self.valkey.dump(name) for name in self.valkey.keys("*")}

    def hash(self, name: str) -> dict[str, str]:
        return {field.decode(): value.decode() for field, value in self.valkey.hgetall(name).items()}

    def facts(self) -> dict[str, str]:
        return self.hash(self.keys.shard)

    def sale(self, sale_no: int = SALE) -> dict[str, str]:
        return self.hash(self.keys.sale(sale_no))

    def left(self, item: int = 1, sale_no: int = SALE) -> int:
        return int(self.sale(sale_no)[f"{item}:left"])

    def held(self, item: int = 1, sale_no: int = SALE) -> int:
        return int(self.sale(sale_no)[f"{item}:held"])

    def units(self, sale_no: int = SALE) -> dict[str, str]:
        return self.hash(self.keys.units(sale_no))

    def answers(self, sale_no: int = SALE) -> dict[str, str]:
        return self.hash(self.keys.answers(sale_no))

    def late(self, sale_no: int = SALE) -> dict[str, str]:
        return self.hash(self.keys.late(sale_no))

    def stream(self) -> list[Entry]:
        entries = self.valkey.xrange(self.keys.stream)
        return [Entry(id.decode(), msgpack.unpackb(fields[b"o"])) for id, fields in entries]


class Header(NamedTuple):
    """What the comment on top of a script promises."""

    keys: int
    args: int
    words: list[set[str]]
    """The words of each list after `Returns`, in the order of the lists."""


def read_header(name: str) -> Header:
    lines = (find_lua_folder() / f"{name}.lua").read_text(encoding="utf-8").splitlines()
    header = [line.removeprefix("--") for line in lines[1:] if line.startswith("--")]
    text = "\n".join(header)
    lists: list[list[str]] = []
    returns = next(at for at, line in enumerate(header) if line.startswith(" Returns"))
    inside = False
    for line in header[returns + 1 :]:
        if line.startswith("  "):
            if not inside:
                lists.append([])
            lists[-1].append(line.strip())
            inside = True
        else:
            inside = False
    return Header(
        keys=max(int(number) for number in re.findall(r"KEYS\[(\d+)", text)),
        args=max(int(number) for number in re.findall(r"ARGV\[(\d+)", text)),
        words=[_words(part) for part in lists],
    )


def _words(lines: list[str]) -> set[str]:
    """First words between bars. What stands in parentheses explains, and may run over a line's end."""
    plain = re.sub(r"\([^)]*\)", "", "\n".join(lines))
    return {part.split()[0] for part in re.split(r"[|\n]", plain) if part.strip()}
