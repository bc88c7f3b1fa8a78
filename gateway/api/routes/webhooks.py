"""Addresses of the shop's outgoing webhook."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.bodies import page_of, read_body
from gateway.api.callers import Callers
from gateway.api.middleware import Audience
from gateway.api.replies import PageReply, json_reply
from gateway.api.routes import Route
from gateway.api.webhook_messages import NewWebhook
from gateway.api.webhook_replies import (
    DeadEventReply,
    ReplayedReply,
    ReplayReply,
    WebhookReply,
    dead_event_reply,
    webhook_reply,
)
from gateway.domain.caller import Role
from gateway.webhooks.endpoints import Endpoints


class WebhookRoutes:
    def __init__(self, *, callers: Callers, endpoints: Endpoints, max_bytes: int) -> None:
        self._callers = callers
        self._endpoints = endpoints
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        service = (Role.SERVICE,)
        yield Route(
            "PUT",
            "/v1/webhook",
            self.put,
            Audience.HOSTS,
            about="Sets where the shop hears of what happened, and of what. Its first time shows the secret, once.",
            takes=NewWebhook,
            gives={200: WebhookReply, 201: WebhookReply},
            roles=service,
        )
        yield Route(
            "GET",
            "/v1/webhook",
            self.get,
            Audience.HOSTS,
            about="The shop's webhook and how it does.",
            gives={200: WebhookReply},
            refuses=("not_found",),
            roles=service,
        )
        yield Route(
            "POST",
            "/v1/webhook/rotate",
            self.rotate,
            Audience.HOSTS,
            about="A new secret, shown once; for a day events are signed with the one before as well.",
            gives={200: WebhookReply},
            refuses=("not_found",),
            roles=service,
        )
        yield Route(
            "GET",
            "/v1/webhook/dead",
            self.dead,
            Audience.HOSTS,
            about="Events that were given up, the newest first. They are kept for 30 days.",
            gives={200: PageReply[DeadEventReply]},
            query=("limit", "after"),
            roles=service,
        )
        yield Route(
            "POST",
            "/v1/webhook/dead/replay",
            self.replay_all,
            Audience.HOSTS,
            about="Sends all dead events again, with their ids; at most 10,000 at once.",
            gives={200: ReplayedReply},
            roles=service,
        )
        yield Route(
            "POST",
            "/v1/webhook/{id}/replay",
            self.replay,
            Audience.HOSTS,
            about="Sends a dead event again, with its id.",
            gives={200: ReplayReply},
            roles=service,
        )

    async def put(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        body = await read_body(request, NewWebhook, max_bytes=self._max_bytes)
        shown = await self._endpoints.put(caller, url=body.url, events=body.events)
        status = 200 if shown.secret is None else 201
        return json_reply(webhook_reply(shown.webhook, secret=shown.secret), status=status)

    async def get(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        return json_reply(webhook_reply(await self._endpoints.get(caller)))

    async def rotate(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        shown = await self._endpoints.rotate(caller)
        return json_reply(webhook_reply(shown.webhook, secret=shown.secret))

    async def dead(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        page = page_of(request)
        letters, next_cursor = await self._endpoints.dead(caller, limit=page.limit, after=page.after)
        return json_reply(PageReply(items=[dead_event_reply(letter) for letter in letters], next=next_cursor))

    async def replay(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        msg_id = request.match_info["id"]
        await self._endpoints.replay(caller, msg_id)
        return json_reply(ReplayReply(id=msg_id, state="waiting"))

    async def replay_all(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        return json_reply(ReplayedReply(replayed=await self._endpoints.replay_all(caller)))
