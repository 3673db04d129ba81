"""tritonclient over gRPC, and the standard services beside it: health and reflection."""

import queue

import grpc as plain_grpc
import numpy as np
import tritonclient.grpc as grpc
from checks import Doors, run
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensors import ARRAYS, same
from triton_tensors import as_sent
from tritonclient.utils import InferenceServerException

SERVICE = "inference.GRPCInferenceService"


def client_of(doors: Doors) -> grpc.InferenceServerClient:
    if not doors.ca:
        return grpc.InferenceServerClient(doors.grpc)
    return grpc.InferenceServerClient(doors.grpc, ssl=True, root_certificates=doors.ca)


def channel_of(doors: Doors) -> plain_grpc.Channel:
    if not doors.ca:
        return plain_grpc.insecure_channel(doors.grpc)
    with open(doors.ca, "rb") as file:
        return plain_grpc.secure_channel(doors.grpc, plain_grpc.ssl_channel_credentials(file.read()))


def texts(*values):
    tensor = grpc.InferInput("text", [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode() for value in values], dtype=object))
    return [tensor]


def numbers_input(numbers):
    tensor = grpc.InferInput("fp32", list(numbers.shape), "FP32")
    tensor.set_data_from_numpy(numbers)
    return [tensor]


def refusal_of(call):
    try:
        call()
    except InferenceServerException as refusal:
        return refusal
    raise AssertionError("nothing was refused")


def the_server_says_who_it_is(doors):
    client, headers = client_of(doors), doors.metadata("console")
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.get_server_metadata(headers=headers).name == "joulekeeper"


def a_model_describes_itself(doors):
    client, headers = client_of(doors), doors.metadata("everything")
    assert client.is_model_ready("everything", headers=headers)
    metadata = client.get_model_metadata("everything", headers=headers)
    assert {tensor.datatype for tensor in metadata.inputs} == set(ARRAYS)
    config = client.get_model_config("everything", headers=headers).config
    assert {tensor.name: tensor.data_type for tensor in config.output}["bf16"] == 14


def every_datatype_goes_and_comes(doors):
    inputs = []
    for datatype, array in ARRAYS.items():
        tensor = grpc.InferInput(datatype.lower(), list(array.shape), datatype)
        tensor.set_data_from_numpy(as_sent(datatype, array))
        inputs.append(tensor)
    result = client_of(doors).infer("everything", inputs, request_id="7", headers=doors.metadata("everything"))
    assert result.get_response().id == "7"
    for datatype, array in ARRAYS.items():
        same(datatype, result.as_numpy(datatype.lower()), array)


def a_tensor_of_64_mb_comes_back(doors):
    numbers = np.arange(16 * 1024 * 1024, dtype=np.float32).reshape(4096, 4096)
    result = client_of(doors).infer("numbers", numbers_input(numbers), headers=doors.metadata("numbers"))
    assert (result.as_numpy("fp32") == numbers).all()


def messages_may_be_compressed(doors):
    numbers, headers = np.zeros((100, 1000), np.float32), {"application": "numbers"}
    # Always named: the edge cannot look for the model inside a compressed message.
    result = client_of(doors).infer("numbers", numbers_input(numbers), headers=headers, compression_algorithm="gzip")
    assert (result.as_numpy("fp32") == numbers).all()


def a_stream_answers_in_order_and_outlives_a_mistake(doors):
    client, answers = client_of(doors), queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=doors.metadata("minilm"))
    for number in range(20):
        version = "7" if number == 5 else ""
        client.async_stream_infer("minilm", texts(f"number {number}"), request_id=str(number), model_version=version)
    found = [answers.get(timeout=60) for _ in range(20)]
    client.stop_stream()
    for number, (result, error) in enumerate(found):
        if number == 5:
            assert "no version '7'" in error.message()
        else:
            assert error is None, error
            assert result.get_response().id == str(number)
            assert result.as_numpy("embedding").shape == (1, 384)
            assert result.get_response().parameters["receipt_id"].string_param
            assert result.get_response().parameters["triton_final_response"].bool_param


def statistics_count_requests(doors):
    client, headers = client_of(doors), doors.metadata("minilm")
    client.infer("minilm", texts("hi"), headers=headers)
    stats = client.get_inference_statistics("minilm", headers=headers).model_stats[0]
    assert stats.inference_stats.success.count >= 1


def the_repository_wakes_and_lists(doors):
    client, headers = client_of(doors), doors.metadata("console")
    client.load_model("minilm", headers=headers)
    index = {model.name: model.state for model in client.get_model_repository_index(headers=headers).models}
    assert index["minilm"] == "READY", index
    client.unload_model("minilm", headers=headers)
    client.load_model("minilm", headers=headers)
    assert refusal_of(lambda: client.unload_model("other", headers=headers)).status() == "StatusCode.NOT_FOUND"


def mistakes_are_codes(doors):
    client, headers = client_of(doors), doors.metadata("minilm")
    wrong = grpc.InferInput("text", [1], "INT32")
    wrong.set_data_from_numpy(np.zeros(1, np.int32))
    refusal = refusal_of(lambda: client.infer("minilm", [wrong], headers=headers))
    assert refusal.status() == "StatusCode.INVALID_ARGUMENT"
    assert "datatype must be BYTES" in refusal.message()


def a_health_probe_is_answered(doors):
    stub = health_pb2_grpc.HealthStub(channel_of(doors))
    metadata = tuple(doors.metadata("console").items())
    for service in ("", SERVICE, "minilm"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), metadata=metadata, timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    unknown = stub.Check.future(health_pb2.HealthCheckRequest(service="other"), metadata=metadata, timeout=30)
    assert unknown.code() is plain_grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="minilm"), metadata=metadata, timeout=30)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def reflection_shows_the_service(doors):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel_of(doors))
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answer = next(stub.ServerReflectionInfo(asked, metadata=tuple(doors.metadata("console").items()), timeout=30))
    services = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= services, services


def the_wire_is_tritons(doors):
    """Every message of ours that Triton has, has fields with its numbers and types; every method its types."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel_of(doors))
    asked = iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)])
    answer = next(stub.ServerReflectionInfo(asked, metadata=tuple(doors.metadata("console").items()), timeout=30))
    from google.protobuf import descriptor_pb2
    from tritonclient.grpc import model_config_pb2, service_pb2

    ours = descriptor_pb2.FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    theirs = [descriptor_pb2.FileDescriptorProto() for _ in range(2)]
    service_pb2.DESCRIPTOR.CopyToProto(theirs[0])
    model_config_pb2.DESCRIPTOR.CopyToProto(theirs[1])
    known = {message.name: message for file in theirs for message in file.message_type}
    assert len(ours.message_type) > 30
    for message in ours.message_type:
        compare(message, known[message.name])
    methods = {method.name: method for method in theirs[0].service[0].method}
    for method in ours.service[0].method:
        for aspect in ("input_type", "output_type", "client_streaming", "server_streaming"):
            assert getattr(method, aspect) == getattr(methods[method.name], aspect), method


def compare(ours, theirs):
    fields = {field.name: field for field in theirs.field}
    for field in ours.field:
        other = fields[field.name]
        for aspect in ("number", "label", "type", "type_name"):
            assert getattr(field, aspect) == getattr(other, aspect), (ours.name, field.name, aspect)
    nested = {message.name: message for message in theirs.nested_type}
    for message in ours.nested_type:
        compare(message, nested[message.name])


run(
    the_server_says_who_it_is,
    a_model_describes_itself,
    every_datatype_goes_and_comes,
    a_tensor_of_64_mb_comes_back,
    messages_may_be_compressed,
    a_stream_answers_in_order_and_outlives_a_mistake,
    statistics_count_requests,
    the_repository_wakes_and_lists,
    mistakes_are_codes,
    a_health_probe_is_answered,
    reflection_shows_the_service,
    the_wire_is_tritons,
)
