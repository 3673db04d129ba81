"""The governor in a replica: it is told what ran, and the engine obeys it."""

import asyncio

import pytest
from pydantic import ValidationError

from app.domain.generation import Step, Work
from app.policy.concurrency import Explanation
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.governing import Governing, open_governing
from tests.unit.serving.generation.test_openai_calls import COMPLETION, run

MS = 1_000_000


class ScriptedGovernor:
    """Takes what it is told, and wants what the test wants."""

    def __init__(self):
        self.seen, self.wanted = [], 4

    def limit(self):
        return self.wanted

    def observe(self, seen):
        self.seen.append(seen)
        self.wanted = 8

    def explain(self):
        return Explanation(self.wanted, "scripted", (), None)


class Clock:
    def monotonic_ns(self):
        return 0


def step(start_ms, *prompt_ids):
    works = tuple(Work(prompt_id, 0, 1, 3, 0) for prompt_id in prompt_ids)
    return Step(start_ms * MS, (start_ms + 50) * MS, works)


def test_the_governor_hears_of_steps_tokens_and_energy_and_its_limit_is_in_force():
    governor, limits = ScriptedGovernor(), []
    governing = Governing(governor, limits.append, lambda: 7, Clock())
    assert limits == [4]
    governing.asked("a")
    governing.asked("b")
    for number in range(5):
        governing.stepped(step(1000 + 50 * number, "a", "b"), expected_uj=100.0 * number)
        governing.tokens("a", 1)
        governing.tokens("b", 1)
    (seen,) = governor.seen
    # told before the fifth step: four steps of two sequences, and what was expected until then
    assert (seen.tokens, seen.sequences, seen.waiting, seen.energy_uj) == (8, 2.0, 7, 400)
    assert seen.first_tokens_s == (1.05, 1.05)
    assert limits == [4, 8]
    governing.ended("a")
    assert governing.explain().limit == 8


def test_without_an_objective_nobody_governs_and_one_without_the_other_is_a_fault():
    plain = GeneratorArgs(name="m", source="repository:m")
    assert open_governing(plain, lambda _: None, lambda: 0) is None
    with pytest.raises(ValidationError, match="needs inter_token_p90_ms"):
        GeneratorArgs(name="m", source="repository:m", ttft_p95_ms=10)


def test_a_governed_replica_begins_within_its_bound_and_serves(serving):
    async def scenario():
        async with serving(max_sequences=8, inter_token_p90_ms=50, ttft_p95_ms=1000) as served:
            answers = await asyncio.gather(
                *(served.request("/v1/completions", COMPLETION | {"max_tokens": 9}) for _ in range(6))
            )
            await served.until_free()
            return served.engine.limits, answers, served.parts.governing.explain()

    limits, answers, told = run(scenario())
    assert limits
    assert all(1 <= limit <= 8 for limit in limits)
    assert [answer.status for answer in answers] == [200] * 6
    assert told.limit == limits[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "package:x"},
        {"shadow": {"2": 0.5}},
        {"max_sequences": 0},
        {"sampling": {"temperature": 5}},
        {"batching": {}},
        {"dtype": "int3"},
    ],
)
def test_arguments_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        GeneratorArgs(**{"name": "m", "source": "repository:m"} | wrong)
