"""tritonclient over HTTP, used as its documentation shows."""

import numpy as np
import tritonclient.http as http
from checks import Doors, run
from tensors import ARRAYS, same
from triton_tensors import as_sent
from tritonclient.utils import InferenceServerException


def client_of(doors: Doors) -> http.InferenceServerClient:
    if not doors.ca:
        return http.InferenceServerClient(doors.http, connection_timeout=120, network_timeout=120)
    trust = {"ca_certs": doors.ca}
    return http.InferenceServerClient(
        doors.http, ssl=True, ssl_options=trust, connection_timeout=120, network_timeout=120
    )


def texts(*values, binary):
    tensor = http.InferInput("text", [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode() for value in values], dtype=object), binary_data=binary)
    return [tensor]


def every_input(binary):
    inputs = []
    for datatype, array in ARRAYS.items():
        tensor = http.InferInput(datatype.lower(), list(array.shape), datatype)
        # The client itself has no JSON for halves.
        tensor.set_data_from_numpy(
            as_sent(datatype, array), binary_data=binary or datatype in ("FP16", "BF16", "BYTES")
        )
        inputs.append(tensor)
    return inputs


def refusal_of(call):
    try:
        call()
    except InferenceServerException as refusal:
        return refusal
    raise AssertionError("nothing was refused")


def the_server_says_who_it_is(doors):
    client = client_of(doors)
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "joulekeeper"
    assert "binary_tensor_data" in metadata["extensions"]


def a_model_describes_itself(doors):
    client = client_of(doors)
    assert client.is_model_ready("everything")
    assert client.is_model_ready("everything", "1")
    metadata = client.get_model_metadata("everything")
    assert {tensor["datatype"] for tensor in metadata["inputs"]} == set(ARRAYS)
    config = client.get_model_config("everything", "1")
    assert config["name"] == "everything"
    assert {"name": "bytes", "data_type": "TYPE_STRING", "dims": [-1]} in config["input"]


def every_datatype_goes_and_comes_binary(doors):
    result = client_of(doors).infer("everything", every_input(binary=True), request_id="seven")
    assert result.get_response()["id"] == "seven"
    for datatype, array in ARRAYS.items():
        same(datatype, result.as_numpy(datatype.lower()), array)
        assert "binary_data_size" in result.get_output(datatype.lower())["parameters"]


def json_and_binary_mix(doors):
    outputs = [http.InferRequestedOutput(name.lower(), binary_data=name == "FP64") for name in ("FP64", "INT8")]
    result = client_of(doors).infer("everything", every_input(binary=False), outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["fp64", "int8"]
    assert "data" in result.get_output("int8")
    for datatype in ("FP64", "INT8"):
        same(datatype, result.as_numpy(datatype.lower()), ARRAYS[datatype])


def text_becomes_embeddings_json_or_binary(doors):
    client = client_of(doors)
    embeddings = []
    for binary in (True, False):
        outputs = [http.InferRequestedOutput("embedding", binary_data=binary)]
        result = client.infer("minilm", texts("hello", "wörld", binary=binary), outputs=outputs)
        embeddings.append(result.as_numpy("embedding"))
    assert embeddings[0].shape == (2, 384)
    np.testing.assert_allclose(*embeddings, atol=1e-5)


def bodies_are_compressed_both_ways(doors):
    client = client_of(doors)
    numbers = np.zeros((100, 1000), np.float32)
    tensor = http.InferInput("fp32", list(numbers.shape), "FP32")
    tensor.set_data_from_numpy(numbers)
    for coding in ("gzip", "deflate"):
        result = client.infer(
            "numbers", [tensor], request_compression_algorithm=coding, response_compression_algorithm=coding
        )
        assert (result.as_numpy("fp32") == numbers).all()


def a_tensor_of_64_mb_comes_back(doors):
    numbers = np.arange(16 * 1024 * 1024, dtype=np.float32).reshape(4096, 4096)
    tensor = http.InferInput("fp32", list(numbers.shape), "FP32")
    tensor.set_data_from_numpy(numbers)
    assert (client_of(doors).infer("numbers", [tensor]).as_numpy("fp32") == numbers).all()


def calls_may_overlap(doors):
    client = client_of(doors)
    pending = [client.async_infer("minilm", texts(f"number {number}", binary=True)) for number in range(8)]
    assert all(call.get_result().as_numpy("embedding").shape == (1, 384) for call in pending)


def parameters_and_receipts_travel(doors):
    result = client_of(doors).infer("minilm", texts("hi", binary=True), parameters={"note": "x", "depth": 3})
    assert result.get_response()["parameters"]["receipt_id"]


def statistics_count_requests(doors):
    client = client_of(doors)
    client.infer("minilm", texts("hi", binary=True))
    stats = client.get_inference_statistics("minilm")["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] >= 1


def the_repository_wakes_and_lists(doors):
    client = client_of(doors)
    client.load_model("minilm")
    index = {model["name"]: model["state"] for model in client.get_model_repository_index()}
    assert index["minilm"] == "READY", index
    assert {"everything", "numbers"} <= set(index)
    client.unload_model("minilm")
    client.load_model("minilm")
    assert "no model 'other'" in refusal_of(lambda: client.load_model("other")).message()
    refused = refusal_of(lambda: client.load_model("minilm", config="{}"))
    assert "would change what is deployed" in refused.message()


def mistakes_are_named(doors):
    client = client_of(doors)
    wrong = http.InferInput("text", [1], "INT32")
    wrong.set_data_from_numpy(np.zeros(1, np.int32))
    assert "datatype must be BYTES" in refusal_of(lambda: client.infer("minilm", [wrong])).message()
    assert "no model 'other'" in refusal_of(lambda: client.infer("other", [wrong])).message()
    assert "no version '7'" in refusal_of(lambda: client.infer("minilm", [wrong], model_version="7")).message()


run(
    the_server_says_who_it_is,
    a_model_describes_itself,
    every_datatype_goes_and_comes_binary,
    json_and_binary_mix,
    text_becomes_embeddings_json_or_binary,
    bodies_are_compressed_both_ways,
    a_tensor_of_64_mb_comes_back,
    calls_may_overlap,
    parameters_and_receipts_travel,
    statistics_count_requests,
    the_repository_wakes_and_lists,
    mistakes_are_named,
)
