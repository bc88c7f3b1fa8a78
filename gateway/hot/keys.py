"""Every key in Valkey is spelled here. All keys of one shard share a hash tag, so one script may touch any of them."""


class ShardKeys:
    """The keys of one shard on the orders Valkey. What belongs to a sale is apart, so that it can be retired as a
    whole."""

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


BUS_CHANNEL = "peakgate:bus"


def room_seq(room: str) -> str:
    """On the rooms Valkey: the number of a room's last tick."""
    return f"{{{room}}}:seq"
