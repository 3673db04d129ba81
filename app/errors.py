"""The error tree. A subclass exists only where a caller would act differently.

    JoulekeeperError
    +-- InvalidInput        the caller's fault: 400 / INVALID_ARGUMENT
    |   +-- TooLarge        a bound was exceeded: 413 / RESOURCE_EXHAUSTED
    +-- Unauthenticated     no valid key or token came with the call: 401 / UNAUTHENTICATED
    +-- Forbidden           known caller, not allowed to do this: 403 / PERMISSION_DENIED
    +-- OverQuota           a quota or a budget is used up: 429 / RESOURCE_EXHAUSTED, says when to come again
    +-- NotFound            no such model, version, receipt, job: 404 / NOT_FOUND
    +-- Unavailable         try again later: 503 / UNAVAILABLE
    |   +-- Busy            a bounded queue is full, whoever asks: 429 / RESOURCE_EXHAUSTED, says when to come again
    +-- SensorUnusable      a backend cannot read energy here; its reason is kept and shown
    +-- BooksDamaged        the ledger does not add up or was altered

A message says what, the value, the bound and what to do. Arguments are positional, so that errors
survive Ray's pickling.
"""


class _SaysWhen:
    """Second argument of an error: seconds from now after which to come again; a second where none was given."""

    args: tuple[object, ...]

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def retry_after_s(self) -> float:
        """Seconds from now."""
        return float(str(self.args[1])) if len(self.args) > 1 else 1.0


class JoulekeeperError(Exception):
    """Root of everything we raise on purpose. `http_status` and `grpc_status` are what a server answers."""

    http_status = 500
    grpc_status = "INTERNAL"


class InvalidInput(JoulekeeperError):
    """The input cannot be right whatever the state of the system."""

    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class TooLarge(InvalidInput):
    """The input exceeds a documented bound."""

    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class Unauthenticated(JoulekeeperError):
    """The caller showed no credential, or one that is unknown, expired, revoked or forged. Never says which key."""

    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class Forbidden(JoulekeeperError):
    """The caller is known, but its scopes or its tenant do not cover what it asked for."""

    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class OverQuota(_SaysWhen, JoulekeeperError):
    """The tenant has used up a quota, or the deployment its budget: `OverQuota(message, retry_after_s)`, in seconds
    from now. A third argument that is true says that the whole day's is spent: coming again soon is of no use."""

    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    @property
    def is_spent(self) -> bool:
        """Whether it is the day's."""
        return len(self.args) > 2 and bool(self.args[2])


class NotFound(JoulekeeperError):
    """What was asked for by name does not exist (any more)."""

    http_status = 404
    grpc_status = "NOT_FOUND"


class Unavailable(JoulekeeperError):
    """The system cannot answer now; the same call may succeed later."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class Busy(_SaysWhen, Unavailable):
    """A bounded queue is full: `Busy(message, retry_after_s)`, in seconds from now. No quota helps, only time does."""

    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"


class SensorUnusable(JoulekeeperError):
    """A sensor backend, or one device of it, cannot be read here. The message is the reason shown to people."""


class BooksDamaged(JoulekeeperError):
    """The ledger's own checks fail: figures do not add up, or a digest does not match."""
