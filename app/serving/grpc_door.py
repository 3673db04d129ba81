"""The gRPC door of one model: the service's methods, which Serve finds by name.

Knows nothing of Serve's wrapper or of what a model is made of. The methods never raise, since Serve would log a
traceback for every mistake of a client: what went wrong is in the context, in a stream in the message. Health is the
standard service grpc.health.v1.
"""

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2

from app.access.refusals import headers_of
from app.clock import Clock, SystemClock
from app.errors import JoulekeeperError, NotFound, TooLarge
from app.product import NAME, version_of
from app.protocol import grpc_descriptions, oip_grpc
from app.protocol.descriptions import EXTENSIONS
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.model_statistics import ModelCounts
from app.serving.admission import Admission
from app.serving.answering import AnsweringModel
from app.serving.http_door import PLATFORM
from app.serving.ordered import ordered
from app.serving.receipts import as_metadata
from app.serving.settling import settle_of_metadata

Reply = TypeVar("Reply")
Metadata = Iterable[tuple[str, str | bytes]]

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

_ELSEWHERE = NotFound("a model knows nothing of the repository: set the metadata `application: console`")

_AT_ONCE = 16
"""Requests of one stream that are worked on together: enough to fill a batch, few enough to bound its memory."""


class GrpcDoor:
    """Mixed into the replica, which sets `model`, `counts` and `admission`. Method names are the services'."""

    model: AnsweringModel
    admission: Admission
    counts: ModelCounts
    clock: Clock = SystemClock()

    async def ModelInfer(self, request: pb.ModelInferRequest, grpc_context: Any) -> pb.ModelInferResponse:
        try:
            response, told = await self._infer(request, grpc_context, "ModelInfer")
        except JoulekeeperError as error:
            return refused(grpc_context, error, pb.ModelInferResponse())
        grpc_context.set_trailing_metadata(told)
        return response

    async def ModelStreamInfer(
        self, request: AsyncIterator[pb.ModelInferRequest], grpc_context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        try:
            self.admission.of_grpc(grpc_context, "ModelStreamInfer", requests=0)
        except JoulekeeperError as error:
            # in a message, too: Serve's fallback proxy loses the status of a stream of none
            yield refused(grpc_context, error, pb.ModelStreamInferResponse(error_message=str(error)))
            return
        async for response in ordered(request, partial(self._infer_in_stream, grpc_context), _AT_ONCE):
            yield response

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, grpc_context: Any) -> pb.ModelMetadataResponse:
        try:
            self.admission.of_grpc(grpc_context, "ModelMetadata", requests=0)
            self._check_target(request.name, request.version)
            return grpc_descriptions.build_metadata(self.model.signature, PLATFORM)
        except JoulekeeperError as error:
            return refused(grpc_context, error, pb.ModelMetadataResponse())

    async def ModelConfig(self, request: pb.ModelConfigRequest, grpc_context: Any) -> pb.ModelConfigResponse:
        try:
            self.admission.of_grpc(grpc_context, "ModelConfig", requests=0)
            self._check_target(request.name, request.version)
            return grpc_descriptions.build_config(self.model.signature, PLATFORM)
        except JoulekeeperError as error:
            return refused(grpc_context, error, pb.ModelConfigResponse())

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, grpc_context: Any
    ) -> pb.ModelStatisticsResponse:
        try:
            self.admission.of_grpc(grpc_context, "ModelStatistics", requests=0)
            self._check_target(request.name or self.model.args.name, request.version)
            return grpc_descriptions.build_statistics(self.model.signature, self.counts)
        except JoulekeeperError as error:
            return refused(grpc_context, error, pb.ModelStatisticsResponse())

    async def ModelReady(self, request: pb.ModelReadyRequest, grpc_context: Any) -> pb.ModelReadyResponse:
        try:
            self.admission.of_grpc(grpc_context, "ModelReady", requests=0)
            self._check_target(request.name, request.version)
            return pb.ModelReadyResponse(ready=self.model.ready)
        except JoulekeeperError as error:
            return refused(grpc_context, error, pb.ModelReadyResponse())

    async def ServerLive(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self.model.ready)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, grpc_context: Any) -> pb.ServerMetadataResponse:
        try:
            self.admission.of_grpc(grpc_context, "ServerMetadata", requests=0)
        except JoulekeeperError as error:
            return refused(grpc_context, error, pb.ServerMetadataResponse())
        return pb.ServerMetadataResponse(name=NAME, version=version_of(), extensions=EXTENSIONS)

    async def Check(self, request: health_pb2.HealthCheckRequest, grpc_context: Any) -> health_pb2.HealthCheckResponse:
        """grpc.health.v1: of the server, the service or this model by its name."""
        if request.service not in ("", SERVICE, self.model.args.name):
            error = NotFound(
                f"service {request.service!r} is unknown here; ask for {SERVICE} or {self.model.args.name}"
            )
            return refused(grpc_context, error, health_pb2.HealthCheckResponse())
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self.model.ready else status.NOT_SERVING)

    async def List(self, request: health_pb2.HealthListRequest, grpc_context: Any) -> health_pb2.HealthListResponse:
        """grpc.health.v1: all that Check knows."""
        names = ("", SERVICE, self.model.args.name)
        asked = health_pb2.HealthCheckRequest
        statuses = {name: await self.Check(asked(service=name), grpc_context) for name in names}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, grpc_context: Any
    ) -> pb.RepositoryIndexResponse:
        return refused(grpc_context, _ELSEWHERE, pb.RepositoryIndexResponse())

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, grpc_context: Any
    ) -> pb.RepositoryModelLoadResponse:
        return refused(grpc_context, _ELSEWHERE, pb.RepositoryModelLoadResponse())

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, grpc_context: Any
    ) -> pb.RepositoryModelUnloadResponse:
        return refused(grpc_context, _ELSEWHERE, pb.RepositoryModelUnloadResponse())

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, grpc_context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Refused, as grpc.health.v1 foresees: a watched model would never sleep."""
        grpc_context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        grpc_context.set_details("a model is watched at the console: set the metadata `application: console`")
        return
        yield  # an answer that streams, of no messages

    async def _infer(
        self, request: pb.ModelInferRequest, grpc_context: Any, method: str
    ) -> tuple[pb.ModelInferResponse, list[tuple[str, str]]]:
        began_ns = self.clock.monotonic_ns()
        try:
            response, told = await self._answer(request, grpc_context, method)
        except JoulekeeperError:
            self.counts.fail.add(self.clock.monotonic_ns() - began_ns)
            raise
        self.counts.success.add(self.clock.monotonic_ns() - began_ns)
        self.counts.last_inference_ms = self.clock.wall_ns() // 1_000_000
        return response, told

    async def _answer(
        self, request: pb.ModelInferRequest, grpc_context: Any, method: str
    ) -> tuple[pb.ModelInferResponse, list[tuple[str, str]]]:
        """Who asks is decided here, from the metadata alone, for a call and for every message of a stream."""
        caller = self.admission.of_grpc(grpc_context, method)
        metadata: Metadata = grpc_context.invocation_metadata()
        self._check_target(request.model_name, request.model_version)
        size = check_size(request, self.model.args.max_body_bytes)
        signature = self.model.signature
        response, receipt, trace = await self.model.answer(
            partial(oip_grpc.parse_request, request, signature),
            partial(oip_grpc.build_response, signature=signature, raw=bool(request.raw_input_contents)),
            carrier=metadata,
            settle_s=settle_of_metadata(metadata),
            tenant=caller.tenant,
            size_bytes=size,
        )
        self.admission.charge(caller, receipt)
        return response, [*as_metadata(receipt), *trace]

    async def _infer_in_stream(self, grpc_context: Any, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        try:
            response, _ = await self._infer(request, grpc_context, "ModelStreamInfer")
        except JoulekeeperError as error:
            return oip_grpc.build_stream_error(request, str(error))
        return oip_grpc.build_stream_response(response)

    def _check_target(self, name: str, version: str) -> None:
        if name != self.model.args.name:
            raise NotFound(
                f"model {name!r} is not served by this application, which serves {self.model.label}; "
                "set the metadata `application` to the model's name"
            )
        self.model.check_version(version)


def refused(grpc_context: Any, error: JoulekeeperError, empty: Reply) -> Reply:
    """`empty`, with the code and details of `error` in the context, where gRPC's clients find them."""
    grpc_context.set_code(grpc.StatusCode[error.grpc_status])
    grpc_context.set_details(str(error))
    grpc_context.set_trailing_metadata(headers_of(error))
    return empty


def check_size(request: pb.ModelInferRequest, max_bytes: int) -> int:
    """Bytes of `request`. Raises TooLarge."""
    size = request.ByteSize()
    if size > max_bytes:
        raise TooLarge(f"the request has {size} bytes, at most {max_bytes} are read; send fewer rows per request")
    return size
