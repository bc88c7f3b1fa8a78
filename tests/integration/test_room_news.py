"""Hosts' acts reach who watches, whatever the rooms Valkey lost a moment ago."""

from gateway.domain.live import RoomChange
from gateway.domain.sale import Sale
from gateway.flows.room_news import RoomNews
from gateway.rooms.opening import open_room
from tests.support.hub_process import HubProcess, hub_process
from tests.support.members import ROOM, FakeMember
from tests.support.servers import eventually, flush


async def nothing(sale_no: int, /) -> Sale | None:
    return None


def news_of(process: HubProcess) -> RoomNews:
    return RoomNews(
        hot=process.hot,
        calls=process.calls,
        open_room=lambda room_no: open_room(process.hot, process._standing, room_no),
        find=nothing,
        read_room=lambda room: ROOM.room_no,
        clock=process.clock,
    )


def announced(member: FakeMember) -> list[str]:
    ticks = [frame for frame in member.told if frame["t"] == "tick"]
    return [event["text"] for tick in ticks for event in tick["ev"] if event["k"] == "announce"]


async def test_an_announcement_made_while_valkey_lacks_the_room_is_heard_once_in_every_process(
    rooms_valkey_url: str,
) -> None:
    async with hub_process(rooms_valkey_url, "p1") as one, hub_process(rooms_valkey_url, "p2") as other:
        members = [await one.enter("one"), await other.enter("other")]
        news = news_of(one)
        for at in range(3):
            flush(rooms_valkey_url)
            texts = [f"hear me {n}" for n in range(at + 1)]
            await news.change(ROOM, RoomChange(events=[{"k": "announce", "text": texts[-1]}]))

            async def heard(texts: list[str] = texts) -> bool:
                return all(announced(member) == texts for member in members)

            await eventually(heard)
