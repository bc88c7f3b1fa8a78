"""How many viewers a shop has, as far as this process can tell without asking.

Of each room with a viewer here the room's own number is known, told by all processes to each other within a second;
what joined or left here since is counted at once. So it is late by a second of what other processes let in, and lacks
rooms in which nobody sits here: a limit that is met by this is met roughly.
"""

from collections.abc import Callable, Mapping

from gateway.rooms.live_room import LiveRoom


class ShopCrowd:
    def __init__(self, *, rooms: Mapping[int, LiveRoom], most: Callable[[str], int | None]) -> None:
        """`most`: the viewers a shop may have; None for any number."""
        self._rooms = rooms
        self._most = most

    def is_full(self, shop: str) -> bool:
        most = self._most(shop)
        return most is not None and self.of(shop) >= most

    def of(self, shop: str) -> int:
        return sum(_viewers(live) for live in self._rooms.values() if live.room.shop == shop)


def _viewers(live: LiveRoom) -> int:
    here = len(live.members)
    return max(here, live.picture.viewers - live.counted + here)
