"""Every key in Valkey is spelled here. All keys of one shard share a hash tag, so one script may touch any of them."""


class ShardKeys:
    """The keys of one shard on the orders Valkey. What belongs to a sale or a coupon is apart, so that it can be
    retired as a whole."""

    __slots__ = ("_tag", "acts", "pattern", "shard", "stream")

    def __init__(self, shard: int) -> None:
        self._tag = f"{{s{shard}}}"
        self.shard = f"{self._tag}:shard"
        self.stream = f"{self._tag}:stream"
        # Of all sales: a host's key is the shop's, whatever sale it was used on.
        self.acts = f"{self._tag}:acts"
        self.pattern = f"{self._tag}:*"
        """Matches every key of the shard."""

    def sale(self, sale_no: int) -> str:
        return f"{self._tag}:sale:{sale_no}"

    def answers(self, sale_no: int) -> str:
        return f"{self._tag}:sale:{sale_no}:answers"

    def units(self, sale_no: int) -> str:
        return f"{self._tag}:sale:{sale_no}:units"

    def late(self, sale_no: int) -> str:
        return f"{self._tag}:sale:{sale_no}:late"

    def coupon(self, coupon_no: int) -> str:
        return f"{self._tag}:coupon:{coupon_no}"

    def coupon_answers(self, coupon_no: int) -> str:
        return f"{self._tag}:coupon:{coupon_no}:answers"

    def coupon_viewers(self, coupon_no: int) -> str:
        return f"{self._tag}:coupon:{coupon_no}:viewers"

    def coupon_claims(self, coupon_no: int) -> str:
        return f"{self._tag}:coupon:{coupon_no}:claims"


ROOM_SHARDS = 16
"""Rooms share hash tags by their number, so that a cluster spreads them and a few calls reach all of a process."""


class RoomKeys:
    """The keys of one room on the rooms Valkey."""

    __slots__ = (
        "all",
        "archive",
        "archive_size",
        "channel",
        "crowd",
        "mutes",
        "pending",
        "room",
        "said",
        "seats",
        "spoke",
        "stock",
        "ticks",
        "untold",
    )

    def __init__(self, room_no: int) -> None:
        tag = f"{{r{room_no % ROOM_SHARDS}}}"
        place = f"{tag}:room:{room_no}"
        self.room = place
        self.pending = f"{place}:pending"
        self.ticks = f"{place}:ticks"
        self.crowd = f"{place}:crowd"
        self.mutes = f"{place}:mutes"
        self.spoke = f"{place}:spoke"
        self.stock = f"{place}:stock"
        self.untold = f"{place}:untold"
        self.seats = f"{place}:seats"
        self.said = (f"{place}:said:0", f"{place}:said:1")
        self.channel = f"{place}:tick"
        self.archive = room_archive(room_no % ROOM_SHARDS)
        self.archive_size = f"{self.archive}:size"
        self.all = (
            self.room,
            self.pending,
            self.ticks,
            self.crowd,
            self.mutes,
            self.spoke,
            self.stock,
            self.untold,
            *self.said,
        )


def room_archive(room_shard: int) -> str:
    """The stream of what was said in the rooms of a room shard, until the ledger has it."""
    return f"{{r{room_shard}}}:said"


def room_archive_parked(room_shard: int) -> str:
    """Of that stream, what could not be read or stored."""
    return f"{{r{room_shard}}}:said:parked"


PROCESSES = "peakgate:processes"
"""On the rooms Valkey: the processes that hold sockets, by when their last word ends."""
BUS_CHANNEL = "peakgate:bus"
