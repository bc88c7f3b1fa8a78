import asyncio

from gateway.hot.connect import connect, hot_errors


async def test_whoever_cancels_a_call_is_heard_in_whichever_moment_it_is(rooms_valkey_url: str) -> None:
    """`asyncio.wait_for`, under which the driver sends, loses one that comes just as it ends, before Python 3.12."""
    client = connect(rooms_valkey_url, max_connections=1)

    async def call_on() -> None:
        while True:
            with hot_errors():
                await client.ping()

    try:
        await client.ping()
        for turns in range(30):
            calling = asyncio.ensure_future(call_on())
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait({calling}, timeout=2)
            assert calling.cancelled(), f"not heard after {turns} turns of the loop"
    finally:
        await client.aclose()
