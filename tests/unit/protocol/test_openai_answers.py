"""Answers and chunks of chats and completions, key by key, as OpenAI's clients read them."""

import json
import math

import pytest

from app.protocol.openai_answers import ChatWriter, Choice, CompletionWriter, Heading, Piece
from app.protocol.openai_logprobs import LEAST, SpelledToken
from app.protocol.openai_requests import ChatRequest, CompletionRequest
from app.protocol.openai_usage import Usage
from app.protocol.sse import DONE, comment

HEADING = Heading("x-1", 1_800_000_000, "pycoder@int8")
RECEIPT = {
    "receipt_id": "r",
    "energy_uj": 900,
    "prefill_uj": 300,
    "decode_uj": 600,
    "uj_per_token": 200,
    "carbon_ugco2e": 12,
    "grade": "counter",
    "provisional": True,
}
USAGE = Usage(5, 3, 4, {**RECEIPT, "load_share_uj": 7})
TOLD_USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 4},
    "joulekeeper": RECEIPT,
}


def chat(**changes):
    body = {"model": "pycoder", "messages": [{"role": "user", "content": "hi"}]}
    return ChatWriter(HEADING, ChatRequest.parse(json.dumps(body | changes).encode()))


def completion(echoes=(), **changes):
    body = {"model": "pycoder", "prompt": ["def ", "class "]}
    return CompletionWriter(HEADING, CompletionRequest.parse(json.dumps(body | changes).encode()), echoes)


def events(*written):
    """The data of every event; DONE as it is."""
    parts = b"".join(written).split(b"\n\n")
    assert parts.pop() == b""
    assert all(part.startswith(b"data: ") for part in parts)
    return [part[6:] if part[6:] == b"[DONE]" else json.loads(part[6:]) for part in parts]


def token(text, logprob, *top):
    return SpelledToken(text, text.encode(), logprob, tuple(top))


def test_a_whole_chat():
    choices = [Choice("a", "stop"), Choice("b", "length")]
    assert json.loads(chat(n=2).whole(choices, USAGE)) == {
        "id": "x-1",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "pycoder@int8",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": finish,
            }
            for index, content, finish in ((0, "a", "stop"), (1, "b", "length"))
        ],
        "usage": TOLD_USAGE,
    }


def test_a_streamed_chat_says_who_speaks_then_what_then_why_it_ended_then_done():
    writer = chat(stream=True)
    told = events(writer.opening(0), writer.piece(0, Piece("a\n\n")), writer.ending(0, "stop"), writer.closing(USAGE))
    assert told.pop() == b"[DONE]"
    assert [chunk["choices"] for chunk in told] == [
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        for delta, finish in (
            ({"role": "assistant", "content": "", "refusal": None}, None),
            ({"content": "a\n\n"}, None),
            ({}, "stop"),
        )
    ]
    assert {chunk["object"] for chunk in told} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in told)
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in told} == {
        ("x-1", 1_800_000_000, "pycoder@int8")
    }


@pytest.mark.parametrize("writer_of", [chat, completion])
def test_usage_comes_last_where_it_is_asked_for(writer_of):
    writer = writer_of(stream=True, stream_options={"include_usage": True})
    *chunks, last, done = events(writer.opening(0), writer.piece(0, Piece("a"), USAGE), writer.closing(USAGE))
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"], done) == ([], TOLD_USAGE, b"[DONE]")


@pytest.mark.parametrize("writer_of", [chat, completion])
def test_a_running_figure_comes_with_every_piece_where_it_is_asked_for(writer_of):
    writer = writer_of(stream=True, stream_options={"continuous_usage_stats": True})
    told = events(writer.piece(0, Piece("a"), USAGE), writer.ending(0, "stop", USAGE), writer.closing(USAGE))
    assert [chunk["usage"] for chunk in told[:-1]] == [TOLD_USAGE] * 3


def test_a_receipt_without_figures_tells_none():
    assert "joulekeeper" not in Usage(1).described()
    assert Usage(1, receipt={"receipt_id": "r", "provisional": True}).described_of_input() == {
        "prompt_tokens": 1,
        "total_tokens": 1,
        "joulekeeper": {"receipt_id": "r", "provisional": True},
    }


def test_a_fingerprint_is_told_where_there_is_one():
    request = ChatRequest.parse(b'{"model": "m", "messages": [{"role": "user", "content": ""}]}')
    writer = ChatWriter(Heading("x", 1, "m", "fp"), request)
    assert json.loads(writer.whole([], USAGE))["system_fingerprint"] == "fp"
    assert events(writer.opening(0))[0]["system_fingerprint"] == "fp"


def test_logprobs_of_a_chat_have_bytes_and_alternatives():
    writer = chat(logprobs=True, top_logprobs=1)
    half = SpelledToken("\ufffd", b"\xc3", -math.inf, (token("e", -0.5),))
    choice = json.loads(writer.whole([Choice("x", "stop", (half,))], USAGE))["choices"][0]
    entry = {"token": "\ufffd", "logprob": LEAST, "bytes": [0xC3]}
    other = {"token": "e", "logprob": -0.5, "bytes": [101]}
    assert choice["logprobs"] == {"content": [entry | {"top_logprobs": [other]}], "refusal": None}
    assert events(writer.piece(0, Piece("", (half,))))[0]["choices"][0]["logprobs"] == choice["logprobs"]


def test_a_whole_completion_with_logprobs():
    tokens = (token("de", -0.25, token("de", -0.25), token("if", -2.0)), token("f", -1.0, token(" ", -0.5)))
    body = json.loads(completion(logprobs=2).whole([Choice("def", "stop", tokens), Choice("", "length")], USAGE))
    assert (body["object"], body["usage"]) == ("text_completion", TOLD_USAGE)
    assert body["choices"] == [
        {
            "index": 0,
            "text": "def",
            "logprobs": {
                "tokens": ["de", "f"],
                "token_logprobs": [-0.25, -1.0],
                "top_logprobs": [{"de": -0.25, "if": -2.0}, {" ": -0.5, "f": -1.0}],
                "text_offset": [0, 2],
            },
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "text": "",
            "logprobs": {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []},
            "finish_reason": "length",
        },
    ]


def test_offsets_of_a_streamed_completion_go_on_for_each_choice():
    writer = completion(stream=True, logprobs=0)
    pieces = [
        writer.piece(index, Piece(text, (token(text, -1.0),)))
        for index, text in ((0, "ab"), (1, "x"), (0, "c"), (1, "y"))
    ]
    told = [chunk["choices"][0] for chunk in events(*pieces)]
    assert [(choice["index"], choice["logprobs"]["text_offset"]) for choice in told] == [
        (0, [0]),
        (1, [0]),
        (0, [2]),
        (1, [1]),
    ]
    assert told[0]["logprobs"]["top_logprobs"] is None


def test_tokens_that_are_no_text_stay_apart_as_bytes():
    first, second = (SpelledToken("\ufffd", raw, -1.0) for raw in (b"\xc3", b"\xe2\x82"))
    writer = completion(logprobs=1)
    told = json.loads(
        writer.whole([Choice("", "stop", (SpelledToken("\ufffd", b"\xc3", -1.0, (first, second)),))], USAGE)
    )
    assert told["choices"][0]["logprobs"]["top_logprobs"] == [{"bytes:\\xc3": -1.0, "bytes:\\xe2\\x82": -1.0}]


def test_an_echo_begins_each_choice_with_its_own_prompt():
    writer = completion(echoes=("def ", "class "), echo=True, n=2)
    choices = [Choice(str(index), "stop") for index in range(4)]
    assert [choice["text"] for choice in json.loads(writer.whole(choices, USAGE))["choices"]] == [
        "def 0",
        "def 1",
        "class 2",
        "class 3",
    ]
    assert [chunk["choices"][0]["text"] for chunk in events(*(writer.opening(index) for index in (0, 3)))] == [
        "def ",
        "class ",
    ]


def test_without_echo_a_completion_begins_with_its_text():
    assert completion(echoes=("def ", "class ")).opening(0) == b""


def test_a_streamed_completion_tells_its_end_in_a_chunk_of_its_own():
    writer = completion(stream=True)
    told = events(writer.piece(1, Piece("a")), writer.ending(1, "length"), writer.closing(USAGE))
    assert [(chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) for chunk in told[:-1]] == [
        ("a", None),
        ("", "length"),
    ]
    assert told[-1] == b"[DONE]"
    assert writer.closing(USAGE) == DONE


def test_a_comment_is_an_event_that_clients_skip():
    assert comment("still here") == b": still here\n\n"
