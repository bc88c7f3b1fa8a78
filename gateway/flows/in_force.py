"""An act of a host goes through a script: asked until there is an answer, and answered once the ledger has it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import structlog

from gateway.errors import GatewayError, HotUnavailable, OutcomeUnknown, ShardClosed

log = structlog.get_logger(__name__)

T = TypeVar("T")

KEPT_WITHIN_S = 5.0
# An act whose reply was lost is asked again: the script answers the same for an act already in force.
_PAUSES_S = (0.1, 0.4)


class Applied(Protocol):
    """`gateway.flows.applied.Applied`."""

    async def reached(self, shard: int, epoch: int, seq: int, *, within_s: float) -> bool: ...


async def in_force(ask: Callable[[], Awaitable[T]], *, load_if_new: Callable[[], Awaitable[bool]], what: str) -> T:
    """Asks a few times at most. `load_if_new` gives Valkey what it was never given: until then the shard looks shut."""
    lost, loaded = False, False
    pauses = iter(_PAUSES_S)
    while True:
        try:
            return await ask()
        except HotUnavailable as error:
            lost = True
            log.warning("act_lost", act=what, error=str(error))
            pause_s = next(pauses, None)
            if pause_s is None:
                raise OutcomeUnknown from error
            await asyncio.sleep(pause_s)
        except ShardClosed as error:
            if loaded or not await load_if_new():
                raise (OutcomeUnknown() if lost else error) from error
            loaded = True
        except GatewayError as error:
            # What is refused now may have been done by the call whose reply was lost.
            raise (OutcomeUnknown() if lost else error) from error
