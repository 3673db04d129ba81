"""The way from the command to the console's HTTP door, on this machine or elsewhere, by key and certificate.

Knows nothing of Ray: the service may be on another machine, behind an edge.

    with service(url, key_file, certificate) as door:
        door.get("/v1/batches")
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.errors import (
    Forbidden,
    InvalidInput,
    JoulekeeperError,
    NotFound,
    OverQuota,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    import httpx

UrlOption = Annotated[str, typer.Option(help="Where the service is: Serve's door, or an edge's.")]
KeyFileOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with an API key, where access is required.")
]
CertificateOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificates to believe instead of the system's, for an edge.")
]
DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT_S = 60.0
_BY_STATUS: dict[int, type[JoulekeeperError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    429: OverQuota,
}


class Service:
    """One service that answers in JSON; its refusals are raised as ours."""

    def __init__(self, client: "httpx.Client") -> None:
        self._client = client

    def get(self, path: str, **params: str | int) -> Any:
        """What it answers. Raises JoulekeeperError."""
        return self._asked("GET", path, params=params).json()

    def post(self, path: str, content: Any = None, *, files: Mapping[str, Any] | None = None) -> Any:
        """As `get`; `files` goes as multipart with `content` as its fields."""
        if files is not None:
            return self._asked("POST", path, data=content, files=files).json()
        return self._asked("POST", path, json=content or {}).json()

    def content(self, path: str) -> bytes:
        """The bytes of a file. Raises JoulekeeperError."""
        return self._asked("GET", path).content

    def _asked(self, method: str, path: str, **given: Any) -> "httpx.Response":
        import httpx

        try:
            answer = self._client.request(method, path, **given)
        except httpx.HTTPError as error:
            where = self._client.base_url
            raise Unavailable(f"{where} does not answer ({type(error).__name__}); is the service up?") from error
        if answer.is_success:
            return answer
        kind = _BY_STATUS.get(answer.status_code, Unavailable if answer.status_code >= 500 else InvalidInput)
        raise kind(_sentence(answer))


@contextlib.contextmanager
def service(
    url: str, key_file: Path | None, certificate: Path | None, transport: "httpx.BaseTransport | None" = None
) -> Iterator[Service]:
    """The service at `url`. Raises InvalidInput for files that cannot be read."""
    import httpx

    headers = {}
    if key_file is not None:
        try:
            headers["authorization"] = f"Bearer {key_file.read_text(encoding='utf-8').strip()}"
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"--key-file: {key_file} cannot be read: {error}") from error
    verify: Any = str(certificate) if certificate else True
    try:
        client = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, verify=verify, transport=transport)
    except (OSError, httpx.InvalidURL) as error:
        raise InvalidInput(f"--url {url} with --certificate {certificate}: {error}") from error
    with client:
        yield Service(client)


def _sentence(answer: "httpx.Response") -> str:
    try:
        told = answer.json()["error"]
        return str(told["message"] if isinstance(told, dict) else told)
    except (ValueError, LookupError, TypeError):
        return f"{answer.request.url.path}: status {answer.status_code}"
