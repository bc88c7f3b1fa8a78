"""The protocol in a world so small that all of it can be seen: a few viewers, one or two units, and every order in which
the steps of the processes can come.

A state is the ledger, Valkey, and what processes remember that could do harm when it is acted upon late: entries that the
writer has read, numbers that Valkey has confirmed, a no that was heard, how far a rebuild is. A step is what one party does
in one transaction or in one script call. Whatever is repeated without effect (a reply that was lost, a row told twice)
leaves the state as it is; a crash is that nobody takes the next step, until somebody else does. So a crash between any two
steps is in it without being named, and so is a process that was stopped and goes on much later.
"""

from collections.abc import Iterator
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
    does: frozenset[str] = frozenset({"pay", "expire", "cancel", "refund"})
    """What may befall confirmed orders."""
    faults: tuple[str, ...] = ()
    """What may befall Valkey, each once: empty | restart (with its file) | save (a copy, which `older` brings back)."""
    rebuilders: int = 0

    @property
    def viewers(self) -> int:
        return max(self.taps) + 1


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
        """Entries of the ledger's epoch behind its cursor, (`order` | `late`, tap). Valkey may have lost the last ones."""
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
        new.plan, new.faults, new.epoch, new.cursor, new.run = self.plan, self.faults, self.epoch, self.cursor, self.run
        new.reopen, new.token, new.ended_epoch, new.ended_seq, new.outbox_no = self.reopen, self.token, self.ended_epoch, self.ended_seq, self.outbox_no
        new.forgotten, new.rows, new.stream, new.ack, new.slots = self.forgotten, self.rows, self.stream, self.ack, self.slots
        new.v_run, new.there, new.v_epoch, new.v_seq, new.released = self.v_run, self.there, self.v_epoch, self.v_seq, self.released
        new.open, new.loading, new.loaded, new.tail, new.left = self.open, self.loading, self.loaded, self.tail, self.left
        new.held, new.snap = self.held, self.snap
        new.status, new.money, new.was_late, new.no = self.status[:], self.money[:], self.was_late[:], self.no[:]
        new.units, new.ans, new.late = self.units[:], self.ans[:], self.late[:]
        return new

    # Identity. Viewers are alike and so are rebuilders: states that differ only in who is who are one. Numbers count from
    # where the ledger stands, so that a world that goes on for ever is finite all the same.

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


# The steps. Each changes the world in place and gives the word that the real part answers; None: it is not possible now, or
# has no effect.


def ask(w: World, tap: int) -> str | None:
    """A viewer asks, for the first time or again: the reply was lost, or another process is asked."""
    if not w.decides:
        return None
    if w.ans[tap]:
        if w.ans[tap] == 2:
            raise Broken("a key answers with an order that was lost")
        return None
    viewer = w.plan.taps[tap]
    if w.units[viewer] + 1 > w.plan.limit or w.left < 1:
        return None
    if w.v_epoch != w.epoch:
        raise Broken("Valkey sells in an epoch that has ended")
    if w.v_seq != w.cursor + len(w.stream):
        raise Broken("Valkey gives a number that was given before")
    if w.status[tap] != NONE:
        raise Broken("a key whose order the ledger has is sold once more")
    w.v_seq += 1
    w.tail = (w.v_epoch, w.v_seq)
    w.left, w.held = w.left - 1, w.held + 1
    w.units[viewer] += 1
    w.ans[tap] = 1
    w.status[tap] = WAITING
    w.stream += (("order", tap),)
    return "reserved"


def commit(w: World) -> str | None:
    """The writer applies the next entry it has read, whether Valkey still has it or not."""
    if not w.stream:
        return None
    (kind, tap), w.stream = w.stream[0], w.stream[1:]
    w.cursor += 1
    free = w.ledger_units() < w.plan.stock and w.of_viewer(w.plan.taps[tap]) < w.plan.limit
    if kind == "order":
        if not free:
            raise Broken("the ledger refuses an order that Valkey reserved")
        w.status[tap] = CONFIRMED
        return "confirmed"
    if w.money[tap] == LATE and w.status[tap] == EXPIRED and free:
        w.status[tap], w.money[tap], w.no[tap] = PAID, APPLIED, 0
        return "paid"
    _refund_late(w, tap)
    _row(w, "return", tap)
    return STATUS[w.status[tap]]


def _row(w: World, kind: str, tap: int) -> None:
    w.outbox_no += 1
    w.rows += ((kind, tap),)


def _refund_late(w: World, tap: int) -> bool:
    if w.money[tap] != LATE:
        return False
    w.money[tap], w.no[tap] = DUE, 0
    if w.status[tap] == EXPIRED:
        w.status[tap] = REFUND_DUE
    return True


def pay(w: World, tap: int) -> str | None:
    if w.money[tap] != NO_MONEY or w.status[tap] not in (CONFIRMED, EXPIRED, CANCELLED):
        return None
    if w.status[tap] == CONFIRMED:
        w.status[tap], w.money[tap] = PAID, APPLIED
        _row(w, "paid", tap)
    elif w.status[tap] == EXPIRED:
        w.money[tap], w.was_late[tap] = LATE, 1
    else:
        w.status[tap], w.money[tap] = REFUND_DUE, DUE
    return STATUS[w.status[tap]]


def expire(w: World, tap: int) -> str | None:
    if w.status[tap] != CONFIRMED:
        return None
    w.status[tap] = EXPIRED
    _row(w, "release", tap)
    return "expired"


def cancel(w: World, tap: int) -> str | None:
    if w.status[tap] != CONFIRMED:
        return None
    w.status[tap] = CANCELLED
    _row(w, "release", tap)
    return "cancelled"


def refund(w: World, tap: int) -> str | None:
    if w.money[tap] == APPLIED:
        w.status[tap], w.money[tap] = REFUNDED, BACK
        _row(w, "return", tap)
    elif w.money[tap] == DUE:
        w.money[tap] = BACK
        if w.status[tap] == REFUND_DUE:
            w.status[tap] = REFUNDED
    else:
        return None
    return STATUS[w.status[tap]]


def release(w: World) -> str | None:
    """Valkey applies the next row of the outbox, from whoever read it and whenever; or says how far it is already."""
    if not (w.guarded and w.there == THERE) or w.released < w.forgotten:
        return None
    if w.ack < w.released and w.rows:
        w.ack = w.released
        return "told"
    if w.released >= w.outbox_no:
        return None
    kind, tap = w.rows[w.released - w.forgotten]
    w.released += 1
    w.ack = max(w.ack, w.released)
    if kind != "return":
        w.held -= 1
    if kind != "paid":
        w.left += 1
        w.units[w.plan.taps[tap]] -= 1
    return "released"


def forget(w: World) -> str | None:
    """The ledger deletes a row, by whoever heard that it was applied."""
    if w.ack <= w.forgotten:
        return None
    w.forgotten += 1
    w.rows = w.rows[1:]
    return "forgotten"


def revive(w: World, tap: int) -> str | None:
    """Late money asks for a unit, also of a payment that was settled since it was read."""
    if not w.was_late[tap] or not w.decides or w.late[tap]:
        return None
    viewer = w.plan.taps[tap]
    if w.units[viewer] + 1 > w.plan.limit or w.left < 1:
        if w.money[tap] != LATE or w.no[tap]:
            return None
        w.no[tap] = 1
        return "limit_reached" if w.units[viewer] + 1 > w.plan.limit else "sold_out"
    if w.v_epoch != w.epoch:
        raise Broken("Valkey revives in an epoch that has ended")
    if w.v_seq != w.cursor + len(w.stream):
        raise Broken("Valkey gives a number that was given before")
    w.v_seq += 1
    w.tail = (w.v_epoch, w.v_seq)
    w.left -= 1
    w.units[viewer] += 1
    w.late[tap] = 1
    w.stream += (("late", tap),)
    return "revived"


def say_no(w: World, tap: int) -> str | None:
    """The ledger is told that the order cannot come back, by whoever heard it and whenever."""
    if not w.no[tap] or not _refund_late(w, tap):
        return None
    return STATUS[w.status[tap]]


# Faults.


def empty(w: World) -> str | None:
    """All that Valkey has is gone; the server goes on."""
    w.faults = tuple(each for each in w.faults if each != "empty")
    _wipe(w)
    w.tail = (0, 0)
    return "gone"


def _wipe(w: World) -> None:
    w.there, w.v_epoch, w.v_seq, w.released, w.open, w.loading, w.loaded = GONE, 0, 0, w.forgotten, 0, 0, 0
    w.left = w.held = 0
    w.units, w.ans, w.late = [0] * len(w.units), [0] * len(w.ans), [0] * len(w.late)


def restart(w: World) -> str | None:
    """The server comes back with its file."""
    w.faults = tuple(each for each in w.faults if each != "restart")
    w.v_run += 1
    return "restarted"


def save(w: World) -> str | None:
    w.faults = tuple("older" if each == "save" else each for each in w.faults)
    w.snap = w.valkey()
    return "saved"


def older(w: World) -> str | None:
    """The server comes back with an older copy of its file."""
    assert w.snap is not None
    w.faults = tuple(each for each in w.faults if each != "older")
    w.set_valkey(w.snap)
    w.snap = None
    w.v_run += 1
    return "older"


# A rebuild, as gateway/keeper/rebuild.py does it; one that cannot go on gives up, and whoever comes next looks anew.

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
"""By the step that comes next, what a rebuilder remembers."""


def doubt(w: World) -> str:
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


def look(w: World, slot: int) -> str | None:
    """A rebuilder begins."""
    if w.slots[slot]:
        return None
    why = doubt(w)
    if not why:
        return None
    epoch = w.v_epoch if w.there == THERE else 0
    if w.reopen and w.open and w.guarded and epoch == w.epoch:
        return _goes(w, slot, "finish", 0, w.epoch)
    return _goes(w, slot, "fence", w.token, epoch, w.epoch, why not in ("missing", "behind", "epoch"), w.v_run)


def give_up(w: World, slot: int) -> str | None:
    """Killed; or stopped for so long that it does not matter whether it comes back."""
    if not w.slots[slot]:
        return None
    return _goes(w, slot)


def _goes(w: World, slot: int, *memory: Any) -> str:
    w.slots = (*w.slots[:slot], memory, *w.slots[slot + 1 :])
    return memory[0] if memory else "gone"


def rebuild(w: World, slot: int) -> str | None:
    """A rebuilder takes its next step."""
    if not w.slots[slot]:
        return None
    name, *memory = w.slots[slot]
    return _REBUILD[name](w, slot, *memory)


def _fence(w: World, slot: int, token: int, seen: int, epoch: int, kept: bool, run: int) -> str | None:
    """From here on no rebuild that began before reads the ledger or ends an epoch."""
    if (w.epoch, w.token) != (epoch, token):
        return _goes(w, slot)
    w.token += 1
    return _goes(w, slot, "shut", w.token, seen, epoch, kept, run)


def _shut(w: World, slot: int, token: int, seen: int, epoch: int, kept: bool, run: int) -> str | None:
    """And from here on none of them opens this server."""
    if w.v_run != run or (w.v_epoch if w.there == THERE else 0) != seen or max(w.loading, w.loaded) >= token:
        return _goes(w, slot)
    filling = w.there == LOADING
    if filling:
        _wipe(w)
    w.open, w.loading, w.loaded = 0, 0, token - 1
    return _goes(w, slot, "decide", token, seen, epoch, filling, kept, run)


def _decide(w: World, slot: int, token: int, seen: int, epoch: int, filling: bool, kept: bool, run: int) -> str | None:
    """An epoch that the ledger began goes on only if nothing was sold in it for certain: this server still has what was
    there before it, or a recount that was not ended."""
    if (w.epoch, w.token) != (epoch, token):
        return _goes(w, slot)
    if w.reopen and w.run == run and w.cursor == 0 and (filling or seen == w.ended_epoch):
        if w.reopen == "advance" and not filling:
            return _goes(w, slot, "advance", token, w.ended_epoch, w.ended_seq, epoch, run)
        if w.reopen == "recount":
            return _goes(w, slot, "begin", token, epoch, run)
        return _goes(w, slot, "retake", token, epoch, run)
    return _goes(w, slot, "drain", token, epoch, kept, run)


def _drain(w: World, slot: int, token: int, epoch: int, kept: bool, run: int) -> str | None:
    if w.v_run != run:
        return _goes(w, slot)
    return _goes(w, slot, "wait", token, epoch, w.tail[1] if w.tail[0] == epoch else 0, kept, run)


def _wait(w: World, slot: int, token: int, epoch: int, last: int, kept: bool, run: int) -> str | None:
    if w.epoch != epoch:
        return _goes(w, slot)
    if w.cursor < last:
        return None
    return _goes(w, slot, "judge", token, epoch, w.cursor, kept, run)


def _judge(w: World, slot: int, token: int, epoch: int, seq: int, kept: bool, run: int) -> str | None:
    if w.v_run != run or (w.epoch, w.token) != (epoch, token):
        return _goes(w, slot)
    v_epoch = w.v_epoch if w.there == THERE else 0
    whole = kept and (v_epoch, w.v_seq) == (epoch, seq) and w.forgotten <= w.released <= w.outbox_no
    following = max(epoch, v_epoch, w.tail[0]) + 1
    return _goes(w, slot, "move", token, epoch, seq, following, "advance" if whole else "recount", run)


def _move(w: World, slot: int, token: int, epoch: int, seq: int, following: int, how: str, run: int) -> str | None:
    if (w.epoch, w.cursor, w.token) != (epoch, seq, token):
        return _goes(w, slot)
    if w.kept():
        raise Broken("an epoch ends, and with it entries that Valkey has and the ledger has not")
    for kind, tap in w.stream:
        if kind == "order":
            _lose(w, tap)
    w.stream = ()
    w.ended_epoch, w.ended_seq = epoch, seq
    w.epoch, w.cursor, w.run, w.reopen, w.token = following, 0, run, how, token + 1
    if how == "advance":
        return _goes(w, slot, "advance", w.token, epoch, seq, following, run)
    return _goes(w, slot, "begin", w.token, following, run)


def _lose(w: World, tap: int) -> None:
    """The order was reserved, and neither Valkey nor the ledger has it any more."""
    w.status[tap] = NONE
    if w.ans[tap]:
        w.ans[tap] = 2
    if w.snap is not None and w.snap[11][tap]:
        answers = tuple(2 if at == tap else each for at, each in enumerate(w.snap[11]))
        w.snap = (*w.snap[:11], answers, w.snap[12])


def _advance(w: World, slot: int, token: int, ended: int, seq: int, epoch: int, run: int) -> str | None:
    if w.v_run != run:
        return _goes(w, slot)
    if w.there != THERE or (w.v_epoch, w.v_seq) != (ended, seq) or w.loaded >= token:
        return _goes(w, slot, "retake", token, epoch, run)
    w.v_epoch, w.v_seq, w.open, w.loaded = epoch, 0, 1, token
    return _goes(w, slot, "finish", token, epoch)


def _retake(w: World, slot: int, token: int, epoch: int, run: int) -> str | None:
    """What was to advance has to be recounted after all."""
    if (w.epoch, w.token) != (epoch, token) or not w.reopen:
        return _goes(w, slot)
    w.token, w.reopen = token + 1, "recount"
    return _goes(w, slot, "begin", w.token, epoch, run)


def _begin(w: World, slot: int, token: int, epoch: int, run: int) -> str | None:
    if w.v_run != run or w.open or w.loading > token or w.loaded >= token:
        return _goes(w, slot)
    loaded = w.loaded
    _wipe(w)
    w.there, w.loading, w.loaded = LOADING, token, loaded
    return _goes(w, slot, "fill", token, epoch, run)


def _fill(w: World, slot: int, token: int, epoch: int, run: int) -> str | None:
    """The ledger is read, and Valkey filled. The two are one step: until it is opened nobody sees what is filled."""
    if w.v_run != run or w.loading != token or (w.epoch, w.token, w.reopen) != (epoch, token, "recount"):
        return _goes(w, slot)
    w.left, w.held = w.plan.stock - w.ledger_units(), w.ledger_units((CONFIRMED,))
    w.units = [w.of_viewer(viewer) for viewer in range(len(w.units))]
    w.ans = [int(each > WAITING) for each in w.status]
    return _goes(w, slot, "open", token, epoch, w.outbox_no, run)


def _open(w: World, slot: int, token: int, epoch: int, number: int, run: int) -> str | None:
    if w.v_run != run or w.loading != token:
        return _goes(w, slot)
    w.there, w.v_epoch, w.v_seq, w.released, w.open, w.loading, w.loaded = THERE, epoch, 0, number, 1, 0, token
    return _goes(w, slot, "finish", token, epoch)


def _finish(w: World, slot: int, token: int, epoch: int) -> str | None:
    if w.epoch == epoch and w.reopen and token in (0, w.token):
        w.reopen = ""
    return _goes(w, slot)


_REBUILD: dict[str, Any] = {
    "fence": _fence,
    "shut": _shut,
    "decide": _decide,
    "drain": _drain,
    "wait": _wait,
    "judge": _judge,
    "move": _move,
    "advance": _advance,
    "retake": _retake,
    "begin": _begin,
    "fill": _fill,
    "open": _open,
    "finish": _finish,
}

STEPS: dict[str, Any] = {
    each.__name__: each
    for each in (
        *(ask, commit, pay, expire, cancel, refund, release, forget, revive, say_no),
        *(empty, restart, save, older, look, give_up, rebuild),
    )
}
PROGRESS = frozenset({"commit", "release", "forget", "revive", "say_no", "look", "rebuild"})
"""Steps that some process takes sooner or later by itself, if it can. Without any of them left the world is at rest."""


def steps_of(w: World) -> Iterator[Step]:
    """All that could come next; some of it has no effect."""
    yield ("commit",)
    yield ("release",)
    yield ("forget",)
    for tap in range(len(w.status)):
        yield "ask", tap
        for name in w.plan.does:
            yield name, tap
        if w.was_late[tap]:
            yield "revive", tap
            yield "say_no", tap
    for fault in w.faults:
        yield (fault,)
    for slot in range(len(w.slots)):
        if w.slots[slot]:
            yield "rebuild", slot
            yield "give_up", slot
        else:
            yield "look", slot


def take(w: World, step: Step) -> str | None:
    name, *where = step
    word: str | None = STEPS[name](w, *where)
    return word


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
