"""What a request may ask of a sampler, and what that means: the same in OpenAI's words and in tensors' parameters."""

import json

import pytest

from app.errors import InvalidInput
from app.protocol.openai_requests import CompletionRequest
from app.protocol.sampling import ModelLimits
from app.serving.generation.sampling import SamplingParameters

LIMITS = ModelLimits(100, max_tokens=50, temperature=0.6, top_p=0.9, top_k=40)
PROMPT_TOKENS = 60


def by_openai(asked):
    body = json.dumps({"model": "m", "prompt": "x"} | asked).encode()
    return CompletionRequest.parse(body).sampling(LIMITS, PROMPT_TOKENS)


def by_tensors(asked):
    return SamplingParameters.read(asked).sampling(LIMITS, PROMPT_TOKENS)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"max_tokens": 7, "temperature": 0},
        {"temperature": 2, "top_p": 0.5, "top_k": 3},
        {"top_p": 0, "temperature": 1.5},
        {"top_k": -1},
        {"top_k": 0},
        {"seed": -(2**63)},
        {"seed": 2**63 - 1, "stop": "end"},
        {"stop": ["a", "b", "c", "d"]},
    ],
)
def test_what_both_take_they_take_alike(asked):
    if asked.get("seed", 0) < 0:  # OpenAI's continuations of one prompt count on from the seed, from 0 up
        assert by_openai(asked).seed == asked["seed"] % 2**63
        assert by_tensors(asked).seed == asked["seed"]
        return
    assert by_tensors(asked) == by_openai(asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"top_p": -0.1},
        {"top_p": 1.1},
        {"top_k": -2},
        {"seed": 2**63},
        {"max_tokens": 0},
        {"stop": list("abcde")},
        {"stop": [""]},
        {"temperature": "warm"},
    ],
)
@pytest.mark.parametrize("read", [by_openai, by_tensors])
def test_what_one_refuses_so_does_the_other_and_names_it(read, asked):
    (name,) = asked
    with pytest.raises(InvalidInput, match=name):
        read(asked)
