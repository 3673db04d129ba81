"""Requests for generated text: what they become, and what does not fit a model. Faults: test_openai_faults.py."""

import json

import pytest

from app.domain.generation import Sampling
from app.protocol.openai_errors import WireFault
from app.protocol.openai_messages import Message
from app.protocol.openai_prompts import check_vocabulary
from app.protocol.openai_requests import ChatRequest, CompletionRequest
from app.protocol.sampling import ModelLimits

CHAT = {"model": "pycoder", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "pycoder", "prompt": "def "}
LIMITS = ModelLimits(context_tokens=100)


def chat(**changes):
    return ChatRequest.parse(json.dumps(CHAT | changes).encode())


def completion(**changes):
    return CompletionRequest.parse(json.dumps(COMPLETION | changes).encode())


def test_a_chat_without_wishes_may_fill_the_context_by_the_models_own_settings():
    assert chat().sampling(LIMITS, 30) == Sampling(max_tokens=70)
    limits = ModelLimits(100, 50, temperature=0.6, top_p=0.9, top_k=40)
    for request in (chat(), completion()):
        assert request.sampling(limits, 30) == Sampling(50, temperature=0.6, top_p=0.9, top_k=40)
        assert request.sampling(limits, 60).max_tokens == 40


def test_a_completion_without_wishes_has_sixteen_tokens_or_what_there_is_room_for():
    assert completion().sampling(LIMITS, 30) == Sampling(max_tokens=16)
    assert completion().sampling(LIMITS, 95).max_tokens == 5


def test_every_wish_reaches_the_sampling():
    wishes = {"temperature": 0.5, "top_p": 0.8, "top_k": 7, "seed": 11, "stop": ["\n\n", "#"]}
    expected = Sampling(9, 0.5, 0.8, 7, 11, ("\n\n", "#"), 3)
    assert chat(max_tokens=9, logprobs=True, top_logprobs=3, **wishes).sampling(LIMITS, 1) == expected
    assert chat(max_completion_tokens=9, logprobs=True, top_logprobs=3, **wishes).sampling(LIMITS, 1) == expected
    assert completion(max_tokens=9, logprobs=3, **wishes).sampling(LIMITS, 1) == expected


def test_null_counts_as_absent():
    wishes = ("temperature", "top_p", "n", "seed", "stop", "stream", "stream_options", "logprobs", "max_tokens", "user")
    absent = dict.fromkeys((*wishes, "tools", "response_format", "top_logprobs", "max_completion_tokens"))
    assert chat(**absent) == chat()
    assert completion(**dict.fromkeys((*wishes, "echo", "suffix", "best_of"))) == completion()


def test_logprobs_of_the_token_alone_or_of_none():
    assert [chat(logprobs=each).top_logprobs for each in (True, False)] == [0, -1]
    assert chat(logprobs=False, top_logprobs=0).top_logprobs == -1
    assert [completion(logprobs=each).top_logprobs for each in (0, 5, None)] == [0, 5, -1]


def test_choices_of_a_seed_differ_and_are_the_same_for_the_same_prompt():
    request = completion(prompt=["a", "b"], n=2, seed=2**63 - 1)
    assert request.choices == 4
    assert [request.sampling(LIMITS, 1, choice).seed for choice in range(4)] == [2**63 - 1, 0, 2**63 - 1, 0]
    assert chat(seed=-1).sampling(LIMITS, 1).seed == 2**63 - 1
    assert chat().sampling(LIMITS, 1, 0).seed is None


def test_no_probability_mass_and_no_temperature_are_greedy():
    assert chat(top_p=0).sampling(LIMITS, 1) == chat(temperature=0).sampling(LIMITS, 1) == Sampling(99, temperature=0.0)
    assert chat(top_k=-1).sampling(ModelLimits(100, top_k=40), 1).top_k == 0


def test_one_stop_or_several_or_none():
    assert [chat(stop=each).stop for each in ("x", ["x", "y"], [], None)] == [("x",), ("x", "y"), (), ()]


def test_what_streams_tell_is_what_their_options_say():
    for options, include, running in (
        ({}, False, False),
        ({"include_usage": True, "include_obfuscation": False}, True, False),
        ({"continuous_usage_stats": True}, True, True),
    ):
        request = chat(stream=True, stream_options=options)
        assert (request.stream, request.include_usage, request.running_usage) == (True, include, running)


def test_prompts_are_texts_or_tokens():
    assert completion().prompts == ("def ",)
    assert completion(prompt=["a", ""]).prompts == ("a", "")
    assert completion(prompt=[1, 2]).prompts == ((1, 2),)
    assert completion(prompt=[[1], [2, 3]]).prompts == ((1,), (2, 3))


def test_token_ids_are_those_of_the_vocabulary():
    prompts = completion(prompt=[[1, 99], [3]]).prompts
    check_vocabulary(prompts, "prompt", 100)
    check_vocabulary(("text",), "prompt", 1)
    with pytest.raises(WireFault, match="token id 99, but the model's vocabulary ends at 98"):
        check_vocabulary(prompts, "prompt", 99)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
    ],
)
def test_content_is_text_or_parts_of_text(content, text):
    assert chat(messages=[{"role": "user", "content": content}]).messages == (Message("user", text),)


def test_roles_become_those_that_templates_know():
    said = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": None, "refusal": "no", "tool_calls": []},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
    ]
    assert [message.for_template() for message in chat(messages=said).messages] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "never"},
    ]


def test_unknown_keys_and_hints_are_nobodys_business():
    hints = {"store": True, "metadata": {"a": "b"}, "service_tier": "flex", "reasoning_effort": "low", "new_key": [1]}
    nothing = {"tools": [], "tool_choice": "auto", "logit_bias": {}, "presence_penalty": 0, "min_p": 0.0}
    assert chat(**hints, **nothing, response_format={"type": "text"}, modalities=["text"]) == chat()
    assert completion(**hints, suffix="", best_of=1) == completion()


@pytest.mark.parametrize(
    ("request_", "prompt_tokens", "param", "says"),
    [
        (
            chat(),
            100,
            "messages",
            "This model's maximum context length is 100 tokens, .* prompt is too long: it has 100, which leaves none",
        ),
        (chat(max_tokens=71), 30, "messages", "it has 30, and 71 are to be generated"),
        (completion(), 120, "prompt", "it has 120, which leaves none"),
    ],
)
def test_what_does_not_fit_the_context_is_refused_by_openais_code(request_, prompt_tokens, param, says):
    with pytest.raises(WireFault, match=says) as caught:
        request_.sampling(LIMITS, prompt_tokens)
    assert (caught.value.param, caught.value.code) == (param, "context_length_exceeded")
