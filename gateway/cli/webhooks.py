"""`peakgate webhook`: hear a shop's events on this machine, look after those that nobody took, try an endpoint."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import aiohttp
import msgspec
import typer
from aiohttp import web
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from gateway.cli.output import exit_codes, print_json, print_json_line, print_table
from gateway.cli.servers import DataOption, JsonOption, database_url_of, reach_servers
from gateway.domain.webhook import MAX_EVENT_BYTES, DeadLetter, Endpoint, EventType
from gateway.errors import Conflict, Invalid, NotFound
from gateway.ledger.pool import Ledger
from gateway.ledger.webhooks import LedgerWebhooks
from gateway.process import stop_signal
from gateway.settings import Settings
from gateway.webhooks.ping import PING, ping

ShopArgument = Annotated[str, typer.Argument(metavar="SHOP", help="Name of the shop.")]
_FORWARDED: Final = ("webhook-id", "webhook-timestamp", "webhook-signature", "Content-Type")
_FORWARD_WITHIN_S: Final = 10.0
_LISTED_MOST: Final = 1000


def register(app: typer.Typer) -> None:
    webhook = typer.Typer(
        no_args_is_help=True, help="Hear, replay and try the events that shops are told.", rich_markup_mode=None
    )
    webhook.command("listen", epilog=exit_codes(ok="stopped"))(listen)
    webhook.command("list", epilog=exit_codes(check_failed="the shop has no webhook"))(list_dead)
    webhook.command("replay", epilog=exit_codes(check_failed="there is no such dead event"))(replay)
    webhook.command("trigger", epilog=exit_codes(check_failed="the endpoint did not take it"))(trigger)
    app.add_typer(webhook, name="webhook")


def listen(
    secret: Annotated[
        str | None,
        typer.Option(metavar="-", help="- reads the webhook's secret (whsec_...) from stdin: signatures are checked."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 9000,
    forward_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Send each event on as it came; its answer is the answer.")
    ] = None,
) -> None:
    """Hear events on this machine, and print each as a line of JSON. Without a secret nothing is checked.

    For development: with `peakgate up --dev` a shop's webhook may be http://127.0.0.1:9000/.
    """
    if secret not in (None, "-"):
        # Others on the machine can read arguments.
        raise Invalid("the secret is read from stdin: --secret -", param="secret")
    key = None if secret is None else sys.stdin.readline().strip()
    try:
        checker = None if key is None else Webhook(key)
    except (EmptyWebhookSecretError, ValueError):
        raise Invalid("that is no secret of a webhook: whsec_ and base64", param="secret") from None
    asyncio.run(_listen(host, port, checker, forward_to))


async def _listen(host: str, port: int, checker: Webhook | None, forward_to: str | None) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FORWARD_WITHIN_S)) as session:

        async def take(request: web.Request) -> web.Response:
            body = await request.read()
            if checker is not None:
                try:
                    checker.verify(body, dict(request.headers), json_parse=False)
                except (WebhookVerificationError, ValueError) as error:
                    print_json_line({"refused": str(error), "id": request.headers.get("webhook-id")})
                    return web.Response(status=401)
            status = 204 if forward_to is None else await _forwarded(session, forward_to, request, body)
            print_json_line(
                {
                    "id": request.headers.get("webhook-id"),
                    "checked": checker is not None,
                    "answered": status,
                    "event": _read(body),
                }
            )
            return web.Response(status=status)

        app = web.Application(client_max_size=2 * MAX_EVENT_BYTES)
        app.router.add_route("POST", "/{path:.*}", take)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                raise Invalid(f"cannot listen on {host}:{port}: {error.strerror}", param="port") from None
            print_json_line({"ready": True, "url": f"http://{host}:{runner.addresses[0][1]}/"})
            await stop_signal().wait()
        finally:
            await runner.cleanup()


async def _forwarded(session: aiohttp.ClientSession, url: str, request: web.Request, body: bytes) -> int:
    headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        print_json_line({"not_forwarded": str(error) or type(error).__name__})
        return 502


def _read(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return body.decode(errors="replace")


def list_dead(
    shop: Annotated[str | None, typer.Argument(metavar="[SHOP]", help="Only this shop's.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the events that were given up, the newest first; at most 1,000."""
    settings = reach_servers(data)

    async def work() -> list[DeadLetter]:
        async with _webhooks(settings) as webhooks:
            if shop is not None:
                await _endpoint(webhooks, shop)
            return await webhooks.dead(shop, limit=_LISTED_MOST)

    letters = asyncio.run(work())
    if as_json:
        print_json([{**letter._asdict(), "body": _read(letter.body.encode())} for letter in letters])
        return
    print_table(
        ("shop", "id", "type", "object", "attempts", "last at", "last error"),
        [
            (
                letter.shop,
                letter.msg_id,
                letter.type,
                letter.object,
                str(letter.attempts),
                _when(letter.last_at),
                letter.last_error or "-",
            )
            for letter in letters
        ],
    )


def replay(
    shop: ShopArgument,
    event: Annotated[str | None, typer.Argument(metavar="[ID]", help="The id of one dead event.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead events of the shop, 10,000 at once.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead events of a shop again, with the ids they had."""
    if (event is None) is not everything:
        raise Invalid("either one event by its id, or --all", param="id")
    settings = reach_servers(data)

    async def work() -> int:
        async with _webhooks(settings) as webhooks:
            await _endpoint(webhooks, shop)
            if event is None:
                return await webhooks.replay_all(shop)
            if not await webhooks.replay(shop, event):
                raise NotFound(f"the shop {shop} has no dead event {event}", param="id")
            return 1

    replayed = asyncio.run(work())
    if as_json:
        print_json({"shop": shop, "replayed": replayed})
    else:
        print_table(("shop", "waiting again"), [(shop, str(replayed))])


def trigger(
    shop: ShopArgument,
    kind: Annotated[str, typer.Argument(metavar="TYPE", help=f"{PING}, or one of {', '.join(EventType)}.")] = PING,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a shop's endpoint a signed sample event at once, and show the answer. Its ids are those of nothing."""
    if kind != PING and kind not in list(EventType):
        raise Invalid(f"a type is {PING} or one of {', '.join(EventType)}", param="type")
    settings = reach_servers(data)
    # A gateway on servers of its own is one for development, however it was started.
    dev = settings.dev or settings.embedded

    async def work() -> dict[str, Any]:
        async with _webhooks(settings) as webhooks:
            endpoint = await _endpoint(webhooks, shop)
        result = await ping(endpoint, private=settings.webhook_private or dev, dev=dev, kind=kind)
        return {"shop": shop, "url": endpoint.url, "type": kind, **result._asdict()}

    facts = asyncio.run(work())
    if as_json:
        print_json(facts)
    else:
        print_table(
            ("shop", "url", "status", "took", "error", "answer"),
            [
                (
                    shop,
                    facts["url"],
                    str(facts["status"] or "-"),
                    f"{facts['took_s'] * 1000:.0f} ms",
                    facts["error"] or "-",
                    " ".join(facts["answer"].split())[:200] or "-",
                )
            ],
        )
    if not facts["ok"]:
        raise Conflict(f"the endpoint of {shop} did not take it: {facts['error']}")


@asynccontextmanager
async def _webhooks(settings: Settings) -> AsyncIterator[LedgerWebhooks]:
    ledger = await Ledger.connect(database_url_of(settings), size=1)
    try:
        yield LedgerWebhooks(ledger)
    finally:
        await ledger.close()


async def _endpoint(webhooks: LedgerWebhooks, shop: str) -> Endpoint:
    endpoint = await webhooks.endpoint(shop)
    if endpoint is None:
        raise NotFound(f"the shop {shop} has no webhook", param="shop")
    return endpoint


def _when(at: datetime | None) -> str:
    return "-" if at is None else at.isoformat(timespec="seconds")
