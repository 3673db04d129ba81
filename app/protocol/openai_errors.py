"""Refusals and failures in OpenAI's shape: {"error": {"message", "type", "param", "code"}}, and their statuses.

Knows nothing of servers. Codes are those that OpenAI's own service answers with, since clients tell by them what to do:

    raise WireFault("temperature must be from 0 to 2, got 3", "temperature", "decimal_above_max_value")
    answer = refusal(error, headers_of(error))       # status, headers, body
    yield failure_event(error)                       # in a stream whose status is long sent

`refusal` and `failure_event` never raise, whatever the error is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from app.errors import (
    Busy,
    Forbidden,
    InvalidInput,
    JoulekeeperError,
    NotFound,
    OverQuota,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from app.protocol.sse import event

_OF_CLIENT = "invalid_request_error"
_OF_SERVER = "server_error"

_SPOKEN: tuple[tuple[type[JoulekeeperError], str, str | None], ...] = (
    (Busy, _OF_SERVER, "engine_overloaded"),
    (Unavailable, _OF_SERVER, "service_unavailable"),
    (OverQuota, "rate_limit_error", "rate_limit_exceeded"),
    (Unauthenticated, _OF_CLIENT, "invalid_api_key"),
    (Forbidden, _OF_CLIENT, "insufficient_permissions"),
    (TooLarge, _OF_CLIENT, "request_too_large"),
    (NotFound, _OF_CLIENT, None),
    (InvalidInput, _OF_CLIENT, None),
    (JoulekeeperError, _OF_SERVER, None),
)
"""Error class to OpenAI's type and code; the first that fits."""

_NO_RETRY = ("x-should-retry", "false")
"""OpenAI's clients come again after every 429, unless this header says that it is of no use."""


class WireFault(InvalidInput):
    """A fault of one parameter: `WireFault(message, param, code)`; `param` as OpenAI spells it, `messages[0].role`."""

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def param(self) -> str | None:
        """The parameter at fault; None: the body itself."""
        return str(self.args[1]) if len(self.args) > 1 and self.args[1] is not None else None

    @property
    def code(self) -> str:
        """OpenAI's code of the fault."""
        return str(self.args[2]) if len(self.args) > 2 else "invalid_value"


class UnknownModel(NotFound):
    """`UnknownModel(message)`: the body's `model` names none that is served here."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not what was asked for."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Without content-type, which is JSON's, and content-length."""
    body: bytes


def refusal(error: Exception, headers: Iterable[tuple[str, str]] = ()) -> Refusal:
    """What to answer to `error`. `headers` are those that any protocol sends with it, such as retry-after."""
    extra = (_NO_RETRY,) if _is_spent(error) else ()
    return Refusal(status_of(error), (*headers, *extra), _body(error))


def failure_event(error: Exception) -> bytes:
    """The event by which a stream tells that it failed, its last; no DONE follows."""
    return event(_body(error))


def status_of(error: Exception) -> int:
    """The HTTP status of `error`; what nobody foresaw is 500."""
    return error.http_status if isinstance(error, JoulekeeperError) else 500


def _body(error: Exception) -> bytes:
    kind, code, param = _described(error)
    said = {"message": _sentence(error), "type": kind, "param": param, "code": code}
    return orjson.dumps({"error": said})


def _described(error: Exception) -> tuple[str, str | None, str | None]:
    """Type, code and parameter."""
    match error:
        case WireFault():
            return _OF_CLIENT, error.code, error.param
        case UnknownModel():
            return _OF_CLIENT, "model_not_found", "model"
        case _ if _is_spent(error):
            return "insufficient_quota", "insufficient_quota", None
    for known, kind, code in _SPOKEN:
        if isinstance(error, known):
            return kind, code, None
    return _OF_SERVER, None, None


def _is_spent(error: Exception) -> bool:
    return isinstance(error, OverQuota) and error.is_spent


def _sentence(error: Exception) -> str:
    """What a client may read: our own words; of what nobody foresaw only its name, since its text may tell secrets."""
    if isinstance(error, JoulekeeperError):
        return str(error).encode(errors="replace").decode()
    return f"internal error ({type(error).__name__}); the server's log has the details"
