"""The server level of the Open Inference Protocol over gRPC, as methods that Serve finds by name.

Serve brings a gRPC call here when its metadata say `application: console`. Knows nothing of tensors: a
ModelInfer that arrives here names a model that does not exist, or not the application of one that does.
"""

from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import grpc

from app.access.gate import Gate
from app.access.refusals import headers_of
from app.console.catalogue import Catalogue
from app.console.guard import admit_call
from app.console.health import HealthCalls
from app.console.repository import Repository, state_of
from app.console.server_api import refuse_model
from app.errors import JoulekeeperError, Unavailable
from app.product import NAME, version_of
from app.protocol.descriptions import EXTENSIONS
from app.protocol.generated import open_inference_pb2 as pb

Answer = TypeVar("Answer")


class ServerCalls(HealthCalls):
    """Mixed into the deployment, which sets `catalogue`, `repository` and `gate`. Method names are the services'."""

    catalogue: Catalogue
    repository: Repository
    gate: Gate

    async def ServerLive(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """The server is alive."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """The server can route to models. Whether one model is ready only that model knows."""
        try:
            await self.catalogue.models()
        except Unavailable:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, grpc_context: Any) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        if not self._admits(grpc_context, "ServerMetadata"):
            return pb.ServerMetadataResponse()
        return pb.ServerMetadataResponse(name=NAME, version=version_of(), extensions=EXTENSIONS)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, grpc_context: Any
    ) -> pb.RepositoryIndexResponse:
        """Every deployed model and whether it is awake."""
        if not self._admits(grpc_context, "RepositoryIndex"):
            return pb.RepositoryIndexResponse()
        models = await _told(grpc_context, self.repository.index(request.ready)) or ()
        index = pb.RepositoryIndexResponse()
        for model in models:
            state, reason = state_of(model)
            index.models.add(name=model.model, version=model.version, state=state, reason=reason)
        return index

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, grpc_context: Any
    ) -> pb.RepositoryModelLoadResponse:
        """Wake a model; answers when it is ready."""
        if self._admits(grpc_context, "RepositoryModelLoad"):
            await _told(grpc_context, self.repository.load(request.model_name, request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, grpc_context: Any
    ) -> pb.RepositoryModelUnloadResponse:
        """Put a model to sleep: it stays deployed, and the next request wakes it."""
        if self._admits(grpc_context, "RepositoryModelUnload"):
            await _told(grpc_context, self.repository.unload(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    async def ModelReady(self, request: pb.ModelReadyRequest, grpc_context: Any) -> pb.ModelReadyResponse:
        """No model is ready here; says which there are."""
        await self._refuse(request.name, grpc_context)
        return pb.ModelReadyResponse(ready=False)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, grpc_context: Any) -> pb.ModelMetadataResponse:
        """No model is described here; says which there are."""
        await self._refuse(request.name, grpc_context)
        return pb.ModelMetadataResponse()

    async def ModelConfig(self, request: pb.ModelConfigRequest, grpc_context: Any) -> pb.ModelConfigResponse:
        """No model has its configuration here; says which there are."""
        await self._refuse(request.name, grpc_context)
        return pb.ModelConfigResponse()

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, grpc_context: Any
    ) -> pb.ModelStatisticsResponse:
        """No model has its statistics here; says which there are."""
        await self._refuse(request.name, grpc_context)
        return pb.ModelStatisticsResponse()

    async def ModelInfer(self, request: pb.ModelInferRequest, grpc_context: Any) -> pb.ModelInferResponse:
        """No model infers here; says which there are."""
        await self._refuse(request.model_name, grpc_context)
        return pb.ModelInferResponse()

    async def ModelStreamInfer(
        self, request: AsyncIterator[pb.ModelInferRequest], grpc_context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """No model infers here; the first message is told which there are, and the stream ends.

        It is told in a message, too: Serve's fallback proxy loses the status of a stream of none.
        """
        async for message in request:
            await self._refuse(message.model_name, grpc_context)
            yield pb.ModelStreamInferResponse(error_message=grpc_context.details())
            return

    async def _refuse(self, name: str, grpc_context: Any) -> None:
        if self._admits(grpc_context, "Model*", name):
            await _told(grpc_context, refuse_model(self.catalogue, name, by_metadata=True))

    def _admits(self, grpc_context: Any, method: str, model: str = "") -> bool:
        """Whether the caller may; where not, the refusal is in the context."""
        try:
            admit_call(self.gate, grpc_context, method, model)
        except JoulekeeperError as error:
            _refused(grpc_context, error)
            return False
        return True


async def _told(grpc_context: Any, asked: Awaitable[Answer]) -> Answer | None:
    """The answer to what is asked. Of a refusal, set status and details: gRPC drops the response then, and Serve logs
    no traceback for a client's mistake."""
    try:
        return await asked
    except JoulekeeperError as error:
        _refused(grpc_context, error)
        return None


def _refused(grpc_context: Any, error: JoulekeeperError) -> None:
    grpc_context.set_code(getattr(grpc.StatusCode, error.grpc_status))
    grpc_context.set_details(str(error))
    grpc_context.set_trailing_metadata(headers_of(error))
