"""Every inference is a slice; loading is one too; the event loop stays free."""

import asyncio

import orjson
import pytest

from app.domain.account import request_account
from app.errors import InvalidInput, Unavailable
from app.protocol.messages import InferRequest
from app.protocol.tensors import bytes_array


def test_the_load_is_charged_from_before_the_runner_to_after_the_first_inference(served):
    assert served.client.log == [("begin", "load", "echo", "2"), ("end", "load", "echo", "2")]
    assert served.runner.calls == [("model_0", [b"warm up"])] * len(served.runner.calls)


def test_a_request_is_a_slice_of_its_tenant_with_the_runners_weight(served):
    del served.client.log[:]
    served.infer("a", "b", "c")
    account = request_account("acme", "echo", "2")
    assert served.client.log == [("begin", account, 3.0), ("end", account, 3.0)]


@pytest.mark.parametrize("text", ["break", "refuse"])
def test_the_slice_of_failed_work_is_ended_too(served, text):
    del served.client.log[:]
    served.infer(text)
    assert [entry[0] for entry in served.client.log] == ["begin", "end"]


def test_a_load_that_fails_is_charged_and_leaves_the_model_unready(unloaded):
    def broken(inputs):
        raise InvalidInput("no weights")

    unloaded.runner.run = broken
    with pytest.raises(InvalidInput, match="no weights"):
        asyncio.run(unloaded.replica.load())
    assert unloaded.client.log[-1] == ("end", "load", "echo", "2")
    with pytest.raises(Unavailable, match="echo@2 is not loaded"):
        unloaded.replica.check_health()


def test_a_waiting_request_is_not_yet_a_slice_and_health_is_answered_meanwhile(served):
    def body(text):
        return orjson.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]})

    async def two_requests():
        first = asyncio.create_task(served.acall("POST", "/infer", body("wait")))
        second = asyncio.create_task(served.acall("POST", "/infer", body("hi")))
        await served.until_running(b"wait")
        ready = await served.acall("GET", "/ready")
        begun = [entry[0] for entry in served.client.log]
        served.runner.release.set()
        return ready, begun, await first, await second

    del served.client.log[:]
    ready, begun, first, second = asyncio.run(two_requests())
    assert ready.status == first.status == second.status == 200
    assert begun == ["begin"]
    assert [entry[0] for entry in served.client.log] == ["begin", "end", "begin", "end"]


def test_a_request_given_up_while_it_waits_is_never_run(served):
    async def cancelled():
        first = asyncio.create_task(served.replica.model.answer(lambda: request(b"wait"), str))
        second = asyncio.create_task(served.replica.model.answer(lambda: request(b"hi"), str))
        await served.until_running(b"wait")
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        served.runner.release.set()
        await first

    asyncio.run(cancelled())
    assert ("model_0", [b"hi"]) not in served.runner.calls


def request(text):
    return InferRequest("", {"text": bytes_array([text], (1,))})


def test_closing_leaves_the_books_and_stops_answering(served):
    served.replica.model.close()
    assert served.client.log[-1] == ("close",)
    assert served.infer("hi").status == 503
