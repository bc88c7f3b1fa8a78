"""A running gateway audits itself, and closes a sale whose counters were tampered with; `peakgate audit` says why."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from gateway.client.host import Host
from tests.support.api import Api, api_of
from tests.support.gateway import Gateway, running_gateway
from tests.support.servers import eventually


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running_gateway(PEAKGATE_AUDIT_EVERY_S="0.3") as started:
        yield started


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


def metric(gateway: Gateway, name: str) -> float | None:
    """Of the keeper, a gauge without other labels."""
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.search(rf'^{name}{{process="keeper"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else None


async def order(api: Api, sale: str, viewer: str) -> str:
    return str((await api.order(sale, api.viewer(viewer))).json["outcome"])


async def test_a_sale_with_a_unit_from_nowhere_is_closed_and_the_audit_says_why(gateway: Gateway, api: Api) -> None:
    sale, other = (await api.sale())["sale"], (await api.sale())["sale"]
    assert await order(api, sale, "vw-1") == "reserved"

    async def audited() -> bool:
        return (metric(gateway, "peakgate_audit_seconds") or 0) > 0

    await eventually(audited, within_s=20)
    assert metric(gateway, "peakgate_audit_violations_all") == 0

    async def light(of: str) -> Any:
        answer = await api.call("GET", f"/v1/sales/{of}/invariant")
        assert answer.status == 200, answer.text
        return answer.json

    async def is_lit() -> bool:
        return (await light(sale))["holds"] is True and (await light(sale))["behind"] == 0

    await eventually(is_lit, within_s=20)
    shown = await light(sale)
    assert (shown["sale"], shown["why_not"], shown["broken"]) == (sale, None, [])
    assert shown["items"] == [{"sku": "tin", "stock": 10, "left": 9, "held": 1, "paid": 0, "on_the_way": 0}]
    assert shown["audited_at"] < shown["at"]
    for token, status in ((api.viewer(), 403), (api.token("clerk", "clerk"), 403), (api.token(shop="cups"), 404)):
        assert (await api.call("GET", f"/v1/sales/{sale}/invariant", token=token)).status == status
    assert await order(api, sale, "vw-2") == "reserved"
    client = redis.Redis.from_url(gateway.servers()["valkey_url"])
    try:
        client.hincrby("{s0}:sale:1", "1:left", 1)
    finally:
        client.close()

    async def closed() -> bool:
        return bool((await api.call("GET", f"/v1/sales/{sale}")).json["state"] == "closed")

    await eventually(closed, within_s=20)

    async def is_red() -> bool:
        return bool((await light(sale))["holds"] is False)

    await eventually(is_red, within_s=20)
    (broken,) = (await light(sale))["broken"]
    assert broken["rule"] == "conservation" and sale in broken["detail"]
    assert (await light(other))["holds"] is True
    async with Host(gateway.url, api.token()) as host:
        assert (await host.invariant(sale)).items[0].stock == 10
    assert await order(api, sale, "vw-3") == "ended"
    assert await order(api, other, "vw-3") == "reserved", "no other sale is closed"
    acts = [json.loads(line) for line in gateway.log().splitlines() if '"audit_violation"' in line]
    assert [(line["rule"], line["sale"], line["does"]) for line in acts] == [("conservation", sale, "close")]
    said = await asyncio.to_thread(gateway.command, "audit", check=False)
    assert said.returncode == 1
    assert re.search(r"^1 stock is left, live.*BROKEN .*1 broken", said.stdout, re.MULTILINE)
    only = await asyncio.to_thread(gateway.command, "audit", "--sale", other, "--json", check=False)
    assert (only.returncode, json.loads(only.stdout)["holds"]) == (0, True)
