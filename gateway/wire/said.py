"""The entries of a room shard's archive stream, as the scripts write them with cmsgpack and the keeper reads them.

An entry carries what one call brought of one room, in its order. What cannot be stored cannot be read: numbers are
bounded by the columns they go to, and a viewer by what an index takes.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

_Room = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Viewer = Annotated[str, Meta(max_length=200)]


class Said(Struct, tag="c", array_like=True, gc=False):
    n: _Count
    at_ms: _Count
    viewer: _Viewer
    sub: str
    name: str
    text: str


class CommentGone(Struct, tag="g", array_like=True, gc=False):
    n: _Count
    actor: str


class ViewerGone(Struct, tag="v", array_like=True, gc=False):
    viewer: _Viewer
    up_to_n: _Count
    actor: str


class Likes(Struct, tag="l", array_like=True, gc=False):
    total: _Count


class Entry(Struct, array_like=True, gc=False):
    room_no: _Room
    epoch: _Count
    items: list[Said | CommentGone | ViewerGone | Likes]


decode = msgspec.msgpack.Decoder(Entry).decode
