"""At once on the loop, on the thread, joined or from what is kept: the same answers, the right work on the books."""

import asyncio
import threading

import numpy as np
import pytest
from pydantic import ValidationError

from app.domain.account import request_account
from app.engine.slices import SliceEnergy
from app.errors import InvalidInput, JoulekeeperError
from app.protocol.messages import InferRequest
from app.protocol.tensors import bytes_array
from app.serving.args import Batching, Caching
from app.serving.lane import LONG_NS
from app.serving.receipts import as_metadata

LOOP = threading.main_thread().name
ACCOUNT = request_account("acme", "echo", "2")
BIG = 1_000_000


def decode(*texts, outputs=()):
    return lambda: InferRequest("7", {"text": bytes_array([*texts], (len(texts),))}, outputs)


def texts(response):
    return response.outputs["text"].tolist()


def ask(served, *items, **options):
    return served.replica.model.answer(decode(*items), lambda response: response, **options)


def answer(served, *items, **options):
    """The response and its receipt."""
    return asyncio.run(ask(served, *items, **options))[:2]


@pytest.fixture
def quick(unloaded):
    """Its work takes microseconds."""
    served = unloaded.load()
    del served.runner.calls[:], served.client.log[:]
    return served


def with_args(unloaded, work_ns=LONG_NS, **changes):
    unloaded.runner.batch = True
    unloaded.replica.model.args = unloaded.replica.model.args.model_copy(update=changes)
    unloaded.load().replica.model.lane.begin_at(work_ns)
    del unloaded.runner.calls[:], unloaded.client.log[:]
    return unloaded


def test_short_work_is_done_on_the_loop(quick):
    response, _ = answer(quick, b"a")
    assert (response.id, texts(response)) == ("7", [b"a"])
    assert quick.runner.calls == [(LOOP, [b"a"])]
    assert quick.client.log == [("begin", ACCOUNT, 1.0), ("end", ACCOUNT, 1.0)]


def test_a_large_request_is_not_read_on_the_loop(quick):
    answer(quick, b"a", size_bytes=BIG)
    assert quick.runner.calls == [("model_0", [b"a"])]


def test_short_work_waits_for_long_work_that_has_begun(quick):
    async def scenario():
        first = asyncio.create_task(ask(quick, b"wait", size_bytes=BIG))
        await quick.until_running(b"wait")
        second = asyncio.create_task(ask(quick, b"a"))
        await asyncio.sleep(0)
        quick.runner.release.set()
        await asyncio.gather(first, second)

    asyncio.run(scenario())
    assert quick.runner.calls == [("model_0", [b"wait"]), ("model_0", [b"a"])]


def test_a_fault_on_the_loop_leaves_the_model_free_for_the_next(quick):
    with pytest.raises(JoulekeeperError, match="ZeroDivisionError"):
        answer(quick, b"break")
    with pytest.raises(InvalidInput, match="refused"):
        answer(quick, b"refuse")
    assert texts(answer(quick, b"a")[0]) == [b"a"]
    assert {name for name, _ in quick.runner.calls} == {LOOP}


def test_a_tenant_is_charged_by_its_own_account(quick):
    answer(quick, b"a", tenant="bob")
    assert {entry[1] for entry in quick.client.log} == {request_account("bob", "echo", "2")}


def test_without_being_asked_requests_to_a_slow_model_are_joined_if_its_runner_allows(unloaded):
    served = with_args(unloaded)

    async def scenario():
        first = asyncio.create_task(ask(served, b"wait"))
        await served.until_running(b"wait")
        rest = [asyncio.create_task(ask(served, text, tenant="bob")) for text in (b"a", b"b", b"refuse")]
        await asyncio.sleep(0)
        served.runner.release.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    first, one, other, refused = asyncio.run(scenario())
    assert [texts(each[0]) for each in (first, one, other)] == [[b"wait"], [b"a"], [b"b"]]
    assert isinstance(refused, InvalidInput)
    assert ("model_0", [b"a", b"b", b"refuse"]) in served.runner.calls
    assert served.replica.counts.executions == 1 + 1 + 3  # alone, together, and one after the other as that failed
    assert [entry[0] for entry in served.client.log] == ["begin", "end", *["begin"] * 3, *["end"] * 3]


def test_without_being_asked_short_work_is_not_joined(unloaded):
    served = with_args(unloaded, work_ns=1)
    answer(served, b"a")
    assert served.runner.calls == [(LOOP, [b"a"])]


def test_asked_for_short_work_is_joined_too(unloaded):
    served = with_args(unloaded, work_ns=1, batching=Batching())

    async def both():
        await asyncio.gather(ask(served, b"a"), ask(served, b"b"))

    asyncio.run(both())
    assert served.runner.calls == [("model_0", [b"a", b"b"])]


def test_batching_asked_for_a_runner_that_cannot_be_joined_is_refused(unloaded):
    args = unloaded.replica.model.args.model_copy(update={"batching": Batching()})
    unloaded.replica.model.args = args
    with pytest.raises(InvalidInput, match="echo cannot be joined"):
        unloaded.load()


def test_a_wait_beside_an_objective_is_one_decision_too_many():
    with pytest.raises(ValidationError, match="max_wait_ms is the governor's to find"):
        Batching(objective_p95_ms=50, max_wait_ms=2)


def test_with_an_objective_a_governor_sets_the_limits_and_learns_from_live_batches(unloaded):
    unloaded.client.told = SliceEnergy(500, 0.0, "modelled", True)
    served = with_args(unloaded, batching=Batching(max_rows=4, objective_p95_ms=50))

    async def rounds():
        for _ in range(60):
            await asyncio.gather(*[ask(served, bytes([65 + number])) for number in range(4)])

    asyncio.run(rounds())
    assert {len(call) for _, call in served.runner.calls} <= {1, 2, 3, 4}
    assert served.runner.calls[0] == ("model_0", [b"A", b"B", b"C", b"D"])


def test_the_runners_own_bound_on_rows_holds(unloaded):
    served = with_args(unloaded, batching=Batching(max_rows=100))
    items = [bytes([65 + number]) for number in range(12)]

    async def all_at_once():
        await asyncio.gather(*[ask(served, item) for item in items])

    asyncio.run(all_at_once())
    assert [len(call) for _, call in served.runner.calls] == [8, 4]


def test_an_answer_that_is_kept_is_given_again_and_says_what_it_saved(unloaded):
    unloaded.client.told = SliceEnergy(500, 0.0, "modelled", True)
    served = with_args(unloaded, cache=Caching())
    first, first_receipt = answer(served, b"a")
    unloaded.client.told = SliceEnergy(20, 0.0, "modelled", True)
    again, receipt = answer(served, b"a")
    assert (texts(again), again.id) == (texts(first), "7")
    assert len(served.runner.calls) == 1
    assert "cache" not in first.parameters
    assert {again.parameters[name] for name in ("cache", "saved_uj", "energy_uj")} == {"hit", 480, 20}
    assert {("x-joulekeeper-cache", "hit"), ("x-joulekeeper-saved_uj", "480")} <= set(as_metadata(receipt))
    assert "cache" not in first_receipt
    assert [entry[0] for entry in served.client.log] == ["begin", "end", "begin", "end"]
    counts = served.replica.counts
    assert (counts.saved_uj, counts.computing_uj, counts.executions) == (480, 500, 1)
    assert (counts.cache_hit.count, counts.cache_miss.count) == (1, 1)


def test_what_a_hit_saved_is_told_by_the_settled_figure_once_there_is_one(unloaded):
    unloaded.client.told = SliceEnergy(500, 0.0, "modelled", True)
    served = with_args(unloaded, cache=Caching())
    answer(served, b"a")
    served.client.slices[-1].told = SliceEnergy(900, 0.0, "counter", False)
    assert answer(served, b"a")[0].parameters["saved_uj"] == 400


def test_tenants_do_not_see_each_others_answers_and_faults_are_not_kept(unloaded):
    served = with_args(unloaded, cache=Caching())
    for tenant in ("acme", "bob"):
        answer(served, b"a", tenant=tenant)
    for _ in range(2):
        with pytest.raises(InvalidInput):
            answer(served, b"refuse")
    assert [call for _, call in served.runner.calls] == [[b"a"], [b"a"], [b"refuse"], [b"refuse"]]


def test_settling_waits_without_keeping_the_model(quick):
    quick.client.settles_after = 3

    async def scenario():
        waiting = asyncio.create_task(ask(quick, b"a", settle_s=10.0))
        await asyncio.sleep(0)
        other = (await ask(quick, b"b")).encoded
        return other, (await waiting).encoded

    other, settled = asyncio.run(scenario())
    assert (texts(other), texts(settled)) == ([b"b"], [b"a"])
    assert quick.client.slices[-2].looks > 3


def test_large_outputs_are_encoded_beside_the_loop(unloaded):
    unloaded.runner.run = lambda inputs: {"text": inputs["text"], "length": np.zeros(100_000, np.int64)}
    served = with_args(unloaded, cache=Caching())
    threads = []

    def encode(response):
        threads.append(threading.current_thread().name)
        return response

    asyncio.run(served.replica.model.answer(decode(b"a"), encode))
    asyncio.run(served.replica.model.answer(decode(b"a", outputs=("text",)), encode))
    assert threads == ["codec_0", LOOP]
