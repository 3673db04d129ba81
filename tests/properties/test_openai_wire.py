"""Whatever a client of OpenAI's API sends is read, or refused with its fault named; what is streamed is the whole."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.openai_answers import ChatWriter, Choice, CompletionWriter, Heading, Piece
from app.protocol.openai_embeddings import EmbeddingRequest
from app.protocol.openai_errors import WireFault, refusal
from app.protocol.openai_logprobs import SpelledToken
from app.protocol.openai_requests import ChatRequest, CompletionRequest
from app.protocol.openai_usage import Usage
from app.protocol.sampling import ModelLimits

KINDS = (ChatRequest, CompletionRequest, EmbeddingRequest)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "refusal", "file"]) | VALUES}, optional={"text": VALUES}
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"]) | VALUES},
        optional={"content": st.text(max_size=3) | st.lists(PARTS, max_size=2) | VALUES, "name": VALUES},
    ),
    max_size=3,
)
SMALL = st.integers(-2, 25)
NUMBERS = st.floats(-0.5, 2.5) | SMALL
GOOD_OR_NOT = {
    "model": st.just("m") | VALUES,
    "messages": MESSAGES | VALUES,
    "prompt": st.text(max_size=3) | st.lists(SMALL, max_size=3) | VALUES,
    "input": st.text(max_size=3) | st.lists(st.lists(SMALL, max_size=3), max_size=3) | VALUES,
    "temperature": NUMBERS | VALUES,
    "top_p": NUMBERS | VALUES,
    "stop": st.text(max_size=2) | st.lists(st.text(max_size=2), max_size=5) | VALUES,
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans() | VALUES}) | VALUES,
    "response_format": st.fixed_dictionaries({"type": st.sampled_from(["text", "json_object"]) | VALUES}) | VALUES,
    **dict.fromkeys(("top_k", "n", "max_tokens", "max_completion_tokens", "seed", "dimensions"), SMALL | VALUES),
    **dict.fromkeys(("stream", "echo"), st.booleans() | VALUES),
    **dict.fromkeys(("logprobs", "top_logprobs", "best_of"), st.booleans() | SMALL | VALUES),
    **dict.fromkeys(("tools", "tool_choice", "logit_bias", "min_p", "modalities", "user", "suffix", "other"), VALUES),
}


@st.composite
def bodies(draw):
    """A request that is right, but for what is drawn otherwise."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
    for name in draw(st.sets(st.sampled_from(sorted(GOOD_OR_NOT)), max_size=5)):
        body[name] = draw(GOOD_OR_NOT[name])
    return body


def outcome(kind, body):
    """The request in `body`, or what is told of its fault."""
    try:
        return kind.parse(body), None
    except WireFault as fault:
        return None, json.loads(refusal(fault).body)["error"]


@given(bodies(), st.sampled_from(KINDS))
def test_a_request_is_read_or_its_fault_is_named(body, kind):
    _, told = outcome(kind, json.dumps(body).encode())
    if told:
        assert set(told) == {"message", "type", "param", "code"}
        assert told["param"].split(".")[0].split("[")[0] in GOOD_OR_NOT


@given(bodies(), st.sampled_from(KINDS[:2]), st.integers(1, 300))
def test_what_is_read_can_be_sampled_or_does_not_fit(body, kind, prompt_tokens):
    request, _ = outcome(kind, json.dumps(body).encode())
    if request is None:
        return
    room = 200 - prompt_tokens
    if room < (request.max_tokens or 1):
        with pytest.raises(WireFault, match="context length is 200 tokens"):
            request.sampling(ModelLimits(200), prompt_tokens)
        return
    sampling = request.sampling(ModelLimits(200), prompt_tokens, request.choices - 1)
    assert 1 <= sampling.max_tokens <= room
    assert 0 <= sampling.temperature <= 2
    assert 0 < sampling.top_p <= 1
    assert sampling.seed is None or 0 <= sampling.seed < 2**63


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()), st.sampled_from(KINDS))
def test_any_bytes_are_read_or_refused(body, kind):
    request, told = outcome(kind, body)
    assert request is not None or told["message"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TOKENS = st.builds(
    SpelledToken,
    TEXTS,
    st.binary(max_size=4),
    st.floats(max_value=0) | st.just(-math.inf) | st.just(math.nan),
)
PIECES = st.lists(
    st.tuples(st.integers(0, 1), st.builds(Piece, TEXTS, st.lists(TOKENS, max_size=2).map(tuple))), max_size=8
)


def written(writer, pieces):
    """What a stream of two choices has, joined: texts and logprobs of each."""
    stream = [writer.opening(index) for index in (0, 1)] + [writer.piece(index, piece) for index, piece in pieces]
    stream += [writer.ending(index, "stop") for index in (0, 1)] + [writer.closing(Usage(1))]
    *chunks, done, rest = b"".join(stream).split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(chunk.removeprefix(b"data: "))["choices"][0] for chunk in chunks]


def joined(lists):
    return [each for part in lists for each in part or ()]


@given(PIECES)
@settings(max_examples=50)
def test_the_pieces_of_a_chat_are_the_whole(pieces):
    body = b'{"model": "m", "messages": [{"role": "user", "content": ""}], "n": 2, "logprobs": true}'
    request = ChatRequest.parse(body)
    choices = [
        Choice(
            "".join(piece.text for at, piece in pieces if at == index),
            "stop",
            tuple(joined(piece.tokens for at, piece in pieces if at == index)),
        )
        for index in (0, 1)
    ]
    whole = json.loads(ChatWriter(Heading("x", 1, "m"), request).whole(choices, Usage(1)))["choices"]
    streamed = written(ChatWriter(Heading("x", 1, "m"), request), pieces)
    for index in (0, 1):
        own = [choice for choice in streamed if choice["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in own) == whole[index]["message"]["content"]
        content = joined(choice["logprobs"]["content"] for choice in own if choice["logprobs"])
        assert content == whole[index]["logprobs"]["content"]
        assert [choice["finish_reason"] for choice in own if choice["finish_reason"]] == ["stop"]


@given(PIECES)
@settings(max_examples=50)
def test_the_pieces_of_a_completion_are_the_whole(pieces):
    request = CompletionRequest.parse(b'{"model": "m", "prompt": "p", "n": 2, "logprobs": 1}')
    choices = [
        Choice(
            "".join(piece.text for at, piece in pieces if at == index),
            "stop",
            tuple(joined(piece.tokens for at, piece in pieces if at == index)),
        )
        for index in (0, 1)
    ]
    whole = json.loads(CompletionWriter(Heading("x", 1, "m"), request).whole(choices, Usage(1)))["choices"]
    streamed = written(CompletionWriter(Heading("x", 1, "m"), request), pieces)
    for index in (0, 1):
        own = [choice for choice in streamed if choice["index"] == index]
        assert "".join(choice["text"] for choice in own) == whole[index]["text"]
        for key, told in whole[index]["logprobs"].items():
            assert joined(choice["logprobs"][key] for choice in own if choice["logprobs"]) == told
