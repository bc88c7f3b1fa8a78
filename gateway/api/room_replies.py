"""What hosts do to a live room, as HTTP shows it."""

from typing import Any

from msgspec import Struct

from gateway.api.replies import instant
from gateway.domain.acts import ActDone
from gateway.domain.live import RoomStanding
from gateway.flows.moderate import Banned, BannedWord, Muted
from gateway.flows.steer_room import Announcement
from gateway.wire.told import Moment, OnOff


class AnnouncementReply(Struct, kw_only=True):
    text: str
    at: Moment


class PinReply(Struct, kw_only=True):
    pin: dict[str, Any]


class MuteReply(Struct, kw_only=True):
    viewer: str
    until: Moment


class BanReply(Struct, kw_only=True):
    viewer: str
    shop_wide: bool


class MutedReply(Struct, kw_only=True, omit_defaults=True):
    viewer: str
    until: Moment
    name: str | None = None
    """The one the viewer last commented under in the room, once that is archived."""


class BannedReply(Struct, kw_only=True, omit_defaults=True):
    room: str
    """Where it was spoken, and where it is lifted: in each room a viewer has another pseudonym."""
    viewer: str
    shop_wide: bool
    name: str | None = None


class WordReply(Struct, kw_only=True):
    word: str
    shop_wide: bool


class ChatReply(Struct, kw_only=True):
    slow_mode_s: int
    comments: OnOff


class ActReply(Struct, kw_only=True, omit_defaults=True):
    """`before` and `after` are what the act changed, each as the kind of act has it."""

    at: Moment
    actor: str
    act: str
    before: Any
    after: Any
    sale: str | None = None
    """The sale it was done to; without one, and without a coupon, the room."""
    coupon: str | None = None
    """The coupon that was dropped."""
    reason: str | None = None


def announcement_reply(announcement: Announcement) -> AnnouncementReply:
    return AnnouncementReply(text=announcement.text, at=instant(announcement.at_ms))


def chat_reply(standing: RoomStanding) -> ChatReply:
    return ChatReply(slow_mode_s=standing.slow_mode_s, comments="on" if standing.comments else "off")


def muted_reply(muted: Muted) -> MutedReply:
    return MutedReply(viewer=muted.viewer, until=instant(muted.until_ms), name=muted.name)


def banned_reply(banned: Banned) -> BannedReply:
    return BannedReply(room=banned.room, viewer=banned.viewer, shop_wide=banned.shop_wide, name=banned.name)


def word_reply(banned: BannedWord) -> WordReply:
    return WordReply(word=banned.word, shop_wide=banned.shop_wide)


def act_reply(act: ActDone) -> ActReply:
    return ActReply(
        at=instant(act.place.at_ms),
        actor=act.actor,
        act=act.act,
        before=_shown(act.before),
        after=_shown(act.after),
        sale=act.sale,
        coupon=act.coupon,
        reason=act.reason,
    )


def _shown(value: Any) -> Any:
    """Times as HTTP has them."""
    if not isinstance(value, dict):
        return value
    return {
        name.removesuffix("_ms") if name.endswith("_ms") else name: (
            instant(part) if name.endswith("_ms") and isinstance(part, int) else part
        )
        for name, part in value.items()
    }
