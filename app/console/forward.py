"""OpenAI's calls where no edge routes them: the model is read in the body, the call passed on to that model's route.

Knows nothing of Ray: the models come from the catalogue, and where Serve's HTTP door listens is asked of whoever knows.
Passes on bytes as they come, streams included; when the client leaves, the model hears of it. Keys and quotas are the
model's business.

    router = forward_router(catalogue, ServeDoor(address))

What cannot be passed on is refused in OpenAI's shape.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from app.console.catalogue import Catalogue, DeployedModel
from app.errors import InvalidInput, Unavailable
from app.protocol.openai_errors import UnknownModel, failure_event
from app.protocol.openai_fields import read_fields

ROUTED = "x-joulekeeper-routed"
"""Says by which application's name a call came to a model; the edge sets it, too."""

_CALLS = ("chat/completions", "completions", "embeddings")
_CONNECT_S = 5.0
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
_NOT_SENT = _HOP_BY_HOP | {"host", "content-length", ROUTED}
_NOT_TAKEN = _HOP_BY_HOP | {"date", "server"}


class ServeDoor:
    """Serve's HTTP door, as a client finds it. For one event loop."""

    def __init__(
        self, address: Callable[[], Awaitable[str]], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`address` gives `http://host:port`; asked once."""
        self._address, self._transport = address, transport
        self._client: httpx.AsyncClient | None = None

    async def post(self, path: str, headers: Iterable[tuple[str, str]], content: bytes) -> httpx.Response:
        """The beginning of the answer, whose body is to be read and which is to be closed. Raises Unavailable."""
        if self._client is None:
            # An answer may take as long as it takes: who waits for it decides when that is too long.
            timeout = httpx.Timeout(None, connect=_CONNECT_S)
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
            self._client = httpx.AsyncClient(
                base_url=await self._address(),
                timeout=timeout,
                limits=limits,
                trust_env=False,
                transport=self._transport,
            )
        try:
            request = self._client.build_request("POST", path, headers=list(headers), content=content)
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise Unavailable(f"the model cannot be reached ({type(error).__name__}); try again in a moment") from error

    async def close(self) -> None:
        """End its connections; the next call makes new ones."""
        if self._client is not None:
            await self._client.aclose()
        self._client = None


def forward_router(catalogue: Catalogue, door: ServeDoor) -> APIRouter:
    """POST `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`."""
    router = APIRouter()

    async def forward(request: Request) -> StreamingResponse:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidInput("the model is read from the body, which must not be compressed; send it as it is")
        body = await request.body()
        name = read_fields(body).required_text("model")
        application, route = locate(name, await catalogue.models())
        answer = await door.post(f"{route}{request.url.path}", _passed_on(request, application), body)
        kept = [(key, value) for key, value in answer.headers.multi_items() if key not in _NOT_TAKEN]
        response = StreamingResponse(_pieces(answer), answer.status_code)
        response.raw_headers = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in kept]
        return response

    for call in _CALLS:
        router.add_api_route(f"/v1/{call}", forward, methods=["POST"], include_in_schema=False)
    return router


def locate(name: str, models: Iterable[DeployedModel]) -> tuple[str, str]:
    """Application and route of `minilm`, `minilm@2`, or of a version that its model's application has within.

    Raises UnknownModel.
    """
    routes = {model.name: model.route for model in models}
    if name in routes:
        return name, routes[name]
    model, _, version = name.partition("@")
    if model in routes and version and not set(version) & set("/?#%@"):
        return model, f"{routes[model]}/versions/{version}"
    raise UnknownModel(f"The model `{name}` does not exist; GET /v1/models lists those that do")


def _passed_on(request: Request, application: str) -> list[tuple[str, str]]:
    kept = [(key, value) for key, value in request.headers.items() if key not in _NOT_SENT]
    return [*kept, (ROUTED, application)]


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes. A stream of events that breaks off is told so by an event, any other body breaks off."""
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx.TransportError:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise
        yield failure_event(Unavailable("the replica that answered has ended; send the request again"))
    finally:
        await answer.aclose()
