"""The server level of the Open Inference Protocol and the list of models in OpenAI's shape.

Knows nothing of tensors: models answer for themselves below /v2/models/<name>, and what reaches this router
there is a model that does not exist, or that Serve does not route to yet.
"""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.console.catalogue import Catalogue, DeployedModel
from app.errors import NotFound, Unavailable
from app.product import NAME, version_of

_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


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
    """`/v2`, `/v2/health/*`, `/v1/models` and the answer for unknown models."""
    router = APIRouter()

    @router.get("/v2")
    async def metadata() -> dict[str, object]:
        """Server metadata of the Open Inference Protocol."""
        return {"name": NAME, "version": version_of(), "extensions": []}

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

    @router.get("/v1/models")
    async def models() -> dict[str, object]:
        """The deployed models in OpenAI's shape."""
        return {"object": "list", "data": [_openai_model(model) for model in await catalogue.models()]}

    return router


def _openai_model(model: DeployedModel) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": int(model.deployed_at_s), "owned_by": NAME}
