"""The room as a viewer sees it: built from a snapshot, kept by ticks. No socket, no clock.

Any client can be written after this page. Events, fields and frames it does not know change nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# What a phone scrolls back to; the gateway's snapshot shows fewer.
RECENT_COMMENTS: Final = 100


@dataclass(slots=True)
class SaleView:
    """A sale as it was last told. What the sale does not show of its stock is not in `items`."""

    facts: dict[str, Any]
    """Its own fields: `sale`, `title`, `state`, `opens_at_ms` …"""
    items: dict[str, dict[str, Any]]
    """By sku: `price_minor`, `left` or `low` …"""

    @property
    def state(self) -> str:
        return str(self.facts.get("state", ""))


class RoomView:
    """The room as it is at tick `seq` of `epoch`.

    A tick at or before `seq` was in the picture already and changes nothing, so that a snapshot and the ticks around
    it may overlap. A later one is applied as it is, also after a hole: finding holes is its reader's work.
    """

    __slots__ = (
        "_recent",
        "announcement",
        "chat",
        "coupons",
        "epoch",
        "likes",
        "pin",
        "room",
        "sales",
        "seq",
        "shown",
        "skipped",
        "viewers",
    )

    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self.epoch: int = snapshot.get("epoch", 0)
        self.seq: int = snapshot.get("seq", 0)
        self.room: dict[str, Any] = dict(snapshot.get("room") or {})
        self.viewers: int = snapshot.get("viewers", 0)
        self.likes: int = snapshot.get("likes", 0)
        self.chat: dict[str, Any] = dict(snapshot.get("chat") or {})
        self.pin: dict[str, Any] | None = snapshot.get("pin")
        self.announcement: str | None = None
        self.sales = {sale["sale"]: _sale(sale) for sale in snapshot.get("sales") or ()}
        self.coupons = {coupon["coupon"]: dict(coupon) for coupon in snapshot.get("coupons") or ()}
        self.shown = 0
        """Comments that ticks brought since the snapshot."""
        self.skipped = 0
        """Comments since the snapshot that the gateway did not show (to this viewer)."""
        self._recent: dict[str, dict[str, Any]] = {}
        for comment in snapshot.get("recent") or ():
            self._draw(comment)

    @property
    def recent(self) -> list[dict[str, Any]]:
        """The last comments, oldest first, each with `comment`, `viewer`, `name`, `text`, `at_ms`."""
        return list(self._recent.values())

    def tick(self, tick: Mapping[str, Any]) -> None:
        """What happened in the room, in its order."""
        if tick["seq"] <= self.seq:
            return
        self.seq = tick["seq"]
        # Absent means unchanged.
        self.viewers = tick.get("viewers", self.viewers)
        self.likes = tick.get("likes", self.likes)
        self.skipped += tick.get("skipped", 0)
        for event in tick.get("ev") or ():
            self._event(event)

    def posted(self, *, comment: str, viewer: str, text: str, at_ms: int) -> None:
        """A comment of one's own, drawn from its reply: it is shown to its author even when it is sampled away.

        When a tick brings it, or has brought it, the tick's words stand: there the name is in it.
        """
        if comment not in self._recent:
            self._draw({"comment": comment, "viewer": viewer, "name": "", "text": text, "at_ms": at_ms})

    def _event(self, event: Mapping[str, Any]) -> None:
        match event.get("k"):
            case "comment":
                self.shown += 1
                self._draw({name: value for name, value in event.items() if name != "k"})
            case "comment_gone":
                self._retract(event)
            case "stock" | "price":
                changed = {name: value for name, value in event.items() if name not in ("k", "sale")}
                self._sale(event["sale"]).items.setdefault(event["sku"], {}).update(changed)
            case "sale":
                self._sale(event["sale"]).facts.update(_facts(event))
            case "coupon":
                self.coupons.setdefault(event["coupon"], {}).update(_facts(event))
            case "pin":
                self.pin = event.get("pin")
            case "chat":
                self.chat.update(_facts(event))
            case "room":
                self.room.update(_facts(event))
            case "announce":
                self.announcement = event.get("text")

    def _draw(self, comment: Mapping[str, Any]) -> None:
        # One that is there already keeps its place: the author's own is drawn before its tick.
        self._recent[comment["comment"]] = dict(comment)
        if len(self._recent) > RECENT_COMMENTS:
            del self._recent[next(iter(self._recent))]

    def _retract(self, event: Mapping[str, Any]) -> None:
        """One comment by its id, or all so far of a viewer."""
        self._recent.pop(event.get("comment", ""), None)
        viewer = event.get("viewer")
        if viewer is not None:
            self._recent = {id: shown for id, shown in self._recent.items() if shown.get("viewer") != viewer}

    def _sale(self, sale: str) -> SaleView:
        """One that is newer than the snapshot begins with what its events say."""
        return self.sales.setdefault(sale, SaleView({"sale": sale}, {}))


def _sale(sale: Mapping[str, Any]) -> SaleView:
    facts = {name: value for name, value in sale.items() if name != "items"}
    return SaleView(facts, {item["sku"]: dict(item) for item in sale.get("items") or ()})


def _facts(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "k"}
