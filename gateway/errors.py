"""Every error the gateway raises on purpose: one class per cause, its docstring the default message.

What is expected at the peak (sold out, limit reached, paused) is an outcome, not an error, and lives in `domain.order`.
Every error but `OutcomeUnknown` promises that nothing happened. Status numbers and close codes are chosen at the edges.
"""


class GatewayError(Exception):
    """The gateway could not do what was asked."""

    code = "internal"
    retryable = False

    def __init__(
        self, message: str | None = None, *, param: str | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message or " ".join((self.__doc__ or "").split()))
        self.param = param
        self.retry_after_ms = retry_after_ms

    @property
    def message(self) -> str:
        return str(self.args[0])


# What a caller did wrong.


class BadRequest(GatewayError):
    """The request cannot be read."""

    code = "bad_request"


class Invalid(GatewayError):
    """A value is not allowed; `param` names it."""

    code = "invalid"


class Unauthorized(GatewayError):
    """The token is missing, expired or not one of ours."""

    code = "unauthorized"


class NoticeForged(Unauthorized):
    """The notice is not signed, or its signature is not good."""


class Forbidden(GatewayError):
    """The role of this token may not do this."""

    code = "forbidden"


class NotFound(GatewayError):
    """There is no such thing in this shop."""

    code = "not_found"


class MethodNotAllowed(GatewayError):
    """This address does not know the method."""

    code = "method_not_allowed"


class Conflict(GatewayError):
    """The state of the thing does not allow this."""

    code = "conflict"


class StockInUse(Conflict):
    """The stock cannot fall under what is held or sold."""

    code = "stock_in_use"


class AmountMismatch(Conflict):
    """The amount is not the one of the order."""

    code = "amount_mismatch"


class NotConfirmed(Conflict):
    """The order is not confirmed yet; ask again in a moment."""

    code = "not_confirmed"
    retryable = True


class PaymentNotJudged(NotConfirmed):
    """The payment came late and is still being judged; ask again in a moment."""


class AlreadyRedeemed(Conflict):
    """The code was redeemed before."""

    code = "already_redeemed"

    def __init__(
        self,
        message: str | None = None,
        *,
        at_ms: int | None = None,
        param: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_ms=retry_after_ms)
        self.at_ms = at_ms


class KeyReused(GatewayError):
    """This idempotency key was used with other content."""

    code = "key_reused"


class TooLarge(GatewayError):
    """The body is larger than allowed."""

    code = "too_large"


class Unsupported(GatewayError):
    """The content type is not supported."""

    code = "unsupported"


class RateLimited(GatewayError):
    """Too many requests; wait and repeat."""

    code = "rate_limited"
    retryable = True


# What we could not do just now.


class Overloaded(GatewayError):
    """A bound of this gateway is reached; nothing happened, repeat in a moment."""

    code = "overloaded"
    retryable = True


class Unavailable(GatewayError):
    """A server the gateway stands on does not answer; nothing happened, repeat in a moment."""

    code = "unavailable"
    retryable = True


class OutcomeUnknown(GatewayError):
    """The answer was lost on the way; it may have happened. Repeat with the same key to learn it."""

    code = "outcome_unknown"
    retryable = True


# What keeps a process from working.


class SettingsError(GatewayError):
    """A setting is wrong."""

    code = "settings"


class DataFolderInUse(GatewayError):
    """Another gateway runs on this data folder."""

    code = "data_folder_in_use"


class EmbeddedServerError(GatewayError):
    """An embedded server did not start or died."""

    code = "embedded_server"


class HotUnavailable(GatewayError):
    """Valkey did not answer; the effect of a write is unknown."""

    code = "hot_unavailable"
    retryable = True


class ServerUnknown(HotUnavailable):
    """This Valkey server is not the one the ledger's epoch names; nothing was sent to it."""


class ShardClosed(GatewayError):
    """The shard in Valkey is not the one the ledger knows; nothing is sold until it is rebuilt."""

    code = "unavailable"
    retryable = True


class LedgerUnavailable(GatewayError):
    """PostgreSQL did not answer; the effect of a write is unknown."""

    code = "ledger_unavailable"
    retryable = True


class LedgerRejected(GatewayError):
    """PostgreSQL refused the data itself (SQLSTATE class 22 or 23); repeating does not help."""

    code = "ledger_rejected"


class LeaseLost(GatewayError):
    """Another writer holds this shard; what this one began was rolled back."""

    code = "lease_lost"


class RebuildLost(GatewayError):
    """Another keeper has rebuilt this shard, or does; what this one began has no effect."""

    code = "rebuild_lost"
    retryable = True


class MigrationError(GatewayError):
    """The schema of the ledger is not the one this code was written for."""

    code = "migration"


class ToolsMissing(GatewayError):
    """PostgreSQL's own tools of a fitting version are not installed."""

    code = "tools_missing"


class BackupUnusable(GatewayError):
    """The file is no complete backup, or must not be written."""

    code = "backup"


class ServersNotRunning(GatewayError):
    """No running servers were found: set the URLs, or start `peakgate up` on this data folder."""

    code = "servers_not_running"
    retryable = True
