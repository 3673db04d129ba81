"""The gRPC methods of a replica: answers, refusals as codes, receipts as trailing metadata."""

import asyncio

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from app.engine.slices import SliceEnergy
from app.protocol.generated import open_inference_pb2 as pb


class Context:
    """What Serve passes as `grpc_context`, as far as we use it."""

    def __init__(self, *metadata):
        self.code, self.details, self.trailing = None, "", []
        self._metadata = [("application", "echo"), *metadata]

    def invocation_metadata(self):
        return self._metadata

    def peer(self):
        return "ipv4:127.0.0.1:4711"

    def set_code(self, code):
        self.code = code

    def set_details(self, details):
        self.details = details

    def set_trailing_metadata(self, metadata):
        self.trailing = metadata


def request(*texts, name="echo", version=""):
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)], contents=pb.InferTensorContents(bytes_contents=texts)
    )
    return pb.ModelInferRequest(model_name=name, model_version=version, id="seven", inputs=[tensor])


def infer(served, message, *metadata):
    context = Context(*metadata)
    return asyncio.run(served.replica.ModelInfer(message, context)), context


def test_an_inference_answers_with_its_receipt_in_parameters_and_trailing_metadata(served):
    served.client.told = SliceEnergy(energy_uj=12, carbon_ugco2e=3, grade="modelled", provisional=False)
    response, context = infer(served, request(b"hi"))
    assert context.code is None
    assert (response.model_name, response.model_version, response.id) == ("echo", "2", "seven")
    assert list(response.outputs[1].contents.int64_contents) == [2]
    assert response.parameters["energy_uj"].int64_param == 12
    assert context.trailing == [
        ("x-joulekeeper-receipt_id", "r-1"),
        ("x-joulekeeper-energy_uj", "12"),
        ("x-joulekeeper-carbon_ugco2e", "3"),
        ("x-joulekeeper-grade", "modelled"),
        ("x-joulekeeper-provisional", "false"),
    ]


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        (request(b"hi", name="other"), grpc.StatusCode.NOT_FOUND, "'other' is not served by this application"),
        (request(b"hi", version="1"), grpc.StatusCode.NOT_FOUND, "echo has no version '1' here; 2 is served"),
        (pb.ModelInferRequest(model_name="echo"), grpc.StatusCode.INVALID_ARGUMENT, "input 'text' is missing"),
        (request(b"refuse"), grpc.StatusCode.INVALID_ARGUMENT, "is refused"),
        (request(b"break"), grpc.StatusCode.INTERNAL, "failed with ZeroDivisionError"),
        (request(b"x" * 401), grpc.StatusCode.RESOURCE_EXHAUSTED, "at most 400 are read"),
    ],
)
def test_what_is_wrong_is_a_code_with_details(served, message, code, says):
    response, context = infer(served, message)
    assert response == pb.ModelInferResponse()
    assert context.code is code
    assert says in context.details
    assert context.trailing == []


def test_the_served_version_may_be_named(served):
    assert infer(served, request(b"hi", version="2"))[1].code is None


def test_metadata_and_readiness_are_those_of_the_model(served):
    metadata = asyncio.run(served.replica.ModelMetadata(pb.ModelMetadataRequest(name="echo"), Context()))
    ready = asyncio.run(served.replica.ModelReady(pb.ModelReadyRequest(name="echo"), Context()))
    assert metadata.outputs[1].datatype == "INT64"
    assert ready.ready


def test_an_unknown_model_is_neither_described_nor_ready(served):
    for call, message in (
        (served.replica.ModelMetadata, pb.ModelMetadataRequest(name="other")),
        (served.replica.ModelReady, pb.ModelReadyRequest(name="other")),
    ):
        context = Context()
        asyncio.run(call(message, context))
        assert context.code is grpc.StatusCode.NOT_FOUND


def test_before_loading_the_model_is_not_ready_and_the_server_lives(unloaded):
    replica = unloaded.replica
    assert not asyncio.run(replica.ModelReady(pb.ModelReadyRequest(name="echo"), Context())).ready
    assert not asyncio.run(replica.ServerReady(pb.ServerReadyRequest())).ready
    assert asyncio.run(replica.ServerLive(pb.ServerLiveRequest())).live
    assert infer(unloaded, request(b"hi"))[1].code is grpc.StatusCode.UNAVAILABLE


def test_the_server_says_its_name(served):
    assert asyncio.run(served.replica.ServerMetadata(pb.ServerMetadataRequest(), Context())).name == "joulekeeper"


def stream(served, *messages):
    async def run():
        async def sent():
            for message in messages:
                yield message

        return [answer async for answer in served.replica.ModelStreamInfer(sent(), Context())]

    return asyncio.run(run())


def test_a_stream_has_one_answer_for_each_request_in_order_and_outlives_a_refusal(served):
    answers = stream(served, request(b"hi"), request(b"refuse"), request(b"x", name="other"), request(b"there"))
    assert [list(answer.infer_response.outputs[1].contents.int64_contents) for answer in answers[::3]] == [[2], [5]]
    assert all(answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers[::3])
    assert "is refused" in answers[1].error_message
    assert "'other' is not served" in answers[2].error_message
    assert [answer.infer_response.id for answer in answers] == ["seven"] * 4
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, False]


def test_the_configuration_and_the_counts_are_those_of_the_model(served):
    infer(served, request(b"hi"))
    infer(served, request(b"refuse"))
    config = asyncio.run(served.replica.ModelConfig(pb.ModelConfigRequest(name="echo"), Context())).config
    assert (config.name, config.max_batch_size, config.input[0].data_type) == ("echo", 0, pb.TYPE_STRING)
    assert list(config.output[1].dims) == [-1]
    for name in ("echo", ""):
        told = asyncio.run(served.replica.ModelStatistics(pb.ModelStatisticsRequest(name=name), Context()))
        stats = told.model_stats[0]
        assert (stats.inference_count, stats.inference_stats.success.count, stats.inference_stats.fail.count) == (
            1,
            1,
            1,
        )


@pytest.mark.parametrize("service", ["", "echo", "inference.GRPCInferenceService"])
def test_health_is_that_of_the_model(served, unloaded, service):
    answer = asyncio.run(served.replica.Check(HealthCheckRequest(service=service), Context()))
    assert answer.status == HealthCheckResponse.SERVING


def test_health_of_others_is_not_found_and_a_model_is_not_watched(served):
    context = Context()
    asyncio.run(served.replica.Check(HealthCheckRequest(service="other"), context))
    assert context.code is grpc.StatusCode.NOT_FOUND

    async def watch():
        return [answer async for answer in served.replica.Watch(HealthCheckRequest(), context)]

    assert asyncio.run(watch()) == []
    assert context.code is grpc.StatusCode.UNIMPLEMENTED


def test_a_wish_to_sleep_lasts_until_the_next_answer(served):
    replica = served.replica
    assert replica.record_autoscaling_stats()["sleep_wanted"] == 0.0
    asyncio.run(replica.let_sleep())
    infer(served, request(b"refuse"))
    assert replica.record_autoscaling_stats()["sleep_wanted"] == 1.0
    infer(served, request(b"hi"))
    assert replica.record_autoscaling_stats()["sleep_wanted"] == 0.0
