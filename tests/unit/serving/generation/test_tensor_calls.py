"""A language model in the Open Inference Protocol: texts as tensors over HTTP, and piece by piece over gRPC."""

import asyncio

import orjson
import pytest

from app.protocol.generated import open_inference_pb2 as pb
from tests.unit.serving.generation.conftest import Exchange
from tests.unit.serving.generation.test_openai_calls import HELLO, run
from tests.unit.serving.test_replica_grpc import Context


def infer(*prompts, parameters=None, **more):
    tensor = {"name": "prompt", "datatype": "BYTES", "shape": [len(prompts)], "data": list(prompts)}
    return {"inputs": [tensor], "parameters": parameters or {}} | more


def message(*prompts, name="coder", id="", **parameters):
    request = pb.ModelInferRequest(model_name=name, id=id)
    tensor = request.inputs.add(name="prompt", datatype="BYTES", shape=[len(prompts)])
    tensor.contents.bytes_contents.extend(prompts)
    for key, value in parameters.items():
        field = {int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(request.parameters[key], field, value)
    return request


async def stream(served, context, *messages):
    async def sent():
        for each in messages:
            yield each

    return [answer async for answer in served.replica.ModelStreamInfer(sent(), context)]


def text_of(response):
    outputs = {output.name: output.contents.bytes_contents[0].decode() for output in response.infer_response.outputs}
    return outputs["text"], outputs["finish_reason"]


def test_texts_are_generated_for_every_element_and_the_receipt_is_in_parameters_and_headers(serving):
    async def scenario():
        async with serving(HELLO) as served:
            answer = await served.request(
                "/infer", infer("say: ", "x", parameters={"max_tokens": 3, "seed": 1}, id="7")
            )
            await served.until_free()
            return answer, served.replica.counts

    answer, counts = run(scenario())
    told = orjson.loads(answer.body)
    outputs = {output["name"]: output["data"] for output in told["outputs"]}
    assert outputs == {"text": ["hel", "abc"], "finish_reason": ["length", "length"]}
    assert (told["id"], told["model_version"]) == ("7", "3")
    parameters = told["parameters"]
    assert (parameters["input_tokens"], parameters["output_tokens"]) == (6, 6)
    assert (parameters["energy_uj"], parameters["prefill_uj"], parameters["decode_uj"]) == (160, 100, 60)
    assert (parameters["load_share_uj"], parameters["warm_share_uj"]) == (7, 3)
    assert answer.headers["x-joulekeeper-energy_uj"] == "160"
    assert (counts.success.count, counts.fail.count) == (1, 0)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (infer("x", parameters={"temperature": 3}), 400, "temperature"),
        (infer("x", parameters={"temprature": 1}), 400, "temprature"),
        (infer("x", parameters={"max_tokens": "many"}), 400, "max_tokens"),
        (infer("x", parameters={"top_p": -0.5}), 400, "top_p"),
        (infer("x", parameters={"stop": ["a"] * 5}), 400, "stop"),
        (infer("x" * 64), 413, "context"),
        (infer(""), 400, "without tokens"),
        (infer(), 400, "1 to 128"),
        (b'{"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["\xff"]}]}', 400, "JSON"),
    ],
    ids=["high", "misspelt", "no number", "negative", "stops", "too long", "empty", "none", "not UTF-8"],
)
def test_what_cannot_be_is_refused_in_the_protocols_shape(serving, body, status, says):
    async def scenario():
        async with serving() as served:
            answer = await served.request("/infer", body)
            await served.until_free()
            return answer

    answer = run(scenario())
    assert (answer.status, says in orjson.loads(answer.body)["error"]) == (status, True), answer.body


def test_raw_bytes_that_are_no_text_are_refused(serving):
    async def scenario():
        async with serving() as served:
            raw = b"\xff\xfe"
            header = orjson.dumps(
                {"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1],
                             "parameters": {"binary_data_size": 4 + len(raw)}}]}
            )  # fmt: skip
            body = header + len(raw).to_bytes(4, "little") + raw
            return await served.request("/infer", body, [("inference-header-content-length", str(len(header)))])

    answer = run(scenario())
    assert answer.status == 400
    assert "prompt must be UTF-8" in orjson.loads(answer.body)["error"]


def test_metadata_says_what_it_takes_and_gives(serving):
    async def scenario():
        async with serving() as served:
            exchange = Exchange("", b"", method="GET")
            await served.replica.http(exchange.scope, exchange.receive, exchange.send)
            return exchange.answer()

    told = orjson.loads(run(scenario()).body)
    assert [tensor["name"] for tensor in told["inputs"]] == ["prompt"]
    assert [tensor["name"] for tensor in told["outputs"]] == ["text", "finish_reason"]


def test_a_call_over_grpc_is_answered_as_over_http(serving):
    async def scenario():
        async with serving(HELLO) as served:
            context = Context()
            response = await served.replica.ModelInfer(message(b"say: ", max_tokens=5), context)
            return response, context

    response, context = run(scenario())
    assert response.outputs[0].contents.bytes_contents[0] == b"hello"
    assert response.parameters["prefill_uj"].int64_param == 100
    assert ("x-joulekeeper-energy_uj", "150") in context.trailing


def test_a_stream_is_answered_by_a_message_for_each_piece_and_the_last_has_the_receipt(serving):
    async def scenario():
        async with serving(HELLO) as served:
            context = Context()
            answers = await stream(served, context, message(b"say: ", id="one", max_tokens=30))
            await served.until_free()
            return answers, context

    answers, context = run(scenario())
    *pieces, last = answers
    assert "".join(text_of(each)[0] for each in pieces) == "hello world"
    assert text_of(last) == ("", "stop")
    assert all(not each.infer_response.parameters["triton_final_response"].bool_param for each in pieces)
    told = last.infer_response.parameters
    assert told["triton_final_response"].bool_param
    assert (told["energy_uj"].int64_param, told["output_tokens"].int64_param) == (210, 11)
    assert ("x-joulekeeper-energy_uj", "210") in context.trailing


def test_requests_of_one_stream_run_together_and_what_fails_is_told_by_its_id(serving):
    async def scenario():
        async with serving(HELLO) as served:
            sent = [message(b"say: ", id="good", max_tokens=30), message(b"x", b"y", id="two"),
                    message(b"z" * 99, id="long"), message(b"x", name="other", id="other")]  # fmt: skip
            answers = await stream(served, Context(), *sent)
            await served.until_free()
            return answers

    by_id = {}
    for answer in run(scenario()):
        by_id.setdefault(answer.infer_response.id, []).append(answer)
    assert "".join(text_of(each)[0] for each in by_id["good"]) == "hello world"
    assert "one prompt a request" in by_id["two"][0].error_message
    assert "context" in by_id["long"][0].error_message
    assert "not served" in by_id["other"][0].error_message


def test_a_stream_that_its_client_ends_frees_all_its_places(serving):
    async def scenario():
        async with serving() as served:
            served.engine.hold()

            async def sent():
                yield message(b"x", max_tokens=50)
                yield message(b"y", max_tokens=50)
                await asyncio.sleep(60)

            answers = served.replica.ModelStreamInfer(sent(), Context())
            first = asyncio.ensure_future(anext(answers))
            await served.until(lambda: served.engine.load.running == 2)
            served.engine.release()
            await first
            await answers.aclose()
            await served.until_free()

    run(scenario())
