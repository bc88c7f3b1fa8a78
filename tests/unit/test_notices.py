import base64
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.payment import Notice, NoticeKind
from gateway.errors import BadRequest, Invalid, Unauthorized
from gateway.payments.notices import (
    NoticeData,
    check_signature,
    checked_secret,
    new_secret,
    notice_body,
    read_notice,
    signature_of,
    signed,
)

DATA = NoticeData(order="ord_1", txn="t1", amount_minor=1900, currency="CNY", paid_at=datetime(2026, 1, 1, tzinfo=UTC))


def body(kind: str = "payment.succeeded") -> bytes:
    return notice_body(kind, DATA, at_ms=1_800_000_000_000)


def test_a_notice_reads_as_it_was_written() -> None:
    assert read_notice(body(), provider="bank") == Notice(
        kind=NoticeKind.SUCCEEDED,
        provider="bank",
        order="ord_1",
        txn="t1",
        amount_minor=1900,
        currency="CNY",
        paid_at_ms=1_767_225_600_000,
    )


def test_without_a_time_of_the_payment_the_notices_own_stands() -> None:
    data = NoticeData(order="ord_1", txn="t1", amount_minor=1900, currency="CNY")
    notice = read_notice(notice_body("payment.refunded", data, at_ms=1_800_000_000_000), provider="bank")
    assert notice is not None and notice.paid_at_ms == 1_800_000_000_000


def test_another_type_is_nothing_to_us_whatever_it_says() -> None:
    assert read_notice(body("payment.failed"), provider="bank") is None
    other = b'{"type": "x.y", "timestamp": "2026-01-01T00:00:00Z", "data": 7}'
    assert read_notice(other, provider="bank") is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", BadRequest),
        (b"{", BadRequest),
        (b"\xff", BadRequest),
        (b"[1]", Invalid),
        (b'{"type": "payment.succeeded", "timestamp": "2026-01-01T00:00:00Z"}', Invalid),
        (body().replace(b"1900", b'"1900"'), Invalid),
        (body().replace(b"CNY", b"cny"), Invalid),
        (body().replace(b"ord_1", b""), Invalid),
        (body().replace(b"2027-", b"2027"), Invalid),
    ],
)
def test_what_cannot_be_read_is_an_error(text: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_notice(text, provider="bank")


def test_a_signature_holds_for_any_valid_secret_and_its_very_bytes() -> None:
    old, new = new_secret(), new_secret()
    headers = signed(old, notice_id="n1", at=datetime.now(UTC), body=body())
    check_signature(body(), signature_of(headers), (new, old))
    for valid in ((), (new,)):
        with pytest.raises(Unauthorized):
            check_signature(body(), headers, valid)
    with pytest.raises(Unauthorized):
        check_signature(body() + b" ", headers, (old,))


@pytest.mark.parametrize("late_s", [-310, 310])
def test_a_notice_of_another_time_is_not_taken(late_s: float) -> None:
    secret = new_secret()
    headers = signed(secret, notice_id="n1", at=datetime.now(UTC) - timedelta(seconds=late_s), body=body())
    with pytest.raises(Unauthorized):
        check_signature(body(), headers, (secret,))


def test_a_providers_own_secret_is_kept_in_one_form_and_a_weak_one_is_not() -> None:
    raw = base64.b64encode(b"k" * 24).decode()
    assert checked_secret(raw) == checked_secret(f"whsec_{raw}") == f"whsec_{raw}"
    assert checked_secret(new_secret()).startswith("whsec_")
    for weak in ("", "whsec_", "whsec_" + base64.b64encode(b"k" * 23).decode(), "whsec_not base64", "a" * 200):
        with pytest.raises(Invalid):
            checked_secret(weak)
