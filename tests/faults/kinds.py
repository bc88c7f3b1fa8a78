"""Every kind of fault there is, with all it can be done to."""

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gateway
from tests.faults.at_disk import failing_sync, file_removed, flush, full_disk, older_file, slow_ledger, slow_sync
from tests.faults.at_links import bend
from tests.faults.at_processes import (
    kill,
    kill_at_point,
    kill_backend,
    ledger_away,
    restart_ledger,
    stop,
    stop_at_point,
    terminate_backends,
)
from tests.faults.strike import Inject, Struck
from tests.faults.world import ROLES, SERVERS, World
from tests.support.fault_proxy import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str
    targets: Sequence[str]
    inject: Inject
    many: bool = False
    """Its targets are too many to do all of them."""
    loses: bool = False
    """Valkey's file is gone or older than what was promised: `reserved` may end as refused, `lost`."""
    compiled: bool = False
    """It is done by `bad_disk.c`, which a C compiler makes."""

    def may_lose(self, target: str) -> bool:
        return self.loses or (self.many and _LOSSES.search(target) is not None)


# What loses in a pair of faults.
_LOSSES = re.compile(r"flush on|file removed on|older file on|in a rebuild on")


def all_kinds() -> list[Kind]:
    links = [f"{role}>{server}" for role in ROLES for server in SERVERS] + ["clients>live", "clients>api"]
    found = points_in_code()
    rebuilds = [point for point in found if point.startswith("rebuild.")]
    elsewhere = [point for point in found if point not in rebuilds]
    alone = [
        *(Kind(name=f"kill {target}", targets=[target], inject=kill) for target in (*ROLES, *SERVERS)),
        *(Kind(name=f"stop {target}", targets=[target], inject=stop) for target in (*ROLES, *SERVERS)),
        Kind(name="kill a backend", targets=["ledger"], inject=kill_backend),
        Kind(name="terminate backends", targets=["ledger"], inject=terminate_backends),
        Kind(name="restart ledger", targets=["ledger"], inject=restart_ledger),
        Kind(name="ledger away", targets=["ledger"], inject=ledger_away),
        *(
            Kind(name=f"link {mode.replace('_', ' ')}", targets=_asked(links, mode), inject=bend(mode))
            for mode in Mode
            if mode is not Mode.PASS
        ),
        Kind(name="kill at point", targets=elsewhere, inject=kill_at_point),
        Kind(name="stop at point", targets=elsewhere, inject=stop_at_point),
        Kind(name="kill in a rebuild", targets=rebuilds, inject=kill_at_point, loses=True),
        Kind(name="stop in a rebuild", targets=rebuilds, inject=stop_at_point, loses=True),
        Kind(name="slow sync", targets=["orders"], inject=slow_sync, compiled=True),
        Kind(name="failing sync", targets=["orders"], inject=failing_sync, compiled=True),
        Kind(name="full disk", targets=["orders"], inject=full_disk, compiled=True),
        Kind(name="slow sync ledger", targets=["ledger"], inject=slow_ledger, compiled=True),
        Kind(name="flush", targets=["orders"], inject=flush, loses=True),
        Kind(name="file removed", targets=["orders"], inject=file_removed, loses=True),
        Kind(name="older file", targets=["orders"], inject=older_file, loses=True),
    ]
    return [*alone, two_at_once(alone)]


def _asked(links: Sequence[str], mode: Mode) -> list[str]:
    """The keeper tells rooms of what it changed and listens to nobody: too seldom to wait for a reply to lose."""
    return [link for link in links if not (mode is Mode.LOSE_REPLY and link == "keeper>rooms")]


def two_at_once(kinds: Sequence[Kind]) -> Kind:
    """A target names two faults, `one + other`, that are done at the same time."""
    by_name = {f"{kind.name} on {target}": (kind, target) for kind in kinds for target in kind.targets}
    # Beside anything: faults that do not wait for a server that the first one may hold down.
    mild = ("link", *(f"{do} {role}" for role in ROLES for do in ("kill", "stop")))
    beside = [name for name in by_name if name.startswith(mild)]

    async def inject(world: World, target: str, rng: random.Random, long: bool) -> Struck:
        both = [by_name[name] for name in target.split(" + ")]
        ended = await asyncio.gather(
            *(kind.inject(world, each, rng, long) for kind, each in both), return_exceptions=True
        )
        struck: list[Struck] = []
        for each in ended:
            # Both are over before either failure is told.
            if isinstance(each, BaseException):
                raise each
            struck.append(each)
        return Struck(max(each.at_ms for each in struck), target, max(each.over_at_ms for each in struck))

    return Kind(
        name="two at once",
        targets=[f"{one} + {other}" for one in by_name for other in beside if one != other],
        inject=inject,
        many=True,
    )


def points_in_code() -> list[str]:
    """The labelled points that the gateway has today."""
    folder = Path(gateway.__file__).parent
    text = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    return sorted(set(re.findall(r"points\.reach\(\s*\"([^\"]+)\"", text)))
