"""The server level of the Open Inference Protocol and the list of models in OpenAI's shape.

Knows nothing of tensors: models answer for themselves below /v2/models/<name>, and what reaches this router
there is a model that does not exist, or that Serve does not route to yet.
"""

from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from app.console.catalogue import Catalogue, DeployedModel
from app.console.repository import Repository, state_of
from app.errors import InvalidInput, NotFound, Unavailable
from app.product import NAME, version_of
from app.protocol.descriptions import EXTENSIONS
from app.protocol.openai_errors import UnknownModel
from app.protocol.openai_models import ModelEntry, build_model, build_models

_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class IndexWanted(BaseModel):
    """Which models an index shall have."""

    ready: bool = False
    """Only models that are awake."""


class LoadWanted(BaseModel):
    """Parameters of a load, as Triton has them."""

    parameters: dict[str, Any] = {}


Wanted = TypeVar("Wanted", IndexWanted, LoadWanted)


async def _read(request: Request, kind: type[Wanted]) -> Wanted:
    """The body, which may be absent; Triton's clients send it without a content-type."""
    body = await request.body()
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors())
        raise InvalidInput(f"the body cannot be read: {faults}; send JSON as /openapi.json says, or nothing") from error


def _body(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": kind.model_json_schema()}}}}


async def refuse_model(catalogue: Catalogue, name: str, *, by_metadata: bool = False) -> None:
    """Raise for a call that no model took: Unavailable while `name` is being deployed, else NotFound.

    `by_metadata`: the caller chose this application himself, so an existing model is his mistake, too.
    """
    models = await catalogue.models()
    if any(model.name == name for model in models):
        if by_metadata:
            raise NotFound(f"model {name!r} is not here: set the metadata `application: {name}`")
        raise Unavailable(f"model {name!r} is deployed, but not routed to yet; try again")
    known = ", ".join(repr(model.name) for model in models) or "none; deploy one with `joulekeeper deploy FILE`"
    raise NotFound(f"no model {name!r}; deployed: {known}")


def server_router(catalogue: Catalogue) -> APIRouter:
    """`/v2`, `/v2/health/*` and the answer for unknown models."""
    router = APIRouter()

    @router.get("/v2")
    async def metadata() -> dict[str, object]:
        """Server metadata of the Open Inference Protocol."""
        return {"name": NAME, "version": version_of(), "extensions": list(EXTENSIONS)}

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """The server is alive."""
        return {"live": True}

    @router.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        """The server can route to models. Whether one model is ready only that model knows."""
        try:
            await catalogue.models()
        except Unavailable as error:
            return JSONResponse({"ready": False, "error": str(error)}, error.http_status)
        return JSONResponse({"ready": True})

    @router.api_route("/v2/models/{name}", methods=_ANY_METHOD, include_in_schema=False)
    @router.api_route("/v2/models/{name}/{rest:path}", methods=_ANY_METHOD, include_in_schema=False)
    async def unknown_model(name: str, rest: str = "") -> None:
        await refuse_model(catalogue, name)

    return router


def models_router(catalogue: Catalogue) -> APIRouter:
    """`/v1/models`: what is deployed, in OpenAI's shape."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Response:
        """The deployed models in OpenAI's shape; a version beside the default one is `<model>@<version>`."""
        return Response(build_models(map(_openai_entry, await catalogue.models())), media_type="application/json")

    @router.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        """One of them."""
        for each in await catalogue.models():
            if each.name == name:
                return Response(build_model(_openai_entry(each)), media_type="application/json")
        raise UnknownModel(f"The model `{name}` does not exist; GET /v1/models lists those that do")

    return router


def repository_router(repository: Repository) -> APIRouter:
    """`/v2/repository/*`: what is deployed; a load wakes a model, an unload puts it to sleep."""
    router = APIRouter()

    @router.post("/v2/repository/index", openapi_extra=_body(IndexWanted))
    async def index(request: Request) -> list[dict[str, str]]:
        """Every deployed model and whether it is awake."""
        wanted = await _read(request, IndexWanted)
        return [_indexed(model) for model in await repository.index(wanted.ready)]

    @router.post("/v2/repository/models/{name}/load", openapi_extra=_body(LoadWanted), response_class=Response)
    async def load(name: str, request: Request) -> Response:
        """Wake a model; answers when it is ready."""
        wanted = await _read(request, LoadWanted)
        await repository.load(name, wanted.parameters)
        return Response()

    @router.post("/v2/repository/models/{name}/unload", response_class=Response)
    async def unload(name: str) -> Response:
        """Put a model to sleep: it stays deployed, and the next request wakes it."""
        await repository.unload(name)
        return Response()

    return router


def _indexed(model: DeployedModel) -> dict[str, str]:
    state, reason = state_of(model)
    return {"name": model.model, "version": model.version, "state": state, "reason": reason}


def _openai_entry(model: DeployedModel) -> ModelEntry:
    told = {"version": model.version, "state": state_of(model)[0]}
    return ModelEntry(model.name, int(model.deployed_at_s), NAME, {key: value for key, value in told.items() if value})
