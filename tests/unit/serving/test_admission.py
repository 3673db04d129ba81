"""The doors of a model with access required: who is served, who is charged, and that no body of a stranger is read."""

import asyncio
import math

import grpc
import pytest

from app.access.gate import Gate
from app.access.keys import digest_of_key, new_key
from app.access.rules import Quotas
from app.access.snapshot import AccessSnapshot, KeyGrant, PollAnswer
from app.clock import ManualClock
from app.domain.account import request_account
from app.engine.phases import PhaseWork
from app.engine.slices import SliceEnergy
from app.metering.client import WorkClient
from app.protocol.generated import open_inference_pb2 as pb
from app.serving.args import ModelArgs
from app.serving.replica import ModelReplica
from tests.unit.serving.conftest import Echo, FakeClient, Served
from tests.unit.serving.test_replica_grpc import Context, request


class Guarded:
    def __init__(self) -> None:
        self.gate = Gate.required(ManualClock())
        self.keys, grants = {}, {}
        for name, scope in (("good", "infer:echo"), ("other", "infer:another")):
            key_id, self.keys[name] = new_key()
            grants[key_id] = KeyGrant(digest_of_key(self.keys[name]), "rival", frozenset({scope}), math.inf)
        quotas = {"rival": Quotas(tokens_per_min=60, joules_per_day=1)}
        client, runner = FakeClient(told=SliceEnergy(1_000_000, 3.0, "modelled", True)), Echo()
        args = ModelArgs(name="echo", source="package:echo", version="2", tenant="acme", max_body_bytes=400)
        replica = ModelReplica(
            args, open_client=lambda _: client, load_runner=lambda _: runner, open_gate=lambda *_: self.gate
        )
        self.served = Served(replica, runner, client).load()
        self.gate.renew(PollAnswer(AccessSnapshot("one", grants, (), quotas)))

    def call(self, method: str, path: str, key: str = "", **more):
        headers = [("x-api-key", self.keys[key])] if key else []
        return self.served.call(method, path, headers=headers, **more)

    def wants(self):
        return self.gate.poll("g").wants["rival"]


BODY = b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": ["a", "b", "c"]}]}'


@pytest.fixture
def guarded():
    guarded = Guarded()
    yield guarded
    guarded.served.replica.model.close()


@pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats", "/infer", "/nothing", "/versions/2/infer"])
def test_every_path_takes_a_key_for_this_model(guarded, path):
    method = "POST" if path.endswith("infer") else "GET"
    stranger = guarded.call(method, path)
    assert stranger.status == 401
    assert stranger.headers["www-authenticate"] == 'Bearer realm="joulekeeper"'
    assert guarded.call(method, path, "other").status == 403
    assert guarded.call(method, path, "good", body=BODY).status in (200, 404)


def test_no_byte_of_a_strangers_body_is_read(guarded):
    async def never():
        raise AssertionError("read")

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/infer", "headers": [], "query_string": b""}
    asyncio.run(guarded.served.replica.http(scope, never, send))
    assert sent[0]["status"] == 401


def test_the_tenant_of_the_key_is_charged_with_tokens_and_energy(guarded):
    assert guarded.call("POST", "/infer", "good", body=BODY).status == 200
    account = request_account("rival", "echo", "2")
    assert ("begin", account, 3.0) in guarded.served.client.log
    assert guarded.wants().tokens == pytest.approx(3 + 3)  # what it wants again, and what it owes
    guarded.gate.renew(PollAnswer(None, {"rival": _lease(energy_uj=999_999.0)}))
    refused = guarded.call("POST", "/infer", "good", body=BODY)
    assert (refused.status, refused.headers["retry-after"]) == (429, "2")


def test_work_that_is_told_when_it_is_over_counts_too(guarded):
    """3 units of a request, a batch of 5 and 2, then a step in which a request read 7 tokens and made 1, and made 1:
    what is wanted again, and what is owed."""
    guarded.call("POST", "/infer", "good", body=BODY)
    guarded.wants()
    account, other = request_account("rival", "echo", "2"), request_account("acme", "echo", "2")
    client = guarded.served.replica.admission.counted(WorkClient(None))
    client.record([(account, 5.0), (other, 2.0)], 0, 1)
    assert guarded.wants().tokens == pytest.approx(5 + 8)
    work = client.begin_phases(account)
    client.record_steps(1, 2, [PhaseWork(work, 1.0, 0.0, 7, 1), PhaseWork(work, 0.0, 1.0, 0, 1)], 0.0)
    assert guarded.wants().tokens == pytest.approx(9 + 17)
    assert work.tokens == 2


def _lease(energy_uj: float):
    from app.access.snapshot import Lease

    return Lease(0.0, 60.0, 1, energy_uj)


def test_grpc_says_the_same_in_its_own_words(guarded):
    calls = {
        "ModelInfer": request(b"a"),
        "ModelReady": pb.ModelReadyRequest(name="echo"),
        "ModelMetadata": pb.ModelMetadataRequest(name="echo"),
        "ModelConfig": pb.ModelConfigRequest(name="echo"),
        "ModelStatistics": pb.ModelStatisticsRequest(name="echo"),
        "ServerMetadata": pb.ServerMetadataRequest(),
    }
    for method, message in calls.items():
        for key, code in (("", "UNAUTHENTICATED"), ("other", "PERMISSION_DENIED"), ("good", None)):
            metadata = [("authorization", f"Bearer {guarded.keys[key]}")] if key else []
            context = Context(*metadata)
            asyncio.run(getattr(guarded.served.replica, method)(message, context))
            assert context.code == (grpc.StatusCode[code] if code else None), (method, key)


def test_a_stream_of_a_stranger_ends_with_his_status(guarded):
    async def messages():
        yield request(b"a")

    async def drain(context):
        return [answer async for answer in guarded.served.replica.ModelStreamInfer(messages(), context)]

    context = Context()
    (refusal,) = asyncio.run(drain(context))
    assert "key" in refusal.error_message
    assert not refusal.infer_response.outputs
    assert context.code is grpc.StatusCode.UNAUTHENTICATED
    (answer,) = asyncio.run(drain(Context(("x-api-key", guarded.keys["good"]))))
    assert answer.error_message == ""


def test_before_the_accountant_was_heard_nobody_is_served(guarded):
    guarded.served.replica.admission._gate = Gate.required(ManualClock())
    answer = guarded.call("GET", "", "good")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
