"""Links, bookings and pickup codes as HTTP shows them."""

import io

import segno
from msgspec import Struct

from gateway.domain.pickup import shown_code
from gateway.wire.told import Moment


class LinkReply(Struct, kw_only=True):
    ref: str
    """Goes into a viewer's token, or into the order itself."""


class BookingReply(Struct, kw_only=True):
    room: str
    booked_at: Moment


def pickup_svg(code: str) -> bytes:
    return _drawn(code, "svg")


def pickup_png(code: str) -> bytes:
    return _drawn(code, "png")


def _drawn(code: str, kind: str) -> bytes:
    """The code as people read it, as a picture for a till's camera: black on white, with the margin that it needs. Of a
    quarter that is hidden or scratched it is read all the same."""
    drawn = io.BytesIO()
    segno.make_qr(shown_code(code), error="q", boost_error=False).save(drawn, kind=kind, scale=8, light="#fff")
    return drawn.getvalue()
