"""A replica with the real engine, a tiny model and the real books: what clients get, and that nothing stays behind."""

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from app.metering.client import WorkClient
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.loading import options_of
from app.serving.generation.replica import GeneratorReplica
from tests.fixtures.language_model import card, write_language_model
from tests.unit.serving.generation.conftest import Exchange, Served, events_of

BASE = {"model": "coder", "temperature": 0}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    directory = Path(tmp_path_factory.mktemp("model"))
    write_language_model(directory)
    return directory


def serving(directory, scenario, **args):
    """What `scenario(served)` returns, of a replica that is loaded and closed around it."""
    from app.models.generation.load import open_generator

    def load(parsed, listener):
        return open_generator(directory, card(), listener, options=options_of(parsed))

    async def run():
        parsed = GeneratorArgs(name="coder", source="repository:coder@1", version="1", **args)
        replica = GeneratorReplica(parsed, open_client=lambda _: WorkClient(None), load=load)
        await replica.load()
        try:
            return await asyncio.wait_for(scenario(Served(replica, SimpleNamespace(begun=[]))), 240)
        finally:
            replica.model.close()

    return asyncio.run(run())


def post(served, call, **body):
    return served.request(f"/v1/{call}", BASE | body)


def test_whole_streamed_and_beside_others_the_same_request_has_the_same_text(directory):
    async def scenario(served):
        prompts = [f"def f{number}(self" for number in range(6)]
        alone = [await post(served, "completions", prompt=prompt, max_tokens=20) for prompt in prompts]
        together = await asyncio.gather(
            *(post(served, "completions", prompt=prompt, max_tokens=20, stream=True) for prompt in prompts)
        )
        await served.until_free()
        return alone, together

    alone, together = serving(directory, scenario, max_sequences=4)
    for whole, streamed in zip(alone, together, strict=True):
        *chunks, done = events_of(streamed.body)
        text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
        assert (text, done) == (orjson.loads(whole.body)["choices"][0]["text"], "[DONE]")


def test_a_seed_repeats_and_choices_differ(directory):
    async def scenario(served):
        body = {
            "messages": [{"role": "user", "content": "sort"}],
            "seed": 7,
            "n": 3,
            "temperature": 1,
            "max_tokens": 12,
        }
        answers = [orjson.loads((await post(served, "chat/completions", **body)).body) for _ in range(2)]
        return [[choice["message"]["content"] for choice in answer["choices"]] for answer in answers]

    first, again = serving(directory, scenario)
    assert first == again
    assert len(set(first)) == 3


def test_probabilities_spell_the_text_and_stops_are_not_part_of_it(directory):
    async def scenario(served):
        plain = await post(served, "completions", prompt="def ", max_tokens=24)
        text = orjson.loads(plain.body)["choices"][0]["text"]
        stop = text[len(text) // 2 : len(text) // 2 + 2]
        cut = await post(served, "completions", prompt="def ", max_tokens=24, stop=[stop])
        spelled = await post(served, "completions", prompt="def ", max_tokens=8, logprobs=2)
        await served.until_free()
        return text, stop, orjson.loads(cut.body)["choices"][0], orjson.loads(spelled.body)["choices"][0]

    text, stop, cut, spelled = serving(directory, scenario)
    assert (cut["text"], cut["finish_reason"]) == (text[: text.index(stop)], "stop")
    told = spelled["logprobs"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == 8
    assert all(logprob <= 0 for logprob in told["token_logprobs"])
    # greedy: the token is the likeliest of those beside it
    for token, logprob, top in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True):
        assert top[token] == pytest.approx(logprob)
        assert logprob == pytest.approx(max(top.values()))


def test_embeddings_are_of_length_one_and_of_the_same_text_the_same(directory):
    async def scenario(served):
        generating = [post(served, "completions", prompt="def ", max_tokens=40) for _ in range(3)]
        answer = await post(served, "embeddings", input=["self import", "range", "self import"])
        await asyncio.gather(*generating)
        return orjson.loads(answer.body)

    first, other, again = [each["embedding"] for each in serving(directory, scenario)["data"]]
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-4)
    assert first == pytest.approx(again, abs=1e-5)
    assert first != pytest.approx(other, abs=1e-2)


def test_hundreds_of_requests_that_are_answered_refused_and_left_leave_the_engine_empty(directory):
    chance = random.Random(3)

    async def cycle(served):
        prompt = chance.choice(["def ", "x" * 500, "class self:", ""])
        exchange = Exchange("/v1/completions", BASE | {"prompt": prompt, "stream": chance.random() < 0.7, "n": 2})
        task = asyncio.ensure_future(served.replica.http(exchange.scope, exchange.receive, exchange.send))
        if chance.random() < 0.6:
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def scenario(served):
        for _ in range(30):
            await asyncio.gather(*(cycle(served) for _ in range(10)))
        await served.until_free()
        last = await post(served, "completions", prompt="def ", max_tokens=4)
        return last.status, served.engine.load.free_cache_share, len(served.parts.books._works)

    status, free, works = serving(directory, scenario, max_sequences=3, max_queued=6)
    assert (status, works) == (200, 0)
    assert free == 1.0
