"""Every key in Valkey is spelled here. All keys of one shard share a hash tag, so one script may touch any of them."""


class ShardKeys:
    """The keys of one shard on the orders Valkey. What belongs to a sale is apart, so that it can be retired as a
    whole."""

    __slots__ = ("_tag", "acts", "shard", "stream")

    def __init__(self, shard: int) -> None:
        self._tag = f"{{s{shard}}}"
        self.shard = f"{self._tag}:shard"
        self.stream = f"{self._tag}:stream"
        # Of all sales: a host's key is the shop's, whatever sale it was used on.
        self.acts = f"{self._tag}:acts"

    def sale(self, sale_no: int) -> str:
        return f"{self._tag}:sale:{sale_no}"

    def answers(self, sale_no: int) -> str:
        return f"{self._tag}:sale:{sale_no}:answers"

    def units(self, sale_no: int) -> str:
        return f"{self._tag}:sale:{sale_no}:units"


BUS_CHANNEL = "peakgate:bus"
