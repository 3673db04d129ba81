"""The server level of the Open Inference Protocol over gRPC, as methods that Serve finds by name.

Serve brings a gRPC call here when its metadata say `application: console`. Knows nothing of tensors: a
ModelInfer that arrives here names a model that does not exist, or not the application of one that does.
"""

from typing import Any

import grpc

from app.console.catalogue import Catalogue
from app.console.server_api import refuse_model
from app.errors import JoulekeeperError, Unavailable
from app.product import NAME, version_of
from app.protocol.generated import open_inference_pb2 as pb


class ServerCalls:
    """Mixed into the deployment, which sets `catalogue`. Method names are the service's."""

    catalogue: Catalogue

    async def ServerLive(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:  # noqa: N802
        """The server is alive."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:  # noqa: N802
        """The server can route to models. Whether one model is ready only that model knows."""
        try:
            await self.catalogue.models()
        except Unavailable:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest
    ) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        return pb.ServerMetadataResponse(name=NAME, version=version_of(), extensions=[])

    async def ModelReady(  # noqa: N802
        self, request: pb.ModelReadyRequest, grpc_context: Any
    ) -> pb.ModelReadyResponse:
        """No model is ready here; says which there are."""
        await self._refuse(request.name, grpc_context)
        return pb.ModelReadyResponse(ready=False)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, grpc_context: Any
    ) -> pb.ModelMetadataResponse:
        """No model is described here; says which there are."""
        await self._refuse(request.name, grpc_context)
        return pb.ModelMetadataResponse()

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, grpc_context: Any
    ) -> pb.ModelInferResponse:
        """No model infers here; says which there are."""
        await self._refuse(request.model_name, grpc_context)
        return pb.ModelInferResponse()

    async def _refuse(self, name: str, grpc_context: Any) -> None:
        """Set status and details: gRPC drops the response, and Serve logs no traceback for a wrong name."""
        try:
            await refuse_model(self.catalogue, name, by_metadata=True)
        except JoulekeeperError as error:
            grpc_context.set_code(getattr(grpc.StatusCode, error.grpc_status))
            grpc_context.set_details(str(error))
