"""What a viewer is answered, as frames."""

from gateway.domain.comment import CommentAnswer
from gateway.domain.coupon import ClaimAnswer, ClaimOutcome
from gateway.domain.order import OrderAnswer, OrderOutcome
from gateway.errors import GatewayError
from gateway.wire import frames


def error_frame(error: Exception, *, id: str | None = None) -> frames.Error:
    """What is no error of ours is told as `internal`; its cause is for the log."""
    known = error if isinstance(error, GatewayError) else GatewayError()
    return frames.Error(
        code=known.code,
        message=known.message,
        retryable=known.retryable,
        id=id,
        param=known.param,
        retry_after_ms=known.retry_after_ms,
    )


def comment_reply(id: str, answer: CommentAnswer) -> frames.Reply:
    return frames.Reply(
        id=id,
        outcome=str(answer.outcome),
        comment=answer.comment,
        at_ms=answer.at_ms,
        retry_after_ms=answer.retry_after_ms,
        replayed=answer.replayed,
    )


def claim_reply(id: str, answer: ClaimAnswer) -> frames.Reply:
    match answer.outcome:
        case ClaimOutcome.CLAIMED:
            return frames.Reply(
                id=id,
                outcome="claimed",
                claim=answer.claim,
                value_minor=answer.value_minor or None,
                replayed=answer.replayed,
            )
        case ClaimOutcome.NOT_STARTED:
            return frames.Reply(id=id, outcome="not_started", opens_at_ms=answer.opens_at_ms or None)
        case ClaimOutcome.TOO_FAST:
            return frames.Reply(id=id, outcome="too_fast", retry_after_ms=answer.retry_after_ms)
        case _:
            return frames.Reply(id=id, outcome=str(answer.outcome))


def order_reply(id: str, answer: OrderAnswer) -> frames.Reply:
    match answer.outcome:
        case OrderOutcome.RESERVED:
            return frames.Reply(
                id=id,
                outcome="reserved",
                order=answer.order,
                amount_minor=answer.amount_minor,
                replayed=answer.replayed,
            )
        case OrderOutcome.SOLD_OUT:
            return frames.Reply(id=id, outcome="sold_out", left=answer.left, may_return=answer.may_return)
        case OrderOutcome.PRICE_CHANGED:
            return frames.Reply(id=id, outcome="price_changed", amount_minor=answer.amount_minor)
        case OrderOutcome.NOT_STARTED:
            return frames.Reply(id=id, outcome="not_started", opens_at_ms=answer.opens_at_ms)
        case OrderOutcome.TOO_FAST:
            return frames.Reply(id=id, outcome="too_fast", retry_after_ms=answer.retry_after_ms)
        case _:
            return frames.Reply(id=id, outcome=str(answer.outcome))
