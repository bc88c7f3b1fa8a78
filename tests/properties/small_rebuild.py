"""A rebuild, as gateway/keeper/rebuild.py does it. One that cannot go on gives up; whoever comes next looks anew."""

from typing import Any

from tests.properties.small_world import CONFIRMED, GONE, LOADING, THERE, WAITING, Broken, World, doubt


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
    filling, some_hash = w.there == LOADING, w.there != GONE or w.loaded
    if filling:
        w.wipe()
    if some_hash:
        w.open, w.loading, w.loaded = 0, 0, token - 1
    return _goes(w, slot, "decide", token, seen, epoch, filling, kept, run)


def _decide(w: World, slot: int, token: int, seen: int, epoch: int, filling: bool, kept: bool, run: int) -> str | None:
    """An epoch that the ledger began goes on only if nothing was sold in it for certain: this server still has what was
    there before it, or a recount that was not ended."""
    if (w.epoch, w.token) != (epoch, token):
        return _goes(w, slot)
    if w.reopen and w.run == run and w.cursor == 0 and (filling or seen == w.ended_epoch):
        if w.reopen == "advance":
            return _goes(w, slot, "advance", token, w.ended_epoch, w.ended_seq, epoch, run)
        return _goes(w, slot, "begin", token, epoch, run)
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
            w.lose(tap)
    w.stream = ()
    w.ended_epoch, w.ended_seq = epoch, seq
    w.epoch, w.cursor, w.run, w.reopen, w.token = following, 0, run, how, token + 1
    if how == "advance":
        return _goes(w, slot, "advance", w.token, epoch, seq, following, run)
    return _goes(w, slot, "begin", w.token, following, run)


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
    w.wipe()
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
