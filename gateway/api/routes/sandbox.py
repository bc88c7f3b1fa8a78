"""The page of the sandbox provider, where people pay in development.

Plain forms; no script, no token: whoever was given the address may pay.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from html import escape
from typing import Final, Literal
from urllib.parse import parse_qs

from aiohttp import web
from msgspec import Struct

from gateway.api.bodies import read_bytes
from gateway.api.middleware import Audience
from gateway.api.routes import Route
from gateway.errors import BadRequest, NotFound
from gateway.payments.sandbox import Checkout, Sandbox

_CHECKOUT: Final = re.compile(r"chk_[A-Za-z0-9_-]{32}")
_FORM_BYTES: Final = 1024
# Currencies whose smallest unit is the whole one.
_WHOLE: Final = frozenset({"CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"})

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 26rem; padding: 0 1rem; color: #1c1c1c; }
h1 { font-size: 1.2rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
button { font: inherit; padding: .5rem 1.5rem; margin-right: .5rem; }
p.note { background: #f4f4f4; padding: .5rem 1rem; }
"""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    "Referrer-Policy": "no-referrer",
}
_NOTES: Final = {
    "paid": "The payment was told to the gateway.",
    "refused": "The payment was refused; no money moved.",
    "refunded": "The refund was told to the gateway.",
    "untold": "The gateway did not take the notice just now. Try again; it is the same payment.",
}


class SandboxForm(Struct):
    """The buttons of the page."""

    do: Literal["pay", "refuse", "refund"]


class SandboxRoutes:
    def __init__(self, *, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> Iterable[Route]:
        yield Route(
            "GET",
            "/sandbox/{checkout}",
            self.show,
            Audience.VIEWERS,
            about="The page of the sandbox provider, where people pay in development.",
            gives={200: "text/html"},
            roles=(),
        )
        yield Route(
            "POST",
            "/sandbox/{checkout}",
            self.act,
            Audience.VIEWERS,
            about="Does what the page's button says, and shows the page again.",
            takes=SandboxForm,
            takes_as="application/x-www-form-urlencoded",
            gives={303: None},
            refuses=("bad_request",),
            roles=(),
        )

    async def show(self, request: web.Request) -> web.Response:
        return _page(await self._look(request), note=_NOTES.get(request.query.get("note", ""), ""))

    async def act(self, request: web.Request) -> web.Response:
        """Does what the button says, then shows the page again, so that a reload repeats nothing."""
        facts = await self._look(request)
        checkout = request.match_info["checkout"]
        match _chosen(await read_bytes(request, max_bytes=_FORM_BYTES)):
            case "pay":
                note, told = "paid", await self._sandbox.pay(checkout, facts)
            case "refuse":
                note, told = "refused", await self._sandbox.refuse(checkout, facts)
            case "refund":
                note, told = "refunded", await self._sandbox.refund(checkout, facts)
            case _:
                raise BadRequest("The page has the buttons pay, refuse and refund.", param="do")
        return web.Response(status=303, headers={"Location": f"?note={note if told else 'untold'}", **_HEADERS})

    async def _look(self, request: web.Request) -> Checkout:
        checkout = request.match_info["checkout"]
        facts = await self._sandbox.look(checkout) if _CHECKOUT.fullmatch(checkout) else None
        if facts is None:
            raise NotFound("There is no such payment.")
        return facts


def _chosen(form: bytes) -> str:
    try:
        return parse_qs(form.decode("ascii"), max_num_fields=4).get("do", [""])[0]
    except ValueError:
        return ""


def amount_text(amount_minor: int, currency: str) -> str:
    if currency in _WHOLE:
        return f"{currency} {amount_minor:,}"
    return f"{currency} {amount_minor // 100:,}.{amount_minor % 100:02d}"


def _page(facts: Checkout, *, note: str) -> web.Response:
    # What a payment cannot do any more it is not asked to do; what came too late it may, since people do.
    buttons = {None: ("pay", "refuse"), "refund_due": ("refund",), "applied": ("refund",)}.get(facts.payment, ())
    rows = {
        "For": f"{facts.quantity} \N{MULTIPLICATION SIGN} {facts.item_title}",
        "Sale": facts.sale_title,
        "Order": facts.order_id,
        "Status": facts.status + ("" if facts.payment is None else f", payment {facts.payment}"),
        "Amount": amount_text(facts.amount_minor, facts.currency),
    }
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Sandbox payment</title><style>{_STYLE}</style></head><body>"
        "<h1>Sandbox payment: no money moves</h1>"
        + (f'<p class="note">{escape(note)}</p>' if note else "")
        + "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())
        + '</dl><form method="post">'
        + "".join(f'<button name="do" value="{each}">{each.capitalize()}</button>' for each in buttons)
        + "</form></body></html>"
    )
    return web.Response(text=html, content_type="text/html", charset="utf-8", headers=_HEADERS)
