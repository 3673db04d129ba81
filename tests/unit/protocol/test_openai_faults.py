"""Faulty requests for generated text: which parameter every fault names, and by which of OpenAI's codes."""

import json

import pytest

from app.errors import InvalidInput
from app.protocol.openai_errors import WireFault
from app.protocol.openai_requests import ChatRequest, CompletionRequest

CHAT = {"model": "pycoder", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "pycoder", "prompt": "def "}


def chat(**changes):
    return ChatRequest.parse(json.dumps(CHAT | changes).encode())


def completion(**changes):
    return CompletionRequest.parse(json.dumps(COMPLETION | changes).encode())


def fault_of(call, *arguments, **named):
    with pytest.raises(WireFault) as caught:
        call(*arguments, **named)
    assert (caught.value.http_status, isinstance(caught.value, InvalidInput)) == (400, True)
    return caught.value.param, caught.value.code


FAULTS = [
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": ""}, "model", "empty_string"),
    ({"model": 1}, "model", "invalid_type"),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"temperature": -1}, "temperature", "decimal_below_min_value"),
    ({"temperature": "1"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": 1.01}, "top_p", "decimal_above_max_value"),
    ({"top_k": -2}, "top_k", "integer_below_min_value"),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 129}, "n", "integer_above_max_value"),
    ({"n": 1.0}, "n", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"max_tokens": 2**70}, "max_tokens", "invalid_type"),
    ({"seed": 2**63}, "seed", "integer_above_max_value"),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"stop": ["a", 1]}, "stop[1]", "invalid_value"),
    ({"stop": list("abcde")}, "stop", "array_above_max_length"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
    ({"user": 7}, "user", "invalid_type"),
    ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    ({"functions": [{}]}, "functions", "unsupported_parameter"),
    ({"tool_choice": {"type": "function"}}, "tool_choice", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"response_format": "json"}, "response_format", "invalid_type"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
    ({"frequency_penalty": 0.1}, "frequency_penalty", "unsupported_parameter"),
    ({"presence_penalty": 9}, "presence_penalty", "decimal_above_max_value"),
    ({"repetition_penalty": 1.1}, "repetition_penalty", "unsupported_parameter"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
]


@pytest.mark.parametrize(("changes", "param", "code"), FAULTS)
def test_a_fault_of_either_kind_names_its_parameter(changes, param, code):
    assert fault_of(chat, **changes) == fault_of(completion, **changes) == (param, code)


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": {}}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "unsupported_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
            "unsupported_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            "unsupported_value",
        ),
        ({"messages": [{"role": "user", "content": "x", "name": 1}]}, "messages[0].name", "invalid_type"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"logprobs": 3}, "logprobs", "invalid_type"),
        ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens", "invalid_value"),
    ],
)
def test_a_fault_of_a_chat_names_its_parameter(changes, param, code):
    assert fault_of(chat, **changes) == (param, code)


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "empty_array"),
        ({"prompt": ["a", 1]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, "a"]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, True]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, -1]}, "prompt[1]", "invalid_type"),
        ({"prompt": [[1], 5]}, "prompt[1]", "invalid_type"),
        ({"prompt": [[1], []]}, "prompt[1]", "empty_array"),
        ({"prompt": [[1], [1.5]]}, "prompt[1][0]", "invalid_type"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt", "array_above_max_length"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"logprobs": True}, "logprobs", "invalid_type"),
        ({"best_of": 3}, "best_of", "unsupported_value"),
        ({"echo": True, "logprobs": 0}, "echo", "unsupported_value"),
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
    ],
)
def test_a_fault_of_a_completion_names_its_parameter(changes, param, code):
    assert fault_of(completion, **changes) == (param, code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"\xff{}", "invalid_json"),
        (b'{"model": "\xe9"}', "invalid_json"),
        (b'{"model": "\\ud800"}', "invalid_json"),
        (b"[1]", "invalid_type"),
        (b"null", "invalid_type"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"model": NaN}', "invalid_json"),
    ],
)
def test_what_is_no_json_object_is_a_fault_of_the_body(body, code):
    assert fault_of(ChatRequest.parse, body) == fault_of(CompletionRequest.parse, body) == (None, code)


def test_a_message_shows_little_of_what_was_sent():
    with pytest.raises(WireFault) as caught:
        chat(temperature="x" * 1_000_000)
    assert len(str(caught.value)) < 200
