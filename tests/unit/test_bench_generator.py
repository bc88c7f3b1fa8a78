"""The bench's generator: what it counts, and from when it measures."""

import pytest

from loadtests.bench.generator import Answer, Fate, Load, Shopper, Tally, latency


class FakeTransport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, _kind: object, frame: bytes) -> None:
        self.sent.append(frame)

    def disconnect(self) -> None:
        pass


def shopper_of(dialect: str, **options: object) -> tuple[Shopper, Tally, FakeTransport]:
    load = Load(urls=["ws://x"], dialect=dialect, sale="s", sku="k", run="r", **options)  # type: ignore[arg-type]
    tally = Tally(journal=True)
    tally.until_ns = 1 << 62
    tally.sending = True
    shopper = Shopper(load=load, tally=tally, number=0, hello=None)
    transport = FakeTransport()
    shopper.on_ws_connected(transport)  # type: ignore[arg-type]
    return shopper, tally, transport


async def test_a_rivals_confirmed_reply_counts_and_sends_the_next_order() -> None:
    shopper, tally, transport = shopper_of("rival")
    shopper.send_order(1)
    shopper._on_reply(Answer(t="reply", id="r-0-0", outcome="confirmed", order="ord_1"))
    assert (tally.confirmed, tally.sent, len(transport.sent)) == (1, 2, 2)


async def test_reserved_alone_is_not_confirmed() -> None:
    shopper, tally, _ = shopper_of("peakgate")
    shopper.send_order(1)
    shopper._on_reply(Answer(t="reply", id="r-0-0", outcome="reserved", order="ord_1"))
    assert (tally.confirmed, tally.reserved_in_span, tally.sent) == (0, 1, 1)
    shopper._on_state(Answer(t="order", order="ord_1", status="confirmed"))
    assert (tally.confirmed, tally.sent) == (1, 2)


async def test_a_confirmation_that_overtakes_its_reply_counts_once() -> None:
    shopper, tally, _ = shopper_of("peakgate")
    shopper.send_order(1)
    shopper._on_state(Answer(t="order", order="ord_1", status="confirmed"))
    assert tally.confirmed == 0
    shopper._on_reply(Answer(t="reply", id="r-0-0", outcome="reserved", order="ord_1"))
    shopper._on_state(Answer(t="order", order="ord_1", status="confirmed"))
    assert tally.confirmed == 1


async def test_a_refusal_is_counted_by_its_outcome_and_confirms_nothing() -> None:
    shopper, tally, _ = shopper_of("rival", rate=10.0)
    shopper.send_order(1)
    shopper._on_reply(Answer(t="reply", id="r-0-0", outcome="sold_out"))
    assert (tally.confirmed, dict(tally.refused)) == (0, {"sold_out": 1})
    assert tally.fates is not None
    assert isinstance(tally.fates["r-0-0"], Fate)
    assert tally.fates["r-0-0"].outcome == "sold_out"


def test_latency_percentiles_come_from_microseconds() -> None:
    measured = latency([1000] * 99 + [50_000])
    assert measured.count == 100
    assert measured.p50 == pytest.approx(1.0, rel=0.01)
    assert measured.max == pytest.approx(50.0, rel=0.01)
