"""A host's calls about a live room: what is said and shown in it, who may speak, and the log of it all."""

from typing import Any
from urllib.parse import quote

import msgspec

from gateway.client.calls import Answer, Calls

_PAGE_SIZE = "200"


class Announcement(msgspec.Struct, kw_only=True):
    text: str
    at: str


class Chat(msgspec.Struct, kw_only=True):
    slow_mode_s: int
    comments: str
    """`on` or `off`."""


class Word(msgspec.Struct, kw_only=True):
    word: str
    shop_wide: bool


class Muted(msgspec.Struct, kw_only=True):
    viewer: str
    until: str
    name: str | None = None


class Banned(msgspec.Struct, kw_only=True):
    """`room` is where it was spoken, and is to be lifted."""

    room: str
    viewer: str
    shop_wide: bool
    name: str | None = None


class Act(msgspec.Struct, kw_only=True):
    """Something a host did to a room or, with `sale`, to a sale of it."""

    at: str
    actor: str
    act: str
    before: Any = None
    after: Any = None
    sale: str | None = None
    reason: str | None = None


class Pair(msgspec.Struct, kw_only=True):
    """None is what cannot be said of a span."""

    last: float | None
    before: float | None


class Trend(msgspec.Struct, kw_only=True):
    """Key figures of the ten minutes up to `at`, against the ten before; they compare once it is `complete`."""

    room: str
    at: str
    span_s: int
    last_s: int
    before_s: int
    complete: bool
    figures: dict[str, Pair]
    currency: str | None = None


class _Pinned(msgspec.Struct):
    pin: dict[str, Any]


class _Muted(msgspec.Struct):
    until: str


class RoomHost(Calls):
    """Everything but announcements names a state and may be asked again without a key."""

    async def announce(self, room: str, text: str, *, key: str | None = None) -> Announcement:
        answer = await self.call("POST", f"{_path(room)}/announcements", {"text": text}, key=key)
        return msgspec.json.decode(answer.body, type=Announcement)

    async def pin_item(self, room: str, *, sale: str, sku: str) -> dict[str, Any]:
        """The pin as the room is shown it."""
        return _pin(await self.call("PUT", f"{_path(room)}/pin", {"sale": sale, "sku": sku}))

    async def pin_comment(self, room: str, comment: str) -> dict[str, Any]:
        return _pin(await self.call("PUT", f"{_path(room)}/pin", {"comment": comment}))

    async def unpin(self, room: str) -> None:
        await self.call("DELETE", f"{_path(room)}/pin")

    async def change_chat(self, room: str, *, slow_mode_s: int | None = None, comments: bool | None = None) -> Chat:
        """What is None stays."""
        body: dict[str, Any] = {}
        if slow_mode_s is not None:
            body["slow_mode_s"] = slow_mode_s
        if comments is not None:
            body["comments"] = "on" if comments else "off"
        answer = await self.call("PATCH", f"{_path(room)}/chat", body)
        return msgspec.json.decode(answer.body, type=Chat)

    async def mute(self, room: str, viewer: str, *, for_s: int) -> str:
        """Until when."""
        answer = await self.call("PUT", f"{_path(room)}/mutes/{_part(viewer)}", {"for_s": for_s})
        return msgspec.json.decode(answer.body, type=_Muted).until

    async def unmute(self, room: str, viewer: str) -> None:
        await self.call("DELETE", f"{_path(room)}/mutes/{_part(viewer)}")

    async def ban(self, room: str, viewer: str, *, shop_wide: bool = False) -> None:
        await self.call("PUT", f"{_path(room)}/bans/{_part(viewer)}", {"shop_wide": shop_wide})

    async def unban(self, room: str, viewer: str) -> None:
        await self.call("DELETE", f"{_path(room)}/bans/{_part(viewer)}")

    async def mutes(self, room: str) -> list[Muted]:
        """Newest first."""
        return msgspec.convert(await self._every(f"{_path(room)}/mutes", {}), list[Muted])

    async def bans(self, room: str) -> list[Banned]:
        """Newest first, those of the whole shop among them."""
        return msgspec.convert(await self._every(f"{_path(room)}/bans", {}), list[Banned])

    async def ban_word(self, room: str, word: str, *, shop_wide: bool = False) -> None:
        await self.call("PUT", f"{_path(room)}/words/{_part(word)}", {"shop_wide": shop_wide})

    async def allow_word(self, room: str, word: str) -> None:
        await self.call("DELETE", f"{_path(room)}/words/{_part(word)}")

    async def words(self, room: str) -> list[Word]:
        """Newest first, those of the whole shop among them."""
        return msgspec.convert(await self._every(f"{_path(room)}/words", {}), list[Word])

    async def retract(self, room: str, comment: str) -> None:
        """Nobody is shown the comment any more."""
        await self.call("DELETE", f"{_path(room)}/comments/{_part(comment)}")

    async def retract_all(self, room: str, viewer: str) -> None:
        """Nobody is shown what the viewer has said so far."""
        await self.call("DELETE", f"{_path(room)}/viewers/{_part(viewer)}/comments")

    async def acts(self, room: str) -> list[Act]:
        """Newest first."""
        return msgspec.convert(await self._every("/v1/acts", {"room": room}), list[Act])

    async def trend(self, room: str) -> Trend:
        answer = await self.call("GET", f"{_path(room)}/trend")
        return msgspec.json.decode(answer.body, type=Trend)

    async def _every(self, path: str, filters: dict[str, str]) -> list[Any]:
        """A list, page by page."""
        items: list[Any] = []
        params = {"limit": _PAGE_SIZE, **filters}
        while True:
            page = (await self.call("GET", path, params=params)).json()
            items += page["items"]
            if page["next"] is None:
                return items
            params["after"] = page["next"]


def _path(room: str) -> str:
    return f"/v1/rooms/{_part(room)}"


def _part(text: str) -> str:
    return quote(text, safe="")


def _pin(answer: Answer) -> dict[str, Any]:
    return msgspec.json.decode(answer.body, type=_Pinned).pin
