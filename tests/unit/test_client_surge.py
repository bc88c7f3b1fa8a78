"""The surge's crowd against a shop of twelve units on real sockets: open loop, cuts, and one true answer each."""

import asyncio
from typing import Any

from gateway.client.codec import codec_named
from loadtests.surge_crowd import Crowd
from loadtests.surge_network import Agenda, Network
from tests.support.scripted_server import ScriptedSocket, scripted_server

VIEWERS, UNITS = 40, 12


class Shop:
    """Gives an effect once per key, answers each viewer now and then badly first, and confirms at once."""

    def __init__(self) -> None:
        self.orders: dict[str, str] = {}
        self.asked: dict[str, int] = {}

    def __call__(self, socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        if frame["t"] == "hello":
            held = [name for name in frame.get("pending", ()) if name["key"] in self.orders]
            socket.welcome(
                orders=[
                    {**name, "outcome": "reserved", "order": self.orders[name["key"]], "status": "confirmed"}
                    for name in held
                ]
            )
        if frame["t"] == "order":
            self._decide(socket, frame["id"])

    def _decide(self, socket: ScriptedSocket, key: str) -> None:
        self.asked[key] = self.asked.get(key, 0) + 1
        if self.asked[key] == 1 and key.endswith("3"):
            socket.send({"t": "error", "id": key, "code": "overloaded", "message": "full", "retryable": True})
        elif self.asked[key] == 1 and key.endswith("7"):
            socket.send({"t": "reply", "id": key, "outcome": "too_fast", "retry_after_ms": 5})
        elif key in self.orders or len(self.orders) < UNITS:
            is_replayed = key in self.orders
            order = self.orders.setdefault(key, f"ord_{key}")
            socket.reserved(key, order, replayed=is_replayed)
            socket.send({"t": "order", "order": order, "status": "confirmed"})
        else:
            socket.send({"t": "reply", "id": key, "outcome": "sold_out", "left": 0})


async def test_every_viewer_of_a_surge_gets_one_true_answer_over_cuts_and_refusals() -> None:
    shop = Shop()
    async with scripted_server(shop) as server:
        crowd = Crowd(
            live_url=server.url,
            sale="sale_1",
            sku="tin",
            quantity=1,
            codec=codec_named("msgpack"),
            network=Network(least_delay_s=0.005, most_delay_s=0.02, cut_share=0.25),
            tokens={f"viewer-{number}": "token" for number in range(VIEWERS)},
        )
        await crowd.enter()
        crowd.start([number / 200 for number in range(VIEWERS)], lead_s=0.01)
        assert await crowd.through(within_s=10.0)
        await crowd.leave()

    reserved = [shopper for shopper in crowd.shoppers if shopper.answer == "reserved"]
    assert {shopper.key: shopper.order for shopper in reserved} == shop.orders
    assert len(reserved) == UNITS
    assert all(shopper.answer in ("reserved", "sold_out") for shopper in crowd.shoppers)
    assert all(shopper.status == "confirmed" for shopper in reserved)
    # Whoever was to be cut was cut, did not read that reply, and asked again with the same key.
    was_cut = [shopper for shopper in crowd.shoppers if shopper.is_to_be_cut]
    assert len(was_cut) == VIEWERS // 4 and all(shopper.cuts == 1 for shopper in was_cut)
    assert all(shop.asked[shopper.key] >= 1 for shopper in crowd.shoppers)
    assert crowd.reconnects == len(was_cut)
    assert all(shopper.answered_s > shopper.intended_s + 0.01 for shopper in crowd.shoppers if shopper.answered_s)


async def test_an_agenda_calls_in_the_order_of_the_times() -> None:
    agenda, called, done = Agenda(), [], asyncio.Event()
    now = agenda.now()
    agenda.at(now + 0.02, done.set)
    for step in (3, 1, 2):
        agenda.at(now + step / 200, called.append, step)
    async with asyncio.timeout(5):
        await done.wait()
    assert called == [1, 2, 3]
