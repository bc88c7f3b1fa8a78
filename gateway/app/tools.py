"""What commands do beside a running gateway: a rebuild by hand, the audit."""

import asyncio
from contextlib import AsyncExitStack

from gateway.errors import GatewayError, NotFound, Unavailable
from gateway.hot.audit import HotAudit
from gateway.hot.connect import connect
from gateway.hot.scripts import Scripts
from gateway.keeper.audit import Auditor
from gateway.keeper.audit_report import AuditReport
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.pool import Ledger
from gateway.ledger.rebuild import EpochBegun, LedgerRebuilds
from gateway.settings import Settings

# A keeper looks four times a second; draining a full stream comes before it moves to the next epoch.
_KEEPER_WITHIN_S = 20.0
_REBUILT_WITHIN_S = 300.0


async def run_rebuild(settings: Settings, *, shard: int | None) -> list[EpochBegun]:
    """Has the running keeper recount a shard or all, and says how that went."""
    assert settings.database_url
    ledger = await Ledger.connect(settings.database_url, size=1)
    try:
        rebuilds = LedgerRebuilds(ledger, settings.database_url)
        ended = await rebuilds.want_recount(shard, "hand")
        if not ended:
            raise NotFound("There is no such shard.")
        for taken_within_s in (_KEEPER_WITHIN_S, _REBUILT_WITHIN_S):
            until_s = asyncio.get_running_loop().time() + taken_within_s
            while asyncio.get_running_loop().time() < until_s:
                done = await rebuilds.begun(ended)
                if len(done) == len(ended):
                    return done
                if taken_within_s == _KEEPER_WITHIN_S and not await rebuilds.still_in(ended):
                    break  # a keeper is at it, and now only the ledger's size says how long it takes
                await asyncio.sleep(0.05)
            else:
                if taken_within_s == _KEEPER_WITHIN_S:
                    raise Unavailable("No keeper has taken it up: is the gateway running, and its writer with it?")
        raise GatewayError("The rebuild goes on; its keeper's log says why it takes so long.")
    finally:
        await ledger.close()


async def run_audit(settings: Settings, *, sale: str | None = None, final: bool = False) -> AuditReport:
    """Whether every invariant holds, from Valkey and PostgreSQL alone. `final`: the writer must have caught up."""
    assert settings.valkey_url and settings.database_url
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(LedgerAudit.connect(settings.database_url))
        valkey = connect(settings.valkey_url, max_connections=2, reply_timeout_s=30)
        stack.push_async_callback(valkey.aclose)
        auditor = Auditor(ledger=ledger, hot=HotAudit(client=valkey, scripts=Scripts(valkey)))
        return await auditor.run(sale=sale, final=final)
