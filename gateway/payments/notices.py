"""The notices of payment providers: signed by Standard Webhooks, read only once the signature is good."""

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from gateway.domain.payment import MAX_TXN_LENGTH, Notice, NoticeKind
from gateway.errors import BadRequest, Invalid, NoticeForged
from gateway.wire.frames import AmountMinor

# Of Standard Webhooks. Its timestamp may be five minutes off, which the library checks.
HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
MAX_NOTICE_BYTES: Final = 65_536
SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
# What Standard Webhooks asks of a secret.
_LEAST_SECRET_BYTES, _MOST_SECRET_BYTES = 24, 64

_Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*(?![\s\S])")]
_Txn = Annotated[str, Meta(min_length=1, max_length=MAX_TXN_LENGTH, pattern=r"^[^\x00-\x1f\x7f]*(?![\s\S])")]
_Instant = Annotated[datetime, Meta(tz=True)]


class NoticeData(Struct, kw_only=True, omit_defaults=True):
    order: _Word
    txn: _Txn
    amount_minor: AmountMinor
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}(?![\s\S])")]
    paid_at: _Instant | None = None
    """When the money moved; without it the notice's own time."""


class NoticeBody(Struct, kw_only=True):
    """A notice of a type that means something; others are read as far as their type and ignored."""

    type: NoticeKind
    timestamp: _Instant
    data: NoticeData


class _Head(Struct, kw_only=True):
    type: str
    timestamp: _Instant
    data: msgspec.Raw = msgspec.Raw(b"{}")


_read_head: Final = msgspec.json.Decoder(_Head).decode
_read_data: Final = msgspec.json.Decoder(NoticeData).decode


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def checked_secret(secret: str) -> str:
    """A provider's own secret as it is kept. Raises Invalid for what signs nothing well."""
    try:
        raw = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not _LEAST_SECRET_BYTES <= len(raw) <= _MOST_SECRET_BYTES:
        raise Invalid(
            f"a secret is base64 of {_LEAST_SECRET_BYTES} to {_MOST_SECRET_BYTES} bytes, mostly behind {SECRET_PREFIX}",
            param="secret",
        )
    return SECRET_PREFIX + secret.removeprefix(SECRET_PREFIX)


def signed(secret: str, *, notice_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers under which a provider sends a notice."""
    return {
        "webhook-id": notice_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(notice_id, at, body.decode()),
    }


def signature_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers a signature is made of. Raises NoticeForged where one is missing."""
    found = {name: headers.get(name, "") for name in HEADERS}
    if not all(found.values()):
        raise NoticeForged("The notice is not signed.")
    return found


def check_signature(body: bytes, signature: Mapping[str, str], valid: Iterable[str]) -> None:
    """Raises NoticeForged unless one of the `valid` secrets signed these bytes within five minutes of now."""
    for secret in valid:
        try:
            Webhook(secret).verify(body, dict(signature), json_parse=False)
        except (WebhookVerificationError, EmptyWebhookSecretError, ValueError):
            # ValueError: what stands in the headers or the body is not even of the right form.
            continue
        return
    raise NoticeForged("The signature of the notice is not good.")


def read_notice(body: bytes, *, provider: str) -> Notice | None:
    """What a notice says; None for a type that is nothing to us."""
    try:
        head = _read_head(body)
        if head.type not in list(NoticeKind):
            return None
        data = _read_data(head.data)
    except msgspec.ValidationError as error:
        raise Invalid(f"{error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The notice is not JSON.") from None
    paid_at = data.paid_at or head.timestamp
    return Notice(
        kind=NoticeKind(head.type),
        provider=provider,
        order=data.order,
        txn=data.txn,
        amount_minor=data.amount_minor,
        currency=data.currency,
        paid_at_ms=int(paid_at.timestamp() * 1000),
    )


def notice_body(kind: str, data: NoticeData, *, at_ms: int) -> bytes:
    """A notice as a provider writes it."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return msgspec.json.encode({"type": kind, "timestamp": at, "data": data})
