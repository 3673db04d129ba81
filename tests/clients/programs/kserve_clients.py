"""KServe's Python clients, REST and gRPC, used as its documentation shows."""

import asyncio

import numpy as np
from checks import Doors, run
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tensors import ARRAYS, same

# Its REST client turns BYTES of an answer into text whatever they are.
ARRAYS["BYTES"] = np.array([b"", "wörld".encode()], dtype=object)


def over_rest(doors: Doors, work):
    """The result of `work(client, base_url)`."""

    async def asked():
        client = InferenceRESTClient(RESTConfig(protocol="v2", verify=doors.ca or True, timeout=120))
        return await work(client, f"{'https' if doors.ca else 'http'}://{doors.http}")

    return asyncio.run(asked())


def over_grpc(doors: Doors, work):
    """The result of `work(client)`."""

    async def asked():
        tls = {"use_ssl": True, "root_certificates": doors.ca} if doors.ca else {}
        async with InferenceGRPCClient(doors.grpc, timeout=120, **tls) as client:
            return await work(client)

    return asyncio.run(asked())


def every_input(binary):
    inputs = []
    for datatype, array in ARRAYS.items():
        if datatype == "BF16":
            # The client knows no BF16 in numpy; its raw bytes are the upper halves of FP32.
            raw = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
            size = {"binary_data_size": len(raw)}
            tensor = InferInput("bf16", list(array.shape), datatype, parameters=size)
            tensor._raw_data = raw
        else:
            tensor = InferInput(datatype.lower(), list(array.shape), datatype)
            tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    # Nor can it read an answer in halves over gRPC.
    wanted = [
        RequestedOutput(each.lower(), parameters={"binary_data": True})
        for each in ARRAYS
        if each not in ("FP16", "BF16")
    ]
    return InferRequest(model_name="everything", infer_inputs=inputs, request_id="7", request_outputs=wanted)


def check_every_output(response):
    assert response.id == "7"
    for output in response.outputs:
        datatype = output.name.upper()
        if datatype == "BYTES":
            found = [item if isinstance(item, bytes) else item.encode() for item in output.as_numpy().tolist()]
            assert found == ARRAYS["BYTES"].tolist()
        else:
            same(datatype, output.as_numpy(), ARRAYS[datatype])


def rest_servers_and_models_are_ready(doors):
    async def work(client, base_url):
        assert await client.is_server_live(base_url)
        assert await client.is_server_ready(base_url)
        assert await client.is_model_ready(base_url, "everything")

    over_rest(doors, work)


def rest_every_datatype_binary(doors):
    asked = every_input(binary=True)
    check_every_output(over_rest(doors, lambda client, url: client.infer(url, asked, model_name="everything")))


def rest_text_becomes_embeddings(doors):
    tensor = InferInput("text", [2], "BYTES", data=["hello", "world"])
    asked = InferRequest(model_name="minilm", infer_inputs=[tensor])
    response = over_rest(doors, lambda client, url: client.infer(url, asked, model_name="minilm"))
    assert response.outputs[0].as_numpy().shape == (2, 384)


def grpc_servers_and_models_are_ready(doors):
    async def work(client):
        console, model = (tuple(doors.metadata(name).items()) for name in ("console", "everything"))
        assert await client.is_server_live(headers=console)
        assert await client.is_server_ready(headers=console)
        assert await client.is_model_ready("everything", headers=model)

    over_grpc(doors, work)


def grpc_every_datatype(doors):
    asked, headers = every_input(binary=True), tuple(doors.metadata("everything").items())
    check_every_output(over_grpc(doors, lambda client: client.infer(asked, headers=headers)))


run(
    rest_servers_and_models_are_ready,
    rest_every_datatype_binary,
    rest_text_becomes_embeddings,
    grpc_servers_and_models_are_ready,
    grpc_every_datatype,
)
