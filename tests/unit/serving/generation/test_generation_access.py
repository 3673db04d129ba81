"""Who may ask a language model, and what his quota of tokens allows: decided before a body is read, charged after."""

import asyncio
import math

import grpc
import orjson
import pytest

from app.access.gate import Gate
from app.access.keys import digest_of_key, new_key
from app.access.rules import Quotas
from app.access.snapshot import AccessSnapshot, KeyGrant, PollAnswer
from app.clock import ManualClock
from tests.unit.serving.generation.conftest import Exchange
from tests.unit.serving.generation.test_openai_calls import COMPLETION, run
from tests.unit.serving.generation.test_tensor_calls import message, stream
from tests.unit.serving.test_replica_grpc import Context


class House:
    """A gate with one key for the model and one for another."""

    def __init__(self, **quotas):
        self.gate, self.keys, grants = Gate.required(ManualClock()), {}, {}
        for name, scope in (("good", "infer:coder"), ("other", "infer:another")):
            key_id, self.keys[name] = new_key()
            grants[key_id] = KeyGrant(digest_of_key(self.keys[name]), "rival", frozenset({scope}), math.inf)
        self.gate.renew(PollAnswer(AccessSnapshot("one", grants, (), {"rival": Quotas(**quotas)})))

    def headers(self, name):
        return [("authorization", f"Bearer {self.keys[name]}")] if name else []

    def wanted_tokens(self):
        return self.gate.poll("g").wants["rival"].tokens


@pytest.mark.parametrize(
    ("key", "status", "code"), [("", 401, "invalid_api_key"), ("other", 403, "insufficient_permissions")]
)
def test_no_byte_of_a_strangers_body_is_read_and_he_is_told_in_openais_shape(serving, key, status, code):
    house = House(tokens_per_min=600)

    async def never():
        raise AssertionError("the body of a stranger was read")

    async def scenario():
        async with serving(open_gate=lambda *_: house.gate) as served:
            exchange = Exchange("/v1/completions", COMPLETION, house.headers(key))
            await served.replica.http(exchange.scope, never, exchange.send)
            return exchange.answer()

    answer = run(scenario())
    assert (answer.status, orjson.loads(answer.body)["error"]["code"]) == (status, code)


def test_prompt_and_answer_count_as_tokens_and_a_tenant_in_debt_waits(serving):
    house = House(tokens_per_min=600)  # the credit of a newcomer: two seconds, 20 tokens

    async def scenario():
        async with serving(open_gate=lambda *_: house.gate) as served:
            body, headers = COMPLETION | {"max_tokens": 30}, house.headers("good")
            first = await served.request("/v1/completions", body, headers)
            await served.until_free()
            wanted = house.wanted_tokens()
            refused = await served.request("/v1/completions", body, headers)
            over_grpc = Context(*house.headers("good"))
            await served.replica.ModelInfer(message(b"x"), over_grpc)
            streamed = await stream(served, Context(*house.headers("good")), message(b"x"))
            return first, wanted, refused, over_grpc, streamed

    first, wanted, refused, over_grpc, streamed = run(scenario())
    assert first.status == 200
    # 5 of the prompt, 30 of the answer: asked for once, and owed
    assert wanted == pytest.approx(70)
    error = orjson.loads(refused.body)["error"]
    assert (refused.status, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert over_grpc.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "tokens a minute" in streamed[0].error_message


def test_energy_counts_against_the_day_also_of_a_request_whose_client_left(serving):
    house = House(joules_per_day=1)
    charged = []
    house.gate.charge = lambda tenant, energy_uj, carbon, tokens=0.0: charged.append((tenant, energy_uj, tokens))

    async def scenario():
        async with serving(open_gate=lambda *_: house.gate) as served:
            await served.request("/v1/completions", COMPLETION | {"max_tokens": 4}, house.headers("good"))
            served.engine.hold()
            exchange = Exchange("/v1/completions", COMPLETION | {"stream": True}, house.headers("good"))
            task = asyncio.ensure_future(served.replica.http(exchange.scope, exchange.receive, exchange.send))
            await served.until(lambda: served.engine.load.running == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            served.engine.release()
            await served.until_free()

    run(scenario())
    energies = [energy_uj for _, energy_uj, _ in charged if energy_uj]
    assert energies[0] == 140
    assert energies[1] >= 100
    assert len(energies) == 2
    assert {tenant for tenant, _, _ in charged} == {"rival"}
