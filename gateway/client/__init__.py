"""A viewer and a host of Peakgate in Python: what the demo, the tests and the load tests use.

`Viewer` is one person in a room over the live socket, `ViewerHttp` the same by HTTP, `Host` the one who runs the sale,
`Backend` the shop's own server, `Clerk` who hands over what was paid.
`Connection` is the layer below `Viewer`: one socket without reconnect, for generators of load.
"""

from gateway.client.backend import Backend
from gateway.client.claims import ClaimAnswer, KnownClaim
from gateway.client.comments import CommentAnswer
from gateway.client.connection import Connection, connect
from gateway.client.errors import HandshakeRefused, NoAnswer, ViewerAway
from gateway.client.host import Host
from gateway.client.http import ViewerHttp
from gateway.client.orders import KnownOrder, OrderAnswer
from gateway.client.people import Clerk
from gateway.client.room_view import RoomView
from gateway.client.viewer import Viewer

__all__ = [
    "Backend",
    "ClaimAnswer",
    "Clerk",
    "CommentAnswer",
    "Connection",
    "HandshakeRefused",
    "Host",
    "KnownClaim",
    "KnownOrder",
    "NoAnswer",
    "OrderAnswer",
    "RoomView",
    "Viewer",
    "ViewerAway",
    "ViewerHttp",
    "connect",
]
