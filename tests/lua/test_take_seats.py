"""The script that says who may hold one more socket in a room, whichever processes hold the others."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgpack
import pytest

from gateway.hot.connect import connect
from gateway.hot.keys import RoomKeys
from gateway.hot.rooms import HotRooms
from gateway.hot.scripts import Scripts
from tests.support.lua_room import LuaRoom
from tests.support.lua_shard import read_header

MOST = 5
A_WEEK_S = 7 * 24 * 3600


@pytest.fixture
def room(valkey_url: str) -> Iterator[LuaRoom]:
    """The server is empty; seats are taken in a room whether or not it is open."""
    room = LuaRoom(valkey_url)
    yield room
    room.close()


def take(
    room: LuaRoom,
    process: str,
    *asking: str,
    alive: Sequence[str] = ("p1", "p2"),
    most: int = MOST,
    left: Sequence[str] = (),
) -> list[int]:
    brought = msgpack.packb([process, alive, most, left, asking], use_bin_type=False)
    taken: list[int] = room.call("take_seats", [room.keys.seats], [brought])
    return taken


def held(room: LuaRoom) -> dict[str, str]:
    return room.hash(room.keys.seats)


def test_two_processes_share_the_bound(room: LuaRoom) -> None:
    assert [take(room, process, "vw_1") for process in ("p1", "p2", "p1", "p2", "p1")] == [[1]] * MOST
    assert take(room, "p1", "vw_1") == take(room, "p2", "vw_1") == [0]
    assert held(room) == {"vw_1|p1": "3", "vw_1|p2": "2"}, "who was refused holds nothing"


def test_those_of_one_call_count_one_after_the_other_and_each_viewer_for_itself(room: LuaRoom) -> None:
    take(room, "p2", "vw_1", "vw_1", "vw_1")
    assert take(room, "p1", "vw_1", "vw_2", "vw_1", "vw_1", "vw_2") == [1, 1, 1, 0, 1]
    assert held(room) == {"vw_1|p1": "2", "vw_1|p2": "3", "vw_2|p1": "2"}


def test_the_bound_is_the_callers(room: LuaRoom) -> None:
    assert take(room, "p1", "vw_1", "vw_1", most=1) == [1, 0]
    assert take(room, "p1", "vw_1", most=2) == [1]


def test_what_a_killed_process_held_counts_no_more(room: LuaRoom) -> None:
    take(room, "dead", *["vw_1"] * 4)
    take(room, "p1", "vw_1")
    assert take(room, "p1", "vw_1", alive=("dead", "p1")) == [0]
    assert take(room, "p1", "vw_1", alive=("p1", "p2")) == [1]
    assert take(room, "p1", *["vw_1"] * 4, alive=("p1", "p2")) == [1, 1, 1, 0]


def test_one_that_was_only_silent_for_a_while_counts_again(room: LuaRoom) -> None:
    take(room, "p2", *["vw_1"] * MOST)
    assert take(room, "p1", "vw_1", alive=("p1",)) == [1]
    assert take(room, "p1", "vw_1", alive=("p1", "p2")) == [0]


def test_who_asks_is_counted_also_when_it_was_not_heard_of(room: LuaRoom) -> None:
    assert take(room, "p1", *["vw_1"] * 6, alive=()) == [1, 1, 1, 1, 1, 0]


def test_who_asks_is_counted_once_also_when_it_is_named_among_those_that_live(room: LuaRoom) -> None:
    assert take(room, "p1", *["vw_1"] * 6, alive=("p1", "p2")) == [1, 1, 1, 1, 1, 0]


def test_what_is_given_back_may_be_taken_anywhere_and_in_the_same_call(room: LuaRoom) -> None:
    take(room, "p1", *["vw_1"] * MOST)
    assert take(room, "p2", "vw_1") == [0]
    assert take(room, "p1", left=["vw_1"]) == []
    assert take(room, "p2", "vw_1") == [1]
    assert take(room, "p1", "vw_1", "vw_1", "vw_1", left=["vw_1", "vw_1"]) == [1, 1, 0]


def test_a_seat_given_back_by_another_process_is_not_the_ones_that_holds_it(room: LuaRoom) -> None:
    take(room, "p1", *["vw_1"] * MOST)
    take(room, "p2", left=["vw_1"])
    assert held(room) == {"vw_1|p1": "5"}


def test_who_holds_nothing_leaves_nothing_and_gives_back_no_more_than_was_taken(room: LuaRoom) -> None:
    take(room, "p1", "vw_1", "vw_2")
    take(room, "p1", left=["vw_1", "vw_1", "vw_1", "vw_3"])
    assert held(room) == {"vw_2|p1": "1"}
    assert take(room, "p1", *["vw_1"] * 6) == [1, 1, 1, 1, 1, 0]


def test_each_room_counts_for_itself(room: LuaRoom) -> None:
    other = LuaRoom(room.valkey_url, room_no=room.room_no + 16)
    take(room, "p1", *["vw_1"] * MOST)
    assert take(other, "p1", "vw_1") == [1]
    other.close()


def test_a_room_that_nobody_asks_about_is_forgotten_after_a_week(room: LuaRoom) -> None:
    take(room, "p1", "vw_1")
    room.valkey.expire(room.keys.seats, 10)
    assert take(room, "p1", "vw_2") == [1]
    assert A_WEEK_S - 60 < room.valkey.ttl(room.keys.seats) <= A_WEEK_S


# The header and the binding.


class Recorded:
    """In the place of the scripts: what each is called with."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[list[str], list[Any]]] = {}

    def named(self, name: str) -> Any:
        async def call(keys: list[str], args: list[Any]) -> Any:
            self.calls[name] = (keys, args)
            return [1, 0]

        return call


async def test_the_binding_brings_what_the_header_names() -> None:
    header, recorded = read_header("take_seats"), Recorded()
    hot = HotRooms(client=None, scripts=recorded, process="p1", reading_rate=20, archive_max=1)  # type: ignore[arg-type]
    assert await hot.seats(5, alive=["p1", "p2"], most=MOST, left=["vw_1"], asking=["vw_2", "vw_3"]) == [True, False]
    keys, args = recorded.calls["take_seats"]
    assert (len(keys), len(args), header.words) == (header.keys, header.args, [])
    assert keys == [RoomKeys(5).seats]
    assert msgpack.unpackb(args[0]) == ["p1", ["p1", "p2"], MOST, ["vw_1"], ["vw_2", "vw_3"]]


@pytest.fixture
async def hot(valkey_url: str) -> AsyncIterator[HotRooms]:
    client = connect(valkey_url, max_connections=2)
    yield HotRooms(client=client, scripts=Scripts(client), process="p1", reading_rate=20.0, archive_max=10)
    await client.aclose()


async def test_the_binding_takes_and_gives_back(room: LuaRoom, hot: HotRooms) -> None:
    async def ask(*asking: str, left: Sequence[str] = ()) -> list[bool]:
        return await hot.seats(room.room_no, alive=["p2"], most=2, left=left, asking=asking)

    take(room, "p2", "vw_1")
    assert await ask("vw_1", "vw_1", "vw_2") == [True, False, True]
    assert held(room) == {"vw_1|p1": "1", "vw_1|p2": "1", "vw_2|p1": "1"}
    assert await ask(left=["vw_1", "vw_2"]) == []
    assert held(room) == {"vw_1|p2": "1"}
