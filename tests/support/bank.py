"""A payment provider of a test: it signs notices as a real one does, and as a forger would."""

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from standardwebhooks.webhooks import Webhook

from tests.support.api import Answer, Api


@dataclass
class Bank:
    api: Api
    secret: str
    shop: str = "tins"
    name: str = "bank"
    paid_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())

    @property
    def path(self) -> str:
        return f"/v1/payments/{self.shop}/{self.name}/webhook"

    def notice(
        self, order: str, txn: str, *, kind: str = "payment.succeeded", amount: int = 1900, currency: str = "CNY"
    ) -> dict[str, Any]:
        data = {
            "order": order,
            "txn": txn,
            "amount_minor": amount,
            "currency": currency,
            "paid_at": self.paid_at,
            "card": "of no interest",
        }
        return {"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data}

    def signed(self, body: bytes, *, late_s: float = 0.0, secret: str | None = None) -> dict[str, str]:
        at = datetime.now(UTC) - timedelta(seconds=late_s)
        notice_id = uuid.uuid4().hex
        return {
            "webhook-id": notice_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret or self.secret).sign(notice_id, at, body.decode()),
        }

    async def send(self, body: bytes, headers: dict[str, str], *, path: str | None = None) -> Answer:
        return await self.api.call("POST", path or self.path, data=body, headers={"Authorization": "", **headers})

    async def tell(self, order: str, txn: str, **more: Any) -> Answer:
        secret = more.pop("secret", None)
        body = json.dumps(self.notice(order, txn, **more)).encode()
        return await self.send(body, self.signed(body, secret=secret))
