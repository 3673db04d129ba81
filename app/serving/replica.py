"""One replica of one model: the doors, HTTP and gRPC, to a metered model.

A plain class, tested as such; Serve's wrapper is at the foot. Serve finds the HTTP door through
`__serve_build_asgi_app__` and calls the gRPC methods by the names of the service. Imports nothing heavy: the process
joins the books (`open_client`) before the runner brings torch, so that its cold start is charged to `load`.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from ray import serve

from app.config import settings
from app.domain.account import warm_account
from app.errors import JoulekeeperError, NotFound, TooLarge, Unavailable
from app.product import NAME, version_of
from app.protocol import oip_grpc
from app.protocol.generated import open_inference_pb2 as pb
from app.serving.args import ModelArgs
from app.serving.http_door import PLATFORM, HttpDoor
from app.serving.metered import MeteredModel
from app.serving.settling import settle_of_metadata

if TYPE_CHECKING:
    from app.metering.client import WorkClient
    from app.models.runners.base import Runner

Reply = TypeVar("Reply")


def open_client(args: ModelArgs) -> "WorkClient":
    """Join the books as the keeper of a warm model."""
    from app.metering.client import WorkClient
    from app.metering.devices import visible_accelerators

    return WorkClient.open(warm_account(args.name, args.version), devices=visible_accelerators())


def load_runner(args: ModelArgs) -> "Runner":
    """The runner that `args` ask for. Raises what app/models/runners/load.py raises."""
    from app.models.runners.load import load_runner

    return load_runner(args.source, device=_device(args.device), repository_root=settings().models_root)


class ModelReplica:
    """Answers once `load` has returned. The gRPC methods never raise: what went wrong is in the context."""

    def __init__(
        self,
        args: ModelArgs,
        *,
        open_client: Callable[[ModelArgs], "WorkClient"] = open_client,
        load_runner: Callable[[ModelArgs], "Runner"] = load_runner,
    ) -> None:
        self.model = MeteredModel(args, open_client(args), load_runner)
        self.http = HttpDoor(self.model)

    async def load(self) -> None:
        """Bring the model into service."""
        await self.model.load()

    def check_health(self) -> None:
        """Raises Unavailable when the model does not answer any more."""
        if not self.model.ready:
            raise Unavailable(f"{self.model.label} is not loaded")

    def __serve_build_asgi_app__(self) -> HttpDoor:
        return self.http

    def __del__(self) -> None:
        # Absent when `__init__` failed.
        if "model" in self.__dict__:
            self.model.close()

    async def ModelInfer(self, request: pb.ModelInferRequest, grpc_context: Any) -> pb.ModelInferResponse:
        try:
            self._check_target(request.model_name, request.model_version)
            _check_size(request, self.model.args.max_body_bytes)
            signature, metadata = self.model.signature, grpc_context.invocation_metadata()
            response, told = await self.model.answer(
                partial(oip_grpc.parse_request, request, signature),
                partial(oip_grpc.build_response, signature=signature, raw=bool(request.raw_input_contents)),
                carrier=metadata,
                settle_s=settle_of_metadata(metadata),
            )
        except JoulekeeperError as error:
            return _refused(grpc_context, error, pb.ModelInferResponse())
        grpc_context.set_trailing_metadata(told)
        return response

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, grpc_context: Any) -> pb.ModelMetadataResponse:
        try:
            self._check_target(request.name, request.version)
            return oip_grpc.build_metadata(self.model.signature, PLATFORM)
        except JoulekeeperError as error:
            return _refused(grpc_context, error, pb.ModelMetadataResponse())

    async def ModelReady(self, request: pb.ModelReadyRequest, grpc_context: Any) -> pb.ModelReadyResponse:
        try:
            self._check_target(request.name, request.version)
            return pb.ModelReadyResponse(ready=self.model.ready)
        except JoulekeeperError as error:
            return _refused(grpc_context, error, pb.ModelReadyResponse())

    async def ServerLive(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self.model.ready)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=NAME, version=version_of(), extensions=[])

    def _check_target(self, name: str, version: str) -> None:
        if name != self.model.args.name:
            raise NotFound(
                f"model {name!r} is not served by this application, which serves {self.model.label}; "
                "set the metadata `application` to the model's name"
            )
        self.model.check_version(version)


def _refused(grpc_context: Any, error: JoulekeeperError, empty: Reply) -> Reply:
    # Raising would make Serve log a traceback for every mistake of a client.
    grpc_context.set_code(grpc.StatusCode[error.grpc_status])
    grpc_context.set_details(str(error))
    return empty


def _check_size(request: pb.ModelInferRequest, max_bytes: int) -> None:
    size = request.ByteSize()
    if size > max_bytes:
        raise TooLarge(f"the request has {size} bytes, at most {max_bytes} are read; send fewer rows per request")


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    from app.metering.devices import visible_accelerators

    if not visible_accelerators():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@serve.ingress()
class ServedModel(ModelReplica):
    """What Serve starts: a replica that is loaded before Serve calls it ready."""

    async def __init__(self, args: ModelArgs) -> None:  # type: ignore[misc]
        ModelReplica.__init__(self, args)
        await self.load()
