"""The protocol in a world so small that all of it can be seen: a few viewers, one or two units, and every order in
which the steps of the processes can come.

A state is the ledger, Valkey, and what processes remember that could do harm when it is acted upon late: entries that
the writer has read, numbers that Valkey has confirmed, a no that was heard, how far a rebuild is. A step is what one
party does in one transaction or in one script call. Whatever is repeated without effect (a reply that was lost, a row
told twice) leaves the state as it is; a crash is that nobody takes the next step, until somebody else does. So a crash
between any two steps is in it without being named, and so is a process that was stopped and goes on much later.

Here are the states and what must hold in them; the steps are in small_orders.py and small_rebuild.py.
"""

from dataclasses import dataclass
from typing import Any

Step = tuple[Any, ...]
State = tuple[Any, ...]

# Where an order stands: in the stream, then as the ledger says.
NONE, WAITING, CONFIRMED, PAID, EXPIRED, CANCELLED, REFUND_DUE, REFUNDED = range(8)
STATUS = ("none", "waiting", "confirmed", "paid", "expired", "cancelled", "refund_due", "refunded")
# Its money: none, asked of Valkey since it came late, taken, to be given back, given back.
NO_MONEY, LATE, APPLIED, DUE, BACK = range(5)
MONEY = ("none", "waiting", "applied", "refund_due", "refunded")
# Valkey's part of the shard: not there, sells or is shut in an epoch, is filled by a rebuild.
GONE, THERE, LOADING = range(3)

_LIVE = (WAITING, CONFIRMED, PAID)
_ONLY_OLD = -3
"""What lies further back than this is as good as any other that is old."""


class Broken(Exception):
    """A promise that is not kept."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world has in it."""

    name: str
    taps: tuple[int, ...] = (0, 1, 2)
    """Orders that may be asked for, each of one unit and with a key of its own: the viewer of each."""
    stock: int = 2
    limit: int = 1
    does: tuple[str, ...] = ("pay", "expire", "cancel", "refund")
    """What may befall confirmed orders."""
    faults: tuple[str, ...] = ()
    """What may befall Valkey, each once: empty | restart (with its file) | save (a copy, which `older` brings back)."""
    rebuilders: int = 0

    @property
    def viewers(self) -> int:
        return max(self.taps) + 1


MEMORY: dict[str, tuple[str, ...]] = {
    "fence": ("token", "epoch", "epoch", "kept", "run"),
    "shut": ("token", "epoch", "epoch", "kept", "run"),
    "decide": ("token", "epoch", "epoch", "filling", "kept", "run"),
    "drain": ("token", "epoch", "kept", "run"),
    "wait": ("token", "epoch", "last", "kept", "run"),
    "judge": ("token", "epoch", "seq", "kept", "run"),
    "move": ("token", "epoch", "seq", "epoch", "how", "run"),
    "advance": ("token", "epoch", "seq", "epoch", "run"),
    "retake": ("token", "epoch", "run"),
    "begin": ("token", "epoch", "run"),
    "fill": ("token", "epoch", "run"),
    "open": ("token", "epoch", "number", "run"),
    "finish": ("token", "epoch"),
}
"""By the step of a rebuild that comes next, what the rebuilder remembers."""

_once: dict[Any, Any] = {}
"""Parts of states, each kept once."""


class World:
    """One state. Lists are by tap, `units` by viewer."""

    __slots__ = (
        *("plan", "faults"),
        *("epoch", "cursor", "run", "reopen", "token", "ended_epoch", "ended_seq", "outbox_no", "forgotten"),
        *("rows", "status", "money", "was_late"),
        *("stream", "ack", "no", "slots"),
        *("v_run", "there", "v_epoch", "v_seq", "released", "open", "loading", "loaded", "tail"),
        *("left", "held", "units", "ans", "late", "snap"),
    )

    def __init__(self, plan: Plan) -> None:
        taps = len(plan.taps)
        self.plan = plan
        self.faults = plan.faults
        # The ledger.
        self.epoch, self.cursor, self.run, self.reopen, self.token = 1, 0, 0, "", 0
        self.ended_epoch, self.ended_seq = 0, 0
        self.outbox_no, self.forgotten = 0, 0
        self.rows: tuple[tuple[str, int], ...] = ()
        """(kind, tap) of rows `forgotten + 1` to `outbox_no`."""
        self.status = [NONE] * taps
        self.money = [NO_MONEY] * taps
        self.was_late = [0] * taps
        """Some process has read that the payment waits."""
        # What processes remember.
        self.stream: tuple[tuple[str, int], ...] = ()
        """Entries of the ledger's epoch behind its cursor, (`order` | `late`, tap); Valkey may have lost the last."""
        self.ack = 0
        """The highest number of the outbox that Valkey ever said it had applied."""
        self.no = [0] * taps
        """Some process heard that no unit is free for the late payment."""
        self.slots: tuple[tuple[Any, ...], ...] = ((),) * plan.rebuilders
        # Valkey.
        self.v_run, self.there, self.v_epoch, self.v_seq, self.released, self.open = 0, THERE, 1, 0, 0, 1
        self.loading, self.loaded = 0, 0
        self.tail = (0, 0)
        """Epoch and number of the last entry of its stream."""
        self.left, self.held = plan.stock, 0
        self.units = [0] * plan.viewers
        self.ans = [0] * taps
        """What the key answers: 0 nothing, 1 the tap's order, 2 one that is lost."""
        self.late = [0] * taps
        """The late payment was decided."""
        self.snap: tuple[Any, ...] | None = None
        """A copy of Valkey's file."""

    def copy(self) -> "World":
        new = object.__new__(World)
        new.plan, new.faults, new.epoch = self.plan, self.faults, self.epoch
        new.cursor, new.run, new.reopen = self.cursor, self.run, self.reopen
        new.token, new.ended_epoch, new.ended_seq = self.token, self.ended_epoch, self.ended_seq
        new.outbox_no, new.forgotten, new.rows = self.outbox_no, self.forgotten, self.rows
        new.stream, new.ack, new.slots = self.stream, self.ack, self.slots
        new.v_run, new.there, new.v_epoch = self.v_run, self.there, self.v_epoch
        new.v_seq, new.released, new.open = self.v_seq, self.released, self.open
        new.loading, new.loaded, new.tail = self.loading, self.loaded, self.tail
        new.left, new.held, new.snap = self.left, self.held, self.snap
        new.status, new.money, new.no = self.status[:], self.money[:], self.no[:]
        new.units, new.ans, new.late = self.units[:], self.ans[:], self.late[:]
        new.was_late = self.was_late[:]
        return new

    # Identity. Viewers are alike and so are rebuilders: states that differ only in who is who are one. Numbers count
    # from where the ledger stands, so that a world that goes on for ever is finite all the same.

    def pack(self) -> State:
        where: list[list[Any]] = [[] for _ in self.status]
        for at, (kind, tap) in enumerate(self.stream):
            where[tap].append((kind, at))
        for at, (kind, tap) in enumerate(self.rows):
            where[tap].append((kind, at))
        parts: list[list[Any]] = [[units] for units in self.units]
        snap = self.snap
        for tap, viewer in enumerate(self.plan.taps):
            facts = (self.status[tap], self.money[tap], self.was_late[tap], self.no[tap], self.ans[tap], self.late[tap])
            parts[viewer].append((*facts, *where[tap]))
        shard: tuple[Any, ...] = (
            *(self.cursor, self.run == self.v_run, self.reopen, len(self.rows), self.ack - self.forgotten, self.faults),
            *self._relative(self.valkey()),
        )
        if self.plan.rebuilders:
            shard += (self.ended_epoch - self.epoch, self.ended_seq, tuple(sorted(map(self._slot, self.slots))))
        if snap is not None:
            shard += self._relative(snap)
            for tap, viewer in enumerate(self.plan.taps):
                parts[viewer] += (snap[10][viewer], snap[11][tap], snap[12][tap])
        people = sorted(map(tuple, parts))
        return (_once.setdefault(shard, shard), *(_once.setdefault(each, each) for each in people))

    def valkey(self) -> tuple[Any, ...]:
        return (
            *(self.there, self.v_epoch, self.v_seq, self.released, self.open, self.loading, self.loaded, self.tail),
            *(self.left, self.held, tuple(self.units), tuple(self.ans), tuple(self.late)),
        )

    def set_valkey(self, found: tuple[Any, ...]) -> None:
        self.there, self.v_epoch, self.v_seq, self.released, self.open, self.loading, self.loaded, self.tail = found[:8]
        self.left, self.held = found[8:10]
        self.units, self.ans, self.late = list(found[10]), list(found[11]), list(found[12])

    def _relative(self, found: tuple[Any, ...]) -> tuple[Any, ...]:
        there, epoch, seq, released, is_open, loading, loaded, tail, left, held = found[:10]
        return (
            *(there, max(epoch - self.epoch, _ONLY_OLD), seq, released - self.forgotten, is_open, left, held),
            *(max(loading - self.token, _ONLY_OLD), max(loaded - self.token, _ONLY_OLD)),
            *(max(tail[0] - self.epoch, _ONLY_OLD), tail[1]),
        )

    def _slot(self, slot: tuple[Any, ...]) -> tuple[Any, ...]:
        if not slot:
            return ()
        base = {"epoch": self.epoch, "token": self.token}
        told: list[Any] = [slot[0]]
        for name, value in zip(MEMORY[slot[0]], slot[1:], strict=True):
            if name in base:
                told.append(max(value - base[name], _ONLY_OLD) if value else -9)
            elif name == "number":
                told.append(value - self.forgotten)
            else:
                told.append(value == self.v_run if name == "run" else value)
        return tuple(told)

    def wipe(self) -> None:
        """Valkey has nothing of the shard any more."""
        self.there, self.v_epoch, self.v_seq, self.released, self.open = GONE, 0, 0, self.forgotten, 0
        self.loading, self.loaded, self.left, self.held = 0, 0, 0, 0
        self.units, self.ans, self.late = [0] * len(self.units), [0] * len(self.ans), [0] * len(self.late)

    def lose(self, tap: int) -> None:
        """The order was reserved, and neither Valkey nor the ledger has it any more."""
        self.status[tap] = NONE
        if self.ans[tap]:
            self.ans[tap] = 2
        if self.snap is not None and self.snap[11][tap]:
            answers = tuple(2 if at == tap else each for at, each in enumerate(self.snap[11]))
            self.snap = (*self.snap[:11], answers, self.snap[12])

    # What the ledger comes to.

    def ledger_units(self, status: tuple[int, ...] = (CONFIRMED, PAID)) -> int:
        return sum(1 for each in self.status if each in status)

    def of_viewer(self, viewer: int, status: tuple[int, ...] = (CONFIRMED, PAID)) -> int:
        return sum(1 for tap, each in enumerate(self.status) if each in status and self.plan.taps[tap] == viewer)

    def kept(self) -> int:
        """How many entries behind the cursor Valkey still has."""
        return max(0, self.tail[1] - self.cursor) if self.tail[0] == self.epoch else 0

    @property
    def guarded(self) -> bool:
        """Processes talk to this server: it is the one that the ledger's epoch names."""
        return self.run == self.v_run

    @property
    def decides(self) -> bool:
        return self.guarded and self.there == THERE and bool(self.open)


def doubt(w: World) -> str:
    """Why the keeper would rebuild the shard; empty: it would not."""
    if w.reopen:
        return "unfinished"
    if w.there == GONE:
        return "missing"
    if not w.guarded:
        return "server"
    if (w.v_epoch if w.there == THERE else 0) != w.epoch:
        return "epoch"
    if w.v_seq < w.cursor:
        return "behind"
    if w.released < w.forgotten or w.released > w.outbox_no:
        return "released"
    return "" if w.open else "shut"


# What must hold in every state.


def check(w: World) -> None:
    plan = w.plan
    if w.ledger_units() > plan.stock:
        raise Broken("the ledger has sold more than there is")
    if w.ledger_units(_LIVE) > plan.stock:
        raise Broken("more units are promised than there are")
    for tap, status in enumerate(w.status):
        if (w.money[tap] == APPLIED) != (status == PAID):
            raise Broken(f"an order is {STATUS[status]} and its money {MONEY[w.money[tap]]}")
        if w.money[tap] == LATE and status != EXPIRED:
            raise Broken(f"money waits for an order that is {STATUS[status]}")
    for viewer in range(plan.viewers):
        if w.of_viewer(viewer, _LIVE) > plan.limit:
            raise Broken("a viewer has more than the limit")
    if w.there != THERE or not w.open or w.reopen or not w.guarded:
        return
    if w.v_epoch != w.epoch:
        raise Broken("Valkey is open in an epoch that has ended")
    if w.released < w.forgotten:
        return  # a copy that is older than a row that was deleted; the keeper sees it
    if w.v_seq == w.cursor + len(w.stream):
        _conserved(w)


def _conserved(w: World) -> None:
    """Valkey and the ledger agree, less what is on its way between them."""
    left, held = w.plan.stock - w.ledger_units(), w.ledger_units((CONFIRMED,))
    units = [w.of_viewer(viewer) for viewer in range(w.plan.viewers)]
    for kind, tap in w.stream:
        left, held = left - 1, held + (kind == "order")
        units[w.plan.taps[tap]] += 1
    for kind, tap in w.rows[w.released - w.forgotten :]:
        if kind != "paid":
            left -= 1
            units[w.plan.taps[tap]] += 1
        held += kind != "return"
    if (w.left, w.held, w.units) != (left, held, units):
        raise Broken(f"Valkey has {(w.left, w.held, w.units)} where it should have {(left, held, units)}")
    if w.left < 0:
        raise Broken("less than nothing is left")
    if any(status > NONE and not ans for status, ans in zip(w.status, w.ans, strict=True)):
        raise Broken("a key has forgotten its order")


def check_rest(w: World) -> None:
    """Nobody has anything left to do: then all is told, and nothing is stuck."""
    if w.stream or w.rows:
        raise Broken("something was never told")
    if doubt(w):
        raise Broken(f"the shard does not sell: {doubt(w)}")
    if LATE in w.money:
        raise Broken("late money waits for ever")
    _conserved(w)
