"""The peak second in small: everybody taps at once, some are cut in the middle, and everybody learns the truth."""

import asyncio
import random
from contextlib import AsyncExitStack

from gateway.client.host import Host
from gateway.client.orders import OrderAnswer
from gateway.client.viewer import Viewer
from tests.e2e.conftest import make_show
from tests.support.gateway import Gateway

VIEWERS, UNITS, CUT_SHARE = 300, 100, 0.05


async def test_a_hundred_units_among_three_hundred_viewers_are_sold_exactly_and_everybody_is_told_the_truth(
    gateway: Gateway, host: Host
) -> None:
    show = await make_show(gateway, host, stock=UNITS, limit=1)
    tokens = gateway.tokens("peak", VIEWERS)
    cut = set(random.Random(7).sample(range(VIEWERS), int(VIEWERS * CUT_SHARE)))
    async with AsyncExitStack() as room:
        viewers = [
            Viewer(show.live_url, token, codec=("json", "msgpack")[number % 2]) for number, token in enumerate(tokens)
        ]
        # A few at a time: the point is the crowd inside, not the crowd at the door.
        for at in range(0, VIEWERS, 50):
            await asyncio.gather(*(room.enter_async_context(viewer) for viewer in viewers[at : at + 50]))

        async def tap(number: int) -> OrderAnswer:
            viewer = viewers[number]
            asked = asyncio.ensure_future(
                viewer.order(sale=show.sale, sku="tin", key=f"tap-{number}", insist=True, within_s=60)
            )
            if number in cut:
                # One turn of the loop: the tap has left, its answer has not come.
                await asyncio.sleep(0)
                assert viewer._connection is not None
                viewer._connection.abort()
            return await asked

        answers = await asyncio.gather(*(tap(number) for number in range(VIEWERS)))
        assert all(viewers[number].reconnects for number in cut)
        promised = {number: answer for number, answer in enumerate(answers) if answer.is_reserved}
        assert len(promised) == UNITS
        assert {answer.outcome for answer in answers} == {"reserved", "sold_out"}
        states = await asyncio.gather(
            *(viewers[number].confirmed(str(answer.order), within_s=30) for number, answer in promised.items())
        )
        assert {state.status for state in states} == {"confirmed"}

    ledger = {(order.sub, order.order, order.amount_minor) for order in await host.orders(show.sale)}
    assert ledger == {(f"peak-{number + 1}", answer.order, 1900) for number, answer in promised.items()}
    (item,) = (await host.sale(show.sale)).items
    assert (item.stock, item.left, item.held) == (UNITS, 0, UNITS)
