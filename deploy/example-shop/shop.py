"""A shop's backend beside Peakgate: lets its customers in, hears of their orders, takes the money, reports it.

    python3 -m pip install aiohttp pyjwt standardwebhooks && python3 shop.py

Settings, all from the environment: PEAKGATE_URL, SHOP, VIEWER_KEY and STAFF_KEY (each `kid:secret_hex` as `peakgate
shop create` prints them), HOST, PORT, and HOOK_URL, under which the gateway reaches this server.
"""

import os
import time
from pathlib import Path

import jwt
from aiohttp import ClientSession, web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

GATEWAY, SHOP = os.environ.get("PEAKGATE_URL", "http://127.0.0.1:8080"), os.environ["SHOP"]
PORT = int(os.environ.get("PORT", "9000"))
HOOK_URL = os.environ.get("HOOK_URL", f"http://127.0.0.1:{PORT}/hooks")
SECRET_FILE = Path(os.environ.get("SECRET_FILE", "webhook.secret"))


def token(key: str, sub: str, role: str, **claims: object) -> str:
    """Who somebody is, for an hour. The viewer key signs customers, the staff key everybody who works here."""
    kid, secret = os.environ[key].split(":")
    claims = {"sub": sub, "shop": SHOP, "role": role, "aud": "peakgate", "exp": int(time.time()) + 3600, **claims}
    return jwt.encode(claims, bytes.fromhex(secret), algorithm="HS256", headers={"kid": kid})


async def ask(method: str, path: str, body: object = None, **headers: str) -> dict:
    """A call to the gateway as this backend."""
    headers["Authorization"] = f"Bearer {token('STAFF_KEY', 'backend', 'service')}"
    async with (
        ClientSession() as session,
        session.request(method, GATEWAY + path, json=body, headers=headers) as answer,
    ):
        answer.raise_for_status()
        return await answer.json()


async def login(request: web.Request) -> web.Response:
    """Your own login goes here; `sub` is the customer's id in your shop, and nobody else in the room sees it."""
    user = (await request.json())["user"]
    return web.json_response({"token": token("VIEWER_KEY", f"customer-{user}", "viewer", name=user)})


async def take_money(order: dict) -> str:
    """Your payment provider goes here; the name of the transaction comes back, the same for the same order."""
    return f"txn-{order['order']}"


async def hooks(request: web.Request) -> web.Response:
    """What happened, at least once each: an answer other than 2xx, or none, and it comes again."""
    body = await request.read()
    try:
        event = Webhook(request.app["secret"]).verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return web.Response(status=401)
    if event["type"] == "order.confirmed":  # the unit is this customer's until `pay_by`
        order = event["data"]
        txn = await take_money(order)
        paid = {
            "provider": "example",
            "txn": txn,
            "amount_minor": order["amount_minor"],
            "paid_at": event["timestamp"],  # your provider says when
        }
        # An event comes at least once: said again, the same key must say the same, and the money counts once.
        await ask("POST", f"/v1/orders/{order['order']}/payments", paid, **{"Idempotency-Key": order["order"]})
    print(event["type"], event["data"].get("order", ""), flush=True)
    return web.Response(status=204)


async def subscribe(app: web.Application) -> None:
    """Tells the gateway where this server is. The secret is shown once, so it is kept; lost, a new one is made."""
    events = ["order.confirmed", "order.paid", "order.expired", "order.refund_due"]
    webhook = await ask("PUT", "/v1/webhook", {"url": HOOK_URL, "events": events})
    if "secret" not in webhook and not SECRET_FILE.exists():
        webhook = await ask("POST", "/v1/webhook/rotate")
    if "secret" in webhook:
        SECRET_FILE.touch(mode=0o600)
        SECRET_FILE.write_text(webhook["secret"])
    app["secret"] = SECRET_FILE.read_text()


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.post("/login", login), web.post("/hooks", hooks)])
    app.on_startup.append(subscribe)
    web.run_app(app, host=os.environ.get("HOST", "127.0.0.1"), port=PORT)
