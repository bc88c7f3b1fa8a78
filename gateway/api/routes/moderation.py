"""Addresses of what hosts do to a live room, and of the log of it."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.bodies import page_of, read_body, required_key
from gateway.api.callers import Callers
from gateway.api.middleware import Audience
from gateway.api.replies import PageReply, instant, json_reply
from gateway.api.room_messages import (
    ChangedChat,
    NewAnnouncement,
    NewBan,
    NewMute,
    NewPin,
    PinnedItem,
    viewer_of,
    word_of,
)
from gateway.api.room_replies import (
    ActReply,
    AnnouncementReply,
    BannedReply,
    BanReply,
    ChatReply,
    MutedReply,
    MuteReply,
    PinReply,
    WordReply,
    act_reply,
    announcement_reply,
    banned_reply,
    chat_reply,
    muted_reply,
    word_reply,
)
from gateway.api.routes import Route
from gateway.domain.caller import Caller, Role
from gateway.errors import Invalid
from gateway.flows.acts import Acts
from gateway.flows.moderate import Moderate
from gateway.flows.steer_room import SteerRoom


class ModerationRoutes:
    def __init__(self, *, callers: Callers, steer: SteerRoom, moderate: Moderate, acts: Acts, max_bytes: int) -> None:
        self._callers = callers
        self._steer = steer
        self._moderate = moderate
        self._acts = acts
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        room = "/v1/rooms/{room}"
        yield Route(
            "POST",
            f"{room}/announcements",
            self.announce,
            Audience.HOSTS,
            about="Tells everybody in the room something.",
            takes=NewAnnouncement,
            gives={201: AnnouncementReply},
            refuses=("conflict",),
            keyed=True,
        )
        yield Route(
            "PATCH",
            f"{room}/chat",
            self.change_chat,
            Audience.HOSTS,
            about="Slow mode, and whether there are comments at all; what is left out stays.",
            takes=ChangedChat,
            gives={200: ChatReply},
            refuses=("conflict",),
        )
        for method, path, handler, about, takes, gives in (
            ("PUT", "pin", self.pin, "Pins an item or a comment; one thing at a time.", NewPin, PinReply),
            ("DELETE", "pin", self.unpin, "Nothing is pinned any more.", None, None),
            ("PUT", "mutes/{viewer}", self.mute, "The viewer says nothing for a while.", NewMute, MuteReply),
            ("DELETE", "mutes/{viewer}", self.unmute, "The viewer may speak again.", None, None),
            ("PUT", "bans/{viewer}", self.ban, "The viewer's sockets end, and none begins.", NewBan | None, BanReply),
            ("DELETE", "bans/{viewer}", self.unban, "Lifts a ban, one of the whole shop too.", None, None),
            ("PUT", "words/{word}", self.ban_word, "Comments with the word are refused.", NewBan | None, WordReply),
            ("DELETE", "words/{word}", self.allow_word, "Allows the word again, in the shop too.", None, None),
            ("DELETE", "comments/{comment}", self.retract, "Nobody is shown the comment any more.", None, None),
            ("DELETE", "viewers/{viewer}/comments", self.retract_all, "All the viewer has said so far.", None, None),
        ):
            yield Route(
                method,
                f"{room}/{path}",
                handler,
                Audience.HOSTS,
                about=about,
                takes=takes,
                gives={204: None} if gives is None else {200: gives},
                refuses=("conflict",),
            )
        for path, lister, about, item in (
            ("mutes", self.mutes, "Who may not speak in the room just now, newest first.", MutedReply),
            ("bans", self.bans, "Who is banned, from the room or from the whole shop, newest first.", BannedReply),
            ("words", self.words, "The banned words of the room and of the shop, newest first.", WordReply),
        ):
            yield Route(
                "GET",
                f"{room}/{path}",
                lister,
                Audience.HOSTS,
                about=about,
                gives={200: PageReply[item]},  # type: ignore[valid-type]
                query=("limit", "after"),
            )
        yield Route(
            "GET",
            "/v1/acts",
            self.acts,
            Audience.HOSTS,
            about="Who did what in a room and its sales, when, before and after; newest first.",
            gives={200: PageReply[ActReply]},
            refuses=("not_found",),
            query=("room", "limit", "after"),
            needs=("room",),
        )

    async def announce(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        key = required_key(request)
        body = await read_body(request, NewAnnouncement, max_bytes=self._max_bytes)
        announcement = await self._steer.announce(caller, room, body.said(), key=key)
        return json_reply(announcement_reply(announcement), status=201, replayed=announcement.replayed)

    async def pin(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        what = (await read_body(request, NewPin, max_bytes=self._max_bytes)).what()
        if isinstance(what, PinnedItem):
            pin = await self._steer.pin_item(caller, room, sale_id=what.sale, sku=what.sku)
        else:
            pin = await self._steer.pin_comment(caller, room, comment_id=what)
        return json_reply(PinReply(pin=pin))

    async def unpin(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        await self._steer.unpin(caller, room)
        return _done()

    async def change_chat(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        body = await read_body(request, ChangedChat, max_bytes=self._max_bytes)
        standing = await self._steer.set_chat(
            caller,
            room,
            slow_mode_s=body.slow_mode_s if isinstance(body.slow_mode_s, int) else None,
            comments=body.comments == "on" if isinstance(body.comments, str) else None,
        )
        return json_reply(chat_reply(standing))

    async def mute(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        viewer = viewer_of(request.match_info["viewer"])
        body = await read_body(request, NewMute, max_bytes=self._max_bytes)
        until_ms = await self._moderate.mute(caller, room, viewer, for_s=body.for_s)
        return json_reply(MuteReply(viewer=viewer, until=instant(until_ms)))

    async def unmute(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        await self._moderate.unmute(caller, room, viewer_of(request.match_info["viewer"]))
        return _done()

    async def ban(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        viewer = viewer_of(request.match_info["viewer"])
        body = await self._ban_body(request)
        await self._moderate.ban(caller, room, viewer, shop_wide=body.shop_wide)
        return json_reply(BanReply(viewer=viewer, shop_wide=body.shop_wide))

    async def unban(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        await self._moderate.unban(caller, room, viewer_of(request.match_info["viewer"]))
        return _done()

    async def mutes(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        page = page_of(request)
        muted, next_cursor = await self._moderate.mutes(caller, room, limit=page.limit, after=page.after)
        return json_reply(PageReply(items=list(map(muted_reply, muted)), next=next_cursor))

    async def bans(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        page = page_of(request)
        banned, next_cursor = await self._moderate.bans(caller, room, limit=page.limit, after=page.after)
        return json_reply(PageReply(items=list(map(banned_reply, banned)), next=next_cursor))

    async def words(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        page = page_of(request)
        words, next_cursor = await self._moderate.words(caller, room, limit=page.limit, after=page.after)
        return json_reply(PageReply(items=list(map(word_reply, words)), next=next_cursor))

    async def ban_word(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        word = word_of(request.match_info["word"])
        body = await self._ban_body(request)
        await self._moderate.ban_word(caller, room, word, shop_wide=body.shop_wide)
        return json_reply(WordReply(word=word, shop_wide=body.shop_wide))

    async def allow_word(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        await self._moderate.allow_word(caller, room, word_of(request.match_info["word"]))
        return _done()

    async def retract(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        await self._moderate.retract(caller, room, request.match_info["comment"])
        return _done()

    async def retract_all(self, request: web.Request) -> web.Response:
        caller, room = await self._host(request)
        await self._moderate.retract_all(caller, room, viewer_of(request.match_info["viewer"]))
        return _done()

    async def acts(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        room = request.query.get("room")
        if room is None:
            raise Invalid("This field is required.", param="room")
        page = page_of(request)
        acts, next_cursor = await self._acts.of_room(caller, room, limit=page.limit, after=page.after)
        return json_reply(PageReply(items=list(map(act_reply, acts)), next=next_cursor))

    async def _host(self, request: web.Request) -> tuple[Caller, str]:
        return await self._callers.of(request, Role.HOST), request.match_info["room"]

    async def _ban_body(self, request: web.Request) -> NewBan:
        """What is banned stands in the address; a body only says where."""
        if not request.body_exists:
            return NewBan()
        return await read_body(request, NewBan, max_bytes=self._max_bytes)


def _done() -> web.Response:
    return web.Response(status=204)
