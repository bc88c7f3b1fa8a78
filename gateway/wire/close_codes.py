"""Close codes of the live socket, and what a viewer's client does about each.

The range says it without a table: 4000 to 4499 come back, 4500 to 4999 stay away.
"""

from enum import IntEnum


class CloseCode(IntEnum):
    # RFC 6455. 1005 and 1006 are never sent: no code in the close frame, no close frame at all.
    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_TEXT = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    # Come back.
    SLOW = 4008
    TAKE_SNAPSHOT = 4010
    TOO_MANY_FRAMES = 4013
    NO_HELLO = 4014
    FULL = 4029
    TOKEN_ENDED = 4401
    # Stay away.
    BAD_TOKEN = 4500
    BANNED = 4503
    ROOM_ENDED = 4504
    NOT_ALLOWED = 4507
    BROKEN_FRAMES = 4509


# What says nothing about the viewer: the server left, restarted, failed, or the network did.
_COME_BACK = frozenset(
    {
        CloseCode.GOING_AWAY,
        CloseCode.NO_STATUS,
        CloseCode.ABNORMAL,
        CloseCode.INTERNAL_ERROR,
        CloseCode.SERVICE_RESTART,
        CloseCode.TRY_AGAIN_LATER,
    }
)

# Why, as the contract tells it; without those that are never sent.
MEANINGS = {
    CloseCode.NORMAL: "The viewer closed.",
    CloseCode.GOING_AWAY: "This process goes away.",
    CloseCode.PROTOCOL_ERROR: "Broken WebSocket frames (RFC 6455).",
    CloseCode.UNSUPPORTED_DATA: "The wrong kind of frame for this subprotocol.",
    CloseCode.INVALID_TEXT: "A text frame that is no UTF-8.",
    CloseCode.MESSAGE_TOO_BIG: "A frame of more than 4 KiB.",
    CloseCode.INTERNAL_ERROR: "A fault of the gateway.",
    CloseCode.SERVICE_RESTART: "This process goes away, or could not let the viewer in just now.",
    CloseCode.TRY_AGAIN_LATER: "Too much at once.",
    CloseCode.SLOW: "The viewer reads too slowly.",
    CloseCode.TAKE_SNAPSHOT: "Come back without `resume`.",
    CloseCode.TOO_MANY_FRAMES: "More than 200 frames a second.",
    CloseCode.NO_HELLO: "No `hello` within 5 s, or another first frame.",
    CloseCode.FULL: "A sixth socket of the viewer in the room, too many at once, or the shop has its viewers.",
    CloseCode.TOKEN_ENDED: "The token ended; come back with a fresh one.",
    CloseCode.BAD_TOKEN: "The token is not good.",
    CloseCode.BANNED: "Banned from the room or the shop.",
    CloseCode.ROOM_ENDED: "The room has ended.",
    CloseCode.NOT_ALLOWED: "Not of this shop or room, or a page whose Origin the shop does not list.",
    CloseCode.BROKEN_FRAMES: "Three frames that cannot be read.",
}


def may_return(code: int) -> bool:
    """Whether a viewer whose socket was closed with `code` should connect again, after a back-off."""
    return 4000 <= code <= 4499 or code in _COME_BACK
