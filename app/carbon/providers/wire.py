"""HTTP to one provider: keys that no log ever sees, retries with backoff, quotas, and the provider's errors as ours.

Knows nothing of what the answers mean. Keys join a request below the client, whose log line names the URL: several
providers want theirs in the query.

    wire = Wire("eia", url, keys={"api_key": key}, spend=quota.spend, hint="set JOULEKEEPER_INTENSITY_EIA_KEY")
    body = wire.json("/v2/...", {"start": "2026-01-01T00"})

Raises what app/carbon/providers/base.py lists; no message holds a key.
"""

import functools
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from app.errors import (
    Busy,
    Forbidden,
    InvalidInput,
    JoulekeeperError,
    NotFound,
    Unauthenticated,
    Unavailable,
)

Query = Mapping[str, str | int | Sequence[str]]
Sleep = Callable[[float], None]

_ATTEMPTS = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0
"""Backoff between attempts, doubled each time, with jitter; who wants us to wait longer is asked another time."""
_TIMEOUT_S = 20.0
_MAX_BYTES = 64 * 1024 * 1024
_EXCERPT = 160
_BUSY_S = 60.0  # where a 429 does not say when to come again


class Wire:
    """One provider's address with its keys. Not thread-safe."""

    def __init__(
        self,
        name: str,
        url: str,
        spend: Callable[[], None],
        keys: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        hint: str = "",
        sleep: Sleep = time.sleep,
    ) -> None:
        self.name, self._spend, self._hint, self._sleep = name, spend, hint, sleep
        self._secrets = [secret for secret in (*(keys or {}).values(), *(headers or {}).values()) if secret]
        transport = _Keyed(httpx.HTTPTransport(verify=_tls()), keys or {}, headers or {})
        self._client = httpx.Client(base_url=url, transport=transport, timeout=_TIMEOUT_S)

    def json(self, path: str, query: Query | None = None, **options: Any) -> dict[str, Any]:
        """The answer as a JSON object. `options` as `httpx.Client.build_request` takes them."""
        content = self.content(path, query, **options)
        try:
            found = json.loads(content)
        except ValueError as error:
            raise self.unreadable("it is no JSON", content) from error
        if not isinstance(found, dict):
            raise self.unreadable("it is no JSON object", content)
        return found

    def content(self, path: str, query: Query | None = None, **options: Any) -> bytes:
        """The body of a successful answer; transient faults are retried."""
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_wait,
            retry=retry_if_exception(_is_transient),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._once, path, query, options)

    def unreadable(self, what: str, content: bytes | str = b"") -> Unavailable:
        """The error for an answer that does not look as documented."""
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
        return Unavailable(f"{self.name} cannot be understood, {what}{self._excerpt(text)}")

    def guard(self, secret: str) -> None:
        """Never let this be seen either: a token that was handed out later."""
        self._secrets.append(secret)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _once(self, path: str, query: Query | None, options: Mapping[str, Any]) -> bytes:
        self._spend()
        request = self._client.build_request("GET", path, params=query, **options)
        try:
            response = self._client.send(request, stream=True)
            try:
                content = self._read(response)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{self.name} is out of reach: {type(error).__name__}{self._excerpt(str(error))}"
            ) from None
        if response.status_code != 200:
            raise self._refused(response, content.decode("utf-8", "replace"))
        return content

    def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > _MAX_BYTES:
                raise Unavailable(f"{self.name} answers with more than {_MAX_BYTES} bytes")
        return bytes(content)

    def _refused(self, response: httpx.Response, body: str) -> JoulekeeperError:
        status, said = response.status_code, self._excerpt(body)
        match status:
            case 401:
                return Unauthenticated(f"{self.name} does not accept the key (401){said}; {self._hint}")
            case 403:
                return Forbidden(
                    f"{self.name} refuses (403): the key is wrong or does not cover this{said}; {self._hint}"
                )
            case 404:
                return NotFound(f"{self.name} has no such zone or data (404){said}")
            case 400 | 422:
                return InvalidInput(f"{self.name} does not accept the request ({status}){said}")
            case 429:
                return Busy(
                    f"{self.name} says that its quota is spent (429){said}", _retry_after_s(response) or _BUSY_S
                )
        wait_s = _retry_after_s(response)
        told = f"{self.name} answers {status}{said}"
        return Busy(told, wait_s) if wait_s else Unavailable(told)

    def _excerpt(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " ".join(text.split())
        return f": {line[:_EXCERPT]}" if line else ""


class _Keyed(httpx.BaseTransport):
    """Adds keys on the way out, where no log and no error sees them."""

    def __init__(self, inner: httpx.BaseTransport, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self._inner, self._query, self._headers = inner, dict(query), dict(headers)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        keyed = httpx.Request(
            request.method,
            request.url.copy_merge_params(self._query) if self._query else request.url,
            headers={**request.headers, **self._headers},
            stream=request.stream,
            extensions=request.extensions,
        )
        return self._inner.handle_request(keyed)

    def close(self) -> None:
        self._inner.close()


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all providers: reading the certificates takes longer than a request."""
    return httpx.create_ssl_context()


def _is_transient(error: BaseException) -> bool:
    """Worth another attempt now: nobody's fault but the provider's, and it does not ask for long."""
    return isinstance(error, Unavailable) and _asked_wait_s(error) <= _LONGEST_WAIT_S


_backoff = wait_exponential_jitter(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S, jitter=_FIRST_WAIT_S)


def _wait(state: RetryCallState) -> float:
    """The backoff, or as long as the provider asks for where that is more."""
    error = state.outcome.exception() if state.outcome else None
    return max(_backoff(state), _asked_wait_s(error))


def _asked_wait_s(error: BaseException | None) -> float:
    return error.retry_after_s if isinstance(error, Busy) else 0.0


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds that a Retry-After asks for, which is a number or a date by its clock (RFC 9110, 10.2.3); else 0."""
    told = response.headers.get("retry-after", "")
    if told.isdigit():
        return float(told)
    try:
        asked = parsedate_to_datetime(told) - parsedate_to_datetime(response.headers.get("date", ""))
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, asked.total_seconds())
