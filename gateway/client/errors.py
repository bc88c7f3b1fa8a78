"""What a client can meet beyond the gateway's own errors, and the way from an error on the wire to its class."""

from gateway import errors
from gateway.errors import GatewayError


class ViewerAway(GatewayError):
    """The gateway closed this viewer's socket for good, or would not open it."""

    code = "viewer_away"

    def __init__(self, message: str | None = None, *, close_code: int = 0, status: int = 0) -> None:
        super().__init__(message)
        self.close_code = close_code
        """Why the socket was closed, 0 when it never opened."""
        self.status = status
        """The HTTP status that refused the upgrade, 0 when it was not refused."""


class HandshakeRefused(GatewayError):
    """The gateway answered the upgrade with an HTTP status of its own."""

    code = "handshake_refused"

    def __init__(self, status: int, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"The upgrade was answered with HTTP status {status}.")
        self.status = status
        self.retry_after_s = retry_after_s


class NoAnswer(GatewayError, TimeoutError):
    """No true answer came in time; it may have happened. Ask again with the same key to learn it."""

    code = "no_answer"
    retryable = True

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


_BY_CODE: dict[str, type[GatewayError]] = {
    kind.code: kind
    for kind in (
        errors.BadRequest,
        errors.Invalid,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.Conflict,
        errors.StockInUse,
        errors.AmountMismatch,
        errors.NotConfirmed,
        errors.AlreadyRedeemed,
        errors.KeyReused,
        errors.TooLarge,
        errors.Unsupported,
        errors.RateLimited,
        errors.Overloaded,
        errors.Unavailable,
        errors.OutcomeUnknown,
    )
}


def error_of(
    code: str,
    message: str | None,
    *,
    retryable: bool | None = None,
    retry_after_ms: int | None = None,
    param: str | None = None,
) -> GatewayError:
    """The error a frame or a problem document names. A code this client does not know keeps its word and its flag."""
    error = _BY_CODE.get(code, GatewayError)(message, param=param, retry_after_ms=retry_after_ms)
    error.code = code
    if retryable is not None:
        error.retryable = retryable
    return error
