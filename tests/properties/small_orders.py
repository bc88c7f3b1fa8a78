"""The steps of orders and their money, and what may befall Valkey.

Each step changes the world in place and gives the word that the real part answers. None: it is not possible now, or it
has no effect.
"""

from tests.properties.small_world import (
    APPLIED,
    BACK,
    CANCELLED,
    CONFIRMED,
    DUE,
    EXPIRED,
    LATE,
    NO_MONEY,
    NONE,
    PAID,
    REFUND_DUE,
    REFUNDED,
    STATUS,
    THERE,
    WAITING,
    Broken,
    World,
)


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
        # A copy that is older than the order has no units of it; it is shut, and will be recounted.
        w.units[w.plan.taps[tap]] = max(0, w.units[w.plan.taps[tap]] - 1)
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
    w.wipe()
    w.tail = (0, 0)
    return "gone"


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
