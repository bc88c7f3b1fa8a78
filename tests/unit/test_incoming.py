"""Frames in, without a connection: whatever the bytes are cut into, the same is made of them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.live.incoming import FRAMES_BURST, FRAMES_PER_S, Incoming
from gateway.wire.close_codes import CloseCode
from tests.support.fake_clock import FakeClock
from tests.support.raw_wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

Heard = tuple[str, object]


class Recorder(Incoming):
    max_message_bytes = 4096

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.heard_s = self.clock.monotonic()
        self.heard: list[Heard] = []

    def now_s(self) -> float:
        return self.clock.monotonic()

    def received(self, payload: bytes, is_text: bool) -> None:
        self.heard.append(("text" if is_text else "binary", payload))

    def pinged(self, payload: bytes) -> None:
        self.heard.append(("ping", payload))

    def peer_closed(self, payload: bytes) -> None:
        self.heard.append(("close", payload))

    def broken(self, code: CloseCode, why: str) -> None:
        self.heard.append(("broken", code))

    def flooded(self) -> None:
        self.heard.append(("flooded", None))


def heard(*parts: bytes) -> list[Heard]:
    recorder = Recorder()
    for part in parts:
        recorder.data_received(part)
    return recorder.heard


@st.composite
def message(draw: st.DrawFn) -> tuple[bytes, list[Heard]]:
    """Its bytes and what is to be made of it; in several frames it has pings between them."""
    is_text = draw(st.booleans())
    payload = draw(st.text(max_size=60).map(str.encode) if is_text else st.binary(max_size=300))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    pings = [draw(st.none() | st.binary(max_size=20)) for _ in parts]
    sent, made = b"", list[Heard]()
    for at, (part, ping) in enumerate(zip(parts, pings, strict=True)):
        if ping is not None:
            sent += frame(PING, ping) + frame(PONG, ping)
            made.append(("ping", ping))
        opcode = CONTINUATION if at else TEXT if is_text else BINARY
        sent += frame(opcode, part, fin=at == len(parts) - 1)
    return sent, [*made, ("text" if is_text else "binary", payload)]


@given(messages=st.lists(message(), max_size=5), cuts=st.lists(st.integers(0, 3000), max_size=12))
def test_however_the_bytes_are_cut_the_same_messages_come_out(
    messages: list[tuple[bytes, list[Heard]]], cuts: list[int]
) -> None:
    sent = b"".join(of for of, _ in messages)
    at = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(at) if a < b]
    assert heard(*pieces) == [one for _, made in messages for one in made]


def until_broken(all_heard: list[Heard]) -> list[Heard]:
    """Afterwards frames cannot be told apart any more, so it may depend on the cuts."""
    return list(itertools.takewhile(lambda of: of[0] != "broken", all_heard))


@given(sent=st.binary(max_size=400))
def test_no_bytes_whatsoever_raise_anything(sent: bytes) -> None:
    one_by_one = heard(*(sent[at : at + 1] for at in range(len(sent))))
    assert until_broken(one_by_one) == until_broken(heard(sent))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"{}", masked=False), 1002),
        (frame(TEXT, b"{}", reserved=4), 1002),
        (frame(PING, b"", reserved=1), 1002),
        (frame(0x3, b""), 1002),
        (frame(0xB, b""), 1002),
        (frame(PING, b"", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CONTINUATION, b"{}"), 1002),
        (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
        (frame(TEXT, b"{", fin=False) + frame(BINARY, b"}", fin=False), 1002),
        (bytes([0x81, 0xFE, 0x00, 0x02]) + b"mask" + b"{}", 1002),
        (bytes([0x81, 0xFF]) + (300).to_bytes(8, "big") + b"mask", 1002),
        (bytes([0x81, 0xFF]) + (1 << 63 | 300).to_bytes(8, "big"), 1002),
        (bytes([0x81, 0xFF]) + (1 << 32).to_bytes(8, "big"), 1009),
        (frame(BINARY, b"x" * 4097), 1009),
        (frame(BINARY, b"x" * 4000, fin=False) + frame(CONTINUATION, b"x" * 97), 1009),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\x28"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b""), 1007),
    ],
)
def test_what_breaks_the_protocol_is_named_by_its_code_and_ends_the_reading(sent: bytes, code: int) -> None:
    before, after = frame(BINARY, b"before"), frame(BINARY, b"after")
    assert heard(before + sent + after) == [("binary", b"before"), ("broken", code)]


@pytest.mark.parametrize("size", [0, 125, 126, 127, 4095, 4096])
def test_every_length_up_to_the_limit_is_read(size: int) -> None:
    assert heard(frame(BINARY, b"x" * size)) == [("binary", b"x" * size)]
    assert heard(frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"x" * size)) == [("binary", b"x" * size)]


def test_text_that_is_none_is_not_waited_for() -> None:
    whole = frame(TEXT, b"ok \xff and much more")
    assert heard(whole[:11]) == [("broken", 1007)]
    assert heard(frame(TEXT, b"\xe4", fin=False), frame(CONTINUATION, b"\xbd\x28 more")[:9]) == [("broken", 1007)]


def test_a_character_may_be_cut_anywhere() -> None:
    text = "抢购🎉".encode()
    parts = [frame(TEXT if not at else CONTINUATION, text[at : at + 1], fin=False) for at in range(len(text))]
    assert heard(*parts, frame(CONTINUATION, b"")) == [("text", text)]


def test_nothing_follows_a_close() -> None:
    assert heard(frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"{}")) == [("close", b"\x03\xe8")]


def test_a_flood_ends_the_reading_and_time_gives_new_credit() -> None:
    burst = int(FRAMES_BURST)
    assert heard(frame(PONG, b"") * (burst + 5)) == [("flooded", None)]
    patient = Recorder()
    patient.data_received(frame(PONG, b"") * burst)
    patient.clock.advance(10 / FRAMES_PER_S)
    patient.data_received(frame(BINARY, b"x") * 10)
    assert len(patient.heard) == 10
    patient.data_received(frame(BINARY, b"x"))
    assert patient.heard[-1] == ("flooded", None)


def test_once_closed_only_the_peers_close_is_heard() -> None:
    recorder = Recorder()
    recorder.closing = True
    recorder.data_received(frame(TEXT, b"{}") + frame(PING, b"") + frame(CLOSE, b""))
    assert recorder.heard == [("close", b"")]


def test_after_a_broken_frame_the_peers_close_is_still_heard() -> None:
    assert heard(frame(0x3, b""), frame(TEXT, b"{}"), frame(CLOSE, b"")) == [("broken", 1002), ("close", b"")]


def test_a_message_that_we_break_on_ends_its_socket_only() -> None:
    class Breaking(Recorder):
        def received(self, payload: bytes, is_text: bool) -> None:
            raise ZeroDivisionError

    breaking = Breaking()
    breaking.data_received(frame(TEXT, b"{}") + frame(PING, b""))
    assert breaking.heard == [("broken", 1011)]
