"""The gRPC door of a language model: as any model's, but a request of a stream is answered piece by piece.

Knows nothing of Serve's wrapper. Method names are the service's.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

from app.errors import InvalidInput, JoulekeeperError
from app.protocol import oip_grpc
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.messages import InferRequest
from app.protocol.model_statistics import ModelCounts
from app.serving.admission import Admission
from app.serving.generation.merged import merged
from app.serving.generation.model import GenerationModel
from app.serving.generation.session import Session
from app.serving.generation.tensors import response_of
from app.serving.grpc_door import GrpcDoor, check_size, refused
from app.serving.receipts import as_metadata
from app.serving.settling import settle_of_metadata

_AT_ONCE = 16
"""Requests of one stream that are worked on together, as for any model."""

Pieces = AsyncGenerator[pb.ModelStreamInferResponse, None]


class GeneratorGrpcDoor(GrpcDoor):
    """Mixed into the replica, which sets `model`, `counts` and `admission`."""

    model: GenerationModel
    admission: Admission
    counts: ModelCounts

    async def ModelStreamInfer(self, request: AsyncIterator[pb.ModelInferRequest], grpc_context: Any) -> Pieces:
        """Every request of the stream, of one prompt each, is answered by a message for each piece of its text; the
        last one has `triton_final_response`, why it ended, and the receipt. Requests are told apart by their ids."""
        try:
            self.admission.of_grpc(grpc_context, "ModelStreamInfer", requests=0)
        except JoulekeeperError as error:
            yield refused(grpc_context, error, pb.ModelStreamInferResponse(error_message=str(error)))
            return
        async with aclosing(merged(request, partial(self._pieces, grpc_context), _AT_ONCE)) as responses:
            async for response in responses:
                yield response

    async def _pieces(self, grpc_context: Any, message: pb.ModelInferRequest) -> Pieces:
        began_ns = self.clock.monotonic_ns()
        try:
            async with aclosing(self._answered(grpc_context, message)) as pieces:
                async for piece in pieces:
                    yield piece
        except JoulekeeperError as error:
            self.counts.fail.add(self.clock.monotonic_ns() - began_ns)
            yield oip_grpc.build_stream_error(message, str(error))
        else:
            self.counts.success.add(self.clock.monotonic_ns() - began_ns)
            self.counts.last_inference_ms = self.clock.wall_ns() // 1_000_000

    async def _answered(self, grpc_context: Any, message: pb.ModelInferRequest) -> Pieces:
        """Who asks is decided for every message."""
        caller = self.admission.of_grpc(grpc_context, "ModelStreamInfer")
        metadata = grpc_context.invocation_metadata()
        settle_s = settle_of_metadata(metadata)
        self._check_target(message.model_name, message.model_version)
        size = check_size(message, self.model.args.max_body_bytes)
        request = oip_grpc.parse_request(message, self.model.signature)
        if request.inputs["prompt"].size != 1:
            raise InvalidInput("a stream answers one prompt a request; send several requests, or ModelInfer")
        session, _ = await self.model.tensor_session(request, caller.tenant, metadata, size, stream=True)
        raw = bool(message.raw_input_contents)
        session.begin()
        try:
            async for piece in self._told(session, request, raw, settle_s):
                yield piece
        finally:
            session.leave()
        self.admission.charge(caller, session.receipt())
        grpc_context.set_trailing_metadata([*as_metadata(session.receipt()), *session.trace])

    async def _told(self, session: Session, request: InferRequest, raw: bool, settle_s: float) -> Pieces:
        finish = ""
        async for grown in session.pieces():
            for each in grown:
                finish = each.finish or finish
                if each.text:
                    part = response_of(request, [each.text], [""], {"triton_final_response": False})
                    yield self._message(part, raw)
        receipt = await session.finish(settle_s)
        told = session.told(receipt) | {"triton_final_response": True}
        yield self._message(response_of(request, [""], [finish], told), raw)

    def _message(self, response: Any, raw: bool) -> pb.ModelStreamInferResponse:
        built = oip_grpc.build_response(response, self.model.signature, raw)
        return pb.ModelStreamInferResponse(infer_response=built)
