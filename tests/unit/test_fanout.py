"""Who is told what, in which slices; the clock moves with every write as if each cost so much."""

import asyncio
import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.room import Room
from gateway.rooms.fanout import SLICE_S, FanOut
from gateway.rooms.live_room import NOT_YET, LiveRoom
from gateway.rooms.picture import Variant
from gateway.wire.codec import MSGPACK
from tests.support.fake_clock import FakeClock
from tests.support.members import ROOM, FakeMember, comment, live_room, picture, shown, snapshot

# A look at the clock every 16 writes: how much longer than its time a slice may take.
BETWEEN_LOOKS = 16


async def all_told(fanout: FanOut) -> None:
    async with asyncio.timeout(10):
        while fanout._scheduled:  # noqa: ASYNC110 - each turn of the loop is one slice
            await asyncio.sleep(0)


def costly(members: list[FakeMember], clock: FakeClock, cost_s: float) -> None:
    for member in members:
        member.on_give = lambda member: clock.advance(cost_s)


async def test_everybody_is_told_each_tick_once_and_in_order() -> None:
    members = [FakeMember(codec=MSGPACK) if at % 2 else FakeMember() for at in range(100)]
    live, fanout = live_room(members), FanOut(FakeClock().monotonic)
    for n in range(1, 6):
        fanout.tell(live, shown(live, comment(n)))
        if n % 2:
            await asyncio.sleep(0)
    await all_told(fanout)
    assert all(member.seqs == [1, 2, 3, 4, 5] and member.at_seq == 5 for member in members)


async def test_nothing_is_written_before_the_loops_next_turn() -> None:
    member = FakeMember()
    live, fanout = live_room([member]), FanOut(FakeClock().monotonic)
    fanout.tell(live, shown(live))
    assert member.writes == []
    await asyncio.sleep(0)
    assert member.seqs == [1]


async def test_ticks_that_came_meanwhile_are_written_together_and_shared() -> None:
    clock, members = FakeClock(), [FakeMember() for _ in range(3)]
    live, fanout = live_room(members), FanOut(clock.monotonic)
    for _ in range(4):
        fanout.tell(live, shown(live))
    await all_told(fanout)
    # The first was on its way; the three that came behind it are one write of the same bytes to all.
    assert [len(member.writes) for member in members] == [2, 2, 2]
    assert all(member.writes[1] is members[0].writes[1] for member in members)
    assert members[0].seqs == [1, 2, 3, 4]


async def test_orders_have_their_turn_between_slices() -> None:
    clock, cost_s = FakeClock(), 0.0001
    members = [FakeMember() for _ in range(1_000)]
    costly(members, clock, cost_s)
    live, fanout = live_room(members), FanOut(clock.monotonic)
    fanout.tell(live, shown(live))
    slices = []
    while fanout._scheduled:
        before_s, before = clock.monotonic(), sum(len(member.writes) for member in members)
        await asyncio.sleep(0)
        slices.append((clock.monotonic() - before_s, sum(len(member.writes) for member in members) - before))
    assert sum(written for _, written in slices) == 1_000
    assert max(took_s for took_s, _ in slices) <= SLICE_S + BETWEEN_LOOKS * cost_s + 1e-9
    # The time it has is used: 20 writes fill a slice, and the next look is at 32.
    assert all(written == 32 for _, written in slices[:-1])
    assert abs(live.took_s - 1_000 * cost_s) < 1e-6, "what the interval of the room goes by"


async def test_rooms_share_the_slices_in_turn() -> None:
    clock = FakeClock()
    rooms: list[tuple[LiveRoom, list[FakeMember]]] = []
    fanout = FanOut(clock.monotonic)
    for _ in range(3):
        members = [FakeMember() for _ in range(200)]
        costly(members, clock, 0.0002)
        rooms.append((live_room(members), members))
    for live, _ in rooms:
        fanout.tell(live, shown(live))
    for turn in range(1, 4):
        for _ in rooms:
            await asyncio.sleep(0)
        told = [sum(len(member.writes) for member in members) for _, members in rooms]
        assert told == [turn * 16] * 3
    await all_told(fanout)
    assert all(member.seqs == [1] for _, members in rooms for member in members)


async def test_a_room_whose_members_are_all_told_leaves_its_slice_to_the_next() -> None:
    clock = FakeClock()
    fanout = FanOut(clock.monotonic)
    lives = []
    for _ in range(5):
        members = [FakeMember() for _ in range(2)]
        costly(members, clock, 0.0001)
        lives.append((live_room(members), members))
    for live, _ in lives:
        fanout.tell(live, shown(live))
    await asyncio.sleep(0)
    assert all(member.seqs == [1] for _, members in lives for member in members)


async def test_nobody_is_always_the_first_or_the_last() -> None:
    order: list[str] = []
    members = [FakeMember(str(at)) for at in range(4)]
    for member in members:
        member.on_give = lambda member: order.append(member.name)
    live, fanout = live_room(members), FanOut(FakeClock().monotonic)
    for _ in range(4):
        fanout.tell(live, shown(live))
        await all_told(fanout)
    rounds = ["".join(order[at : at + 4]) for at in range(0, 16, 4)]
    assert sorted(rounds) == ["0123", "1230", "2301", "3012"]


async def test_a_room_without_members_costs_nothing_and_goes_on() -> None:
    live, fanout = live_room(), FanOut(FakeClock().monotonic)
    fanout.tell(live, shown(live))
    await all_told(fanout)
    member = FakeMember()
    live.add(member)
    live.show(member, snapshot(live.picture))
    fanout.tell(live, shown(live))
    await all_told(fanout)
    assert [frame["t"] for frame in member.told] == ["snapshot", "tick"]
    assert member.seqs == [2]


async def test_who_is_slow_is_told_less_of_the_same_ticks() -> None:
    whole, quiet, bare, back = (FakeMember(variant=variant) for variant in Variant)
    live, fanout = live_room([whole, quiet, bare, back]), FanOut(FakeClock().monotonic)
    fanout.tell(live, shown(live, comment(1), {"k": "pin", "pin": None}, {"k": "announce", "text": "!"}, likes=4))
    await all_told(fanout)
    assert [[event["k"] for event in member.told[0]["ev"]] for member in (whole, quiet, bare, back)] == [
        ["comment", "pin", "announce"],
        ["pin", "announce"],
        ["pin", "announce"],
        ["comment", "pin", "announce"],
    ]
    assert [member.told[0].get("likes") for member in (whole, quiet, bare, back)] == [4, 4, None, 4]
    assert "viewers" not in whole.told[0] and "viewers" in back.told[0]
    assert back.variant is Variant.WHOLE, "the totals are told once"
    assert [member.told[0].get("skipped", 0) for member in (whole, quiet, bare)] == [0, 1, 1]
    bare.variant = Variant.WHOLE
    fanout.tell(live, shown(live, comment(2)))
    await all_told(fanout)
    assert bare.told[1]["ev"][0]["k"] == "comment"
    assert whole.seqs == quiet.seqs == bare.seqs == [1, 2]


async def test_who_became_slow_in_the_middle_of_a_write_gets_less_of_the_next() -> None:
    clock, members = FakeClock(), [FakeMember() for _ in range(40)]
    costly(members, clock, 0.001)
    live, fanout = live_room(members), FanOut(clock.monotonic)
    fanout.tell(live, shown(live, comment(1)))
    await asyncio.sleep(0)
    behind = next(member for member in members if not member.writes)
    behind.variant = Variant.NO_COMMENTS
    await all_told(fanout)
    assert (behind.told[0]["ev"], behind.told[0]["skipped"]) == ([], 1)


async def test_nobody_is_told_a_tick_before_its_snapshot() -> None:
    member = FakeMember()
    live, fanout = live_room(), FanOut(FakeClock().monotonic)
    live.add(member)
    fanout.tell(live, shown(live))
    await all_told(fanout)
    assert member.writes == []
    taken = snapshot(live.picture)
    fanout.tell(live, shown(live))
    live.show(member, taken)
    await all_told(fanout)
    assert [(frame["t"], frame["seq"]) for frame in member.told] == [("snapshot", 1), ("tick", 2)]


async def test_when_the_room_begins_anew_what_was_under_way_is_dropped_and_all_get_a_snapshot() -> None:
    clock, members = FakeClock(), [FakeMember() for _ in range(40)]
    costly(members, clock, 0.001)
    live, fanout = live_room(members), FanOut(clock.monotonic)
    fanout.tell(live, shown(live))
    await asyncio.sleep(0)
    fanout.tell(live, shown(live))
    told_before = [len(member.writes) for member in members]
    assert set(told_before) == {0, 1}
    live.begin_anew(picture(epoch=2, seq=30))
    fanout.tell(live, shown(live))
    await all_told(fanout)
    assert [len(member.writes) for member in members] == told_before, "nothing more until the snapshot"
    fanout.tell(live, snapshot(live.picture))
    fanout.tell(live, shown(live))
    await all_told(fanout)
    for member in members:
        last = [(frame["t"], frame["seq"]) for frame in member.told][-2:]
        assert last == [("snapshot", 31), ("tick", 32)]
        assert member.told[-2]["epoch"] == 2


async def test_a_room_that_begins_anew_once_more_shows_nobody_else_the_epoch_between() -> None:
    clock, members = FakeClock(), [FakeMember() for _ in range(40)]
    costly(members, clock, 0.001)
    live, fanout = live_room(members), FanOut(clock.monotonic)
    live.begin_anew(picture(epoch=2))
    fanout.tell(live, snapshot(live.picture))
    await asyncio.sleep(0)
    live.begin_anew(picture(epoch=3))
    fanout.tell(live, snapshot(live.picture))
    await all_told(fanout)
    epochs = [[frame["epoch"] for frame in member.told] for member in members]
    assert (epochs.count([2, 3]), epochs.count([3])) == (16, 24)


async def test_a_snapshot_of_an_epoch_that_ended_meanwhile_does_not_start_its_reader() -> None:
    member = FakeMember()
    live, fanout = live_room([member]), FanOut(FakeClock().monotonic)
    old = snapshot(live.picture)
    live.begin_anew(picture(epoch=2))
    live.show(member, old)
    assert member.at_seq == NOT_YET
    fanout.tell(live, shown(live))
    await all_told(fanout)
    assert member.seqs == []


def numbered(number: int) -> Room:
    return Room(**{**{name: getattr(ROOM, name) for name in ROOM.__struct_fields__}, "room_no": number})


@dataclasses.dataclass
class Watched:
    """A member and from where on it is to be told everything."""

    member: FakeMember
    live: LiveRoom
    resumed_at: tuple[int, int] | None
    left: bool = False

    def check(self) -> None:
        """Every tick behind a snapshot or the place it came back to, once and in order, of that epoch only."""
        at = self.resumed_at
        for frame in self.member.told:
            if frame["t"] == "snapshot":
                at = (frame["epoch"], frame["seq"])
                continue
            assert at is not None, "a tick before the snapshot"
            epoch, seq = at
            (said,) = [event["text"] for event in frame["ev"] if event["k"] == "announce"]
            assert (frame["seq"], said) == (seq + 1, f"{epoch}.{seq + 1}")
            at = (epoch, seq + 1)
        if not self.left:
            assert at == (self.live.picture.epoch, self.live.picture.seq), "somebody was not told the last"
            assert self.member.at_seq == self.live.picture.seq


moments = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["tick", "tick", "slice", "slice", "anew"]), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["join", "resume"]), st.integers(0, 2), st.integers(0, 6)),
        st.tuples(st.sampled_from(["leave", "slow"]), st.integers(0, 10_000), st.integers(0, 2)),
    ),
    max_size=60,
)


@given(
    moments=st.lists(st.tuples(st.integers(0, 1), moments), min_size=1, max_size=3),
    crowd=st.sampled_from([0, 1, 15, 16, 40]),
    cost_s=st.sampled_from([0.0, 0.0001, 0.0005, 0.003]),
)
def test_whatever_happens_between_slices_everybody_is_told_everything_once_and_in_order(
    moments: list[tuple[int, list[tuple[str, int, int]]]], crowd: int, cost_s: float
) -> None:
    asyncio.run(_whatever(moments, crowd, cost_s))


async def _whatever(moments: list[tuple[int, list[tuple[str, int, int]]]], crowd: int, cost_s: float) -> None:
    clock = FakeClock()
    fanout = FanOut(clock.monotonic)
    lives = [LiveRoom(numbered(number), picture(epoch=1, seq=3)) for number in range(2)]
    watched: list[Watched] = []

    def enter(live: LiveRoom, *, behind: int = 0, resumes: bool = False) -> None:
        seq = live.picture.seq - behind
        missed = live.picture.missed(live.picture.epoch, seq)
        if missed is None:
            seq, missed = live.picture.seq, []
        member = FakeMember()
        costly([member], clock, cost_s)
        live.add(member)
        if resumes:
            live.catch_up(member, missed)
        else:
            live.show(member, snapshot(live.picture, seq=seq))
        watched.append(Watched(member, live, (live.picture.epoch, seq) if resumes else None))

    def tick(live: LiveRoom) -> None:
        said = {"k": "announce", "text": f"{live.picture.epoch}.{live.picture.seq + 1}"}
        fanout.tell(live, shown(live, comment(live.picture.seq + 1), said))

    for live in lives:
        for _ in range(crowd):
            enter(live)
    for room, happens in moments:
        live = lives[room]
        for what, number, other in happens:
            present = [each for each in watched if not each.left]
            match what:
                case "tick":
                    tick(live)
                case "slice":
                    await asyncio.sleep(0)
                case "anew":
                    live.begin_anew(picture(epoch=live.picture.epoch + 1, seq=number))
                    tick(live)
                    await asyncio.sleep(0)
                    fanout.tell(live, snapshot(live.picture))
                case "join" | "resume":
                    enter(lives[(room + number) % 2], behind=other, resumes=what == "resume")
                case "leave" if present:
                    leaving = present[number % len(present)]
                    leaving.live.remove(leaving.member)
                    leaving.left = True
                case "slow" if present:
                    present[number % len(present)].member.variant = Variant(other)
    await all_told(fanout)
    for each in watched:
        each.check()
    for live in lives:
        assert [member.slot for member in live.members] == list(range(len(live.members)))
        assert {id(member) for member in live.members} == {
            id(each.member) for each in watched if each.live is live and not each.left
        }


def test_leaving_costs_the_same_whatever_the_number_of_members() -> None:
    members: list[Any] = [FakeMember(str(at)) for at in range(5)]
    live = live_room(members)
    for gone in (1, 4, 0):
        live.remove(members[gone])
    assert {member.name for member in live.members} == {"2", "3"}
    assert [live.members[member.slot] for member in (members[2], members[3])] == [members[2], members[3]]
