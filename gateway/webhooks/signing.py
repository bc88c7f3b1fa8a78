"""How events are signed: Standard Webhooks, by the secret of the shop's webhook."""

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from standardwebhooks.webhooks import Webhook

SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed(secrets_of: Sequence[str], *, msg_id: str, at: datetime, body: str) -> dict[str, str]:
    """The headers of an attempt; while a secret is rotated there is a signature by each, with a space between them."""
    return {
        "webhook-id": msg_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(msg_id, at, body) for secret in secrets_of),
    }
