"""Waiting for a settled receipt: how it is asked for, what is refused, and that nobody else waits with it."""

import asyncio

import orjson
import pytest

from app.engine.slices import SliceEnergy
from app.errors import InvalidInput
from app.serving import settling
from app.serving.settling import settle_of_metadata, settle_of_query
from tests.unit.serving.test_replica_grpc import infer as call
from tests.unit.serving.test_replica_grpc import request

BODY = orjson.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hi"]}]})
SETTLED = SliceEnergy(energy_uj=12, carbon_ugco2e=3, grade="modelled", provisional=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(settling, "_POLL_S", 0.001)


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        (b"", 0),
        (b"other=1", 0),
        (b"settle=false", 0),
        (b"settle=false&settle_timeout_s=5", 0),
        (b"settle_timeout_s=5", 0),
        (b"settle=true", 10),
        (b"settle=TRUE", 10),
        (b"settle=1&settle_timeout_s=2.5", 2.5),
        (b"settle_timeout_s=60&settle=true", 60),
    ],
)
def test_a_query_says_how_long_to_wait(query, seconds):
    assert settle_of_query(query) == seconds


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"settle=yes", "settle must be true or false, got 'yes'"),
        (b"settle", "settle must be true or false, got ''"),
        (b"settle=true&settle_timeout_s=0", "settle_timeout_s must be seconds > 0 and <= 60, got '0'"),
        (b"settle=true&settle_timeout_s=-1", "got '-1'"),
        (b"settle=true&settle_timeout_s=61", "got '61'"),
        (b"settle=true&settle_timeout_s=nan", "got 'nan'"),
        (b"settle=true&settle_timeout_s=inf", "got 'inf'"),
        (b"settle=true&settle_timeout_s=soon", "got 'soon'"),
        (b"settle=true&settle_timeout_s=", "got ''"),
    ],
)
def test_what_cannot_be_read_is_the_callers_fault_and_is_not_charged(served, query, says):
    before = len(served.client.log)
    response = served.call("POST", f"/infer?{query.decode()}", BODY)
    assert response.status == 400
    assert says in orjson.loads(response.body)["error"]
    assert len(served.client.log) == before


def test_metadata_say_how_long_to_wait():
    assert settle_of_metadata([("application", "minilm")]) == 0
    assert settle_of_metadata([("x-joulekeeper-settle", "true")]) == 10
    assert settle_of_metadata([("x-joulekeeper-settle-timeout-s", "3"), ("x-joulekeeper-settle", "true")]) == 3
    with pytest.raises(InvalidInput, match="x-joulekeeper-settle must be true or false, got b'true'"):
        settle_of_metadata([("x-joulekeeper-settle", b"true")])


def test_over_grpc_bad_metadata_are_an_invalid_argument(served):
    _, context = call(served, request(b"hi"), ("x-joulekeeper-settle", "maybe"))
    assert (context.code.name, "must be true or false" in context.details) == ("INVALID_ARGUMENT", True)


def test_the_answer_waits_until_the_receipt_is_settled(served):
    served.client.told, served.client.settles_after = SETTLED, 3
    response = served.call("POST", "/infer?settle=true", BODY)
    assert orjson.loads(response.body)["parameters"]["provisional"] is False
    assert [slice_.looks for slice_ in served.client.slices[-1:]] == [4]


def test_over_grpc_too(served):
    served.client.told, served.client.settles_after = SETTLED, 3
    response, _ = call(served, request(b"hi"), ("x-joulekeeper-settle", "true"))
    assert response.parameters["provisional"].bool_param is False
    assert served.client.slices[-1].looks == 4


def test_after_the_bound_the_provisional_receipt_is_told(served):
    served.client.told = SETTLED._replace(provisional=True)
    response = served.call("POST", "/infer?settle=true&settle_timeout_s=0.01", BODY)
    assert response.status == 200
    assert orjson.loads(response.body)["parameters"]["provisional"] is True


def test_without_metering_nobody_waits(served):
    served.client.receipt_id = ""
    response = served.call("POST", "/infer?settle=true&settle_timeout_s=60", BODY)
    assert response.status == 200
    assert served.client.slices[-1].looks == 0


def test_others_are_answered_while_one_waits(served):
    async def two_requests():
        waiting = asyncio.create_task(served.acall("POST", "/infer?settle=true&settle_timeout_s=30", BODY))
        while not (served.client.slices and served.client.slices[-1].looks):
            await asyncio.sleep(0)
        held = served.client.slices[-1]
        answer = await served.acall("POST", "/infer", BODY)
        still_waits = not waiting.done()
        held.settles_after = 0
        return answer.status, still_waits, (await waiting).status

    del served.client.slices[:]
    assert asyncio.run(two_requests()) == (200, True, 200)
