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


def may_return(code: int) -> bool:
    """Whether a viewer whose socket was closed with `code` should connect again, after a back-off."""
    return 4000 <= code <= 4499 or code in _COME_BACK
