"""Chats, completions and embeddings at a replica's door, whole and streamed, and every way to be refused."""

import asyncio
import base64
import struct

import orjson
import pytest

from tests.unit.serving.generation.conftest import Exchange, events_of

CHAT = {"model": "coder", "messages": [{"role": "user", "content": "hi"}]}
HELLO = {tuple(b"say: "): b"hello world"}
COMPLETION = {"model": "coder", "prompt": "say: "}


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 30))


def test_a_completion_is_whole_and_its_usage_has_the_energy_by_phase(serving):
    async def scenario():
        async with serving(HELLO) as served:
            answer = await served.request("/v1/completions", COMPLETION | {"max_tokens": 30})
            await served.until_free()
            return answer

    answer = run(scenario())
    assert answer.status == 200
    told = orjson.loads(answer.body)
    assert (told["object"], told["model"]) == ("text_completion", "coder@3")
    assert told["choices"] == [{"index": 0, "text": "hello world", "logprobs": None, "finish_reason": "stop"}]
    usage = told["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 11, 16)
    energy = usage["joulekeeper"]
    assert (energy["receipt_id"], energy["energy_uj"]) == ("r-0", 210)
    assert (energy["prefill_uj"], energy["decode_uj"]) == (100, 110)
    assert energy["uj_per_token"] == pytest.approx(210 / 11, abs=1e-3)
    assert answer.headers["x-joulekeeper-energy_uj"] == "210"
    assert answer.headers["x-joulekeeper-receipt_id"] == "r-0"


def test_a_chat_goes_through_the_template_and_ends_at_its_bound(serving):
    async def scenario():
        async with serving() as served:
            answer = await served.request("/v1/chat/completions", CHAT | {"max_tokens": 4, "n": 2, "seed": 5})
            await served.until_free()
            return answer, served.client.begun

    answer, works = run(scenario())
    told = orjson.loads(answer.body)
    assert [choice["message"]["content"] for choice in told["choices"]] == ["abcd", "abcd"]
    assert [choice["finish_reason"] for choice in told["choices"]] == ["length", "length"]
    assert told["usage"]["prompt_tokens"] == len("user: hi\n")
    assert told["usage"]["completion_tokens"] == 8
    assert len(works) == 1  # one request, one receipt


def test_a_stop_string_ends_a_sequence_at_once_and_frees_its_place(serving):
    async def scenario():
        async with serving() as served:
            answer = await served.request("/v1/completions", COMPLETION | {"max_tokens": 40, "stop": ["ef", "zz"]})
            await served.until_free()
            return answer

    told = orjson.loads(run(scenario()).body)
    assert (told["choices"][0]["text"], told["choices"][0]["finish_reason"]) == ("abcd", "stop")
    assert told["usage"]["completion_tokens"] == 6


def test_a_stream_comes_piece_by_piece_and_ends_with_usage_and_done(serving):
    async def scenario():
        async with serving(HELLO) as served:
            body = COMPLETION | {"max_tokens": 30, "stream": True, "stream_options": {"include_usage": True}}
            answer = await served.request("/v1/completions", body)
            await served.until_free()
            return answer

    answer = run(scenario())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-joulekeeper-receipt_id"] == "r-0"
    *chunks, last, done = events_of(answer.body)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "hello world"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"]["joulekeeper"]["energy_uj"] == 210


def test_a_streamed_chat_opens_every_choice_and_tells_running_energy_on_request(serving):
    async def scenario():
        async with serving() as served:
            body = CHAT | {"n": 2, "max_tokens": 3, "stream": True, "stream_options": {"joulekeeper_energy": True}}
            return events_of((await served.request("/v1/chat/completions", body)).body)

    *chunks, last, _ = run(scenario())
    texts, roles, running = {0: "", 1: ""}, [], []
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
            roles += [choice["index"]] if "role" in choice["delta"] else []
        if chunk.get("usage"):
            running.append(chunk["usage"]["joulekeeper"]["energy_uj"])
    assert texts == {0: "abc", 1: "abc"}
    assert sorted(roles) == [0, 1]
    assert running == sorted(running)
    assert len(running) >= 2
    assert last["usage"]["completion_tokens"] == 6


def test_probabilities_are_told_where_they_are_asked_for(serving):
    async def scenario():
        async with serving() as served:
            chat = await served.request(
                "/v1/chat/completions", CHAT | {"max_tokens": 2, "logprobs": True, "top_logprobs": 2}
            )
            return orjson.loads(chat.body)

    content = run(scenario())["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["a", "b"]
    assert content[0]["logprob"] == -0.5
    assert [each["token"] for each in content[0]["top_logprobs"]] == ["a", "`"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_the_engines_in_either_form(serving, encoding):
    async def scenario():
        async with serving() as served:
            body = {"model": "coder", "input": ["ab", "abcd"], "encoding_format": encoding}
            answer = await served.request("/v1/embeddings", body)
            await served.until_free()
            return answer

    answer = run(scenario())
    told = orjson.loads(answer.body)
    vectors = [each["embedding"] for each in told["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack("<4f", base64.b64decode(vector))) for vector in vectors]
    assert vectors == [[2.0, 0.0, 0.0, 1.0], [4.0, 0.0, 0.0, 1.0]]
    assert told["usage"]["prompt_tokens"] == 6
    assert answer.headers["x-joulekeeper-receipt_id"] == "r-0"


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "code"),
    [
        ("completions", {"model": "other", "prompt": "x"}, 404, "model", "model_not_found"),
        ("completions", {"model": "coder@9", "prompt": "x"}, 404, "model", "model_not_found"),
        ("completions", {"model": "coder", "prompt": "x" * 64}, 400, "prompt", "context_length_exceeded"),
        ("completions", {"model": "coder", "prompt": "x", "max_tokens": 64}, 400, "prompt", "context_length_exceeded"),
        ("completions", COMPLETION | {"temperature": 3}, 400, "temperature", "decimal_above_max_value"),
        ("completions", COMPLETION | {"top_p": -1}, 400, "top_p", "decimal_below_min_value"),
        ("completions", COMPLETION | {"n": 17}, 400, "n", "integer_above_max_value"),
        ("completions", COMPLETION | {"max_tokens": 0}, 400, "max_tokens", "integer_below_min_value"),
        ("completions", {"model": "coder", "prompt": [1, 999]}, 400, "prompt", "integer_above_max_value"),
        ("completions", {"model": "coder", "prompt": ""}, 400, None, None),
        ("chat/completions", {"model": "coder", "messages": []}, 400, "messages", "empty_array"),
        ("chat/completions", CHAT | {"tools": [{"type": "function"}]}, 400, "tools", "unsupported_parameter"),
        ("chat/completions", b'{"model": "coder", "messages": [{"role": "user", "content": "\xff"}]}', 400, None,
         "invalid_json"),
        ("chat/completions", b'{"model": "coder", "messages": [{"role": "user", "content": "\\ud800"}]}', 400, None,
         "invalid_json"),
        ("embeddings", {"model": "coder", "input": "x", "dimensions": 5}, 400, "dimensions", "unsupported_value"),
        ("embeddings", {"model": "coder", "input": []}, 400, "input", "empty_array"),
        ("images/generations", {}, 404, None, None),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_openais_shape_and_leaves_nothing(serving, path, body, status, param, code):
    async def scenario():
        async with serving() as served:
            answer = await served.request(f"/v1/{path}", body)
            await served.until_free()
            return answer

    answer = run(scenario())
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["param"], error["code"]) == (status, param, code), error
    assert error["type"] == "invalid_request_error"


def test_a_full_queue_is_429_with_a_time_to_come_again_and_all_or_none_of_a_request(serving):
    async def scenario():
        async with serving(max_sequences=1, max_queued=1) as served:
            served.engine.hold()
            first = served.request("/v1/completions", COMPLETION | {"max_tokens": 5})
            await served.until(lambda: served.engine.load.running == 1)
            too_many = await served.request("/v1/completions", COMPLETION | {"n": 2})
            refused = await served.request("/v1/chat/completions", CHAT | {"stream": True})
            served.engine.release()
            answers = [await first]
            await served.until_free()
            answers.append(await served.request("/v1/completions", COMPLETION | {"n": 2, "max_tokens": 5}))
            await served.until_free()
            # who came while the queue was full left nothing on the books
            assert [work.tokens for work in served.client.begun if work.tokens] == [5, 10]
            assert len(served.client.begun) == 3
            return too_many, refused, answers

    too_many, refused, answers = run(scenario())
    for answer in (too_many, refused):
        error = orjson.loads(answer.body)["error"]
        assert (answer.status, error["code"]) == (429, "engine_overloaded")
        assert int(answer.headers["retry-after"]) >= 1
    assert [answer.status for answer in answers] == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
def test_a_sequence_that_fails_is_a_clean_error(serving, stream):
    async def scenario():
        async with serving() as served:
            body = {"model": "coder", "prompt": [[1], [257]], "stream": stream}
            answer = await served.request("/v1/completions", body)
            await served.until_free()
            return answer

    answer = run(scenario())
    if stream:
        assert (answer.status, answer.complete) == (200, True)
        error = events_of(answer.body)[-1]["error"]
    else:
        assert answer.status == 500
        error = orjson.loads(answer.body)["error"]
    assert error["type"] == "server_error"
    assert b"[DONE]" not in answer.body


def test_a_model_that_is_unloaded_ends_its_streams_with_a_word(serving):
    async def scenario():
        async with serving() as served:
            served.engine.hold()
            asked = served.request("/v1/completions", COMPLETION | {"stream": True, "max_tokens": 50})
            await served.until(lambda: served.engine.load.running == 1)
            served.replica.model.close()
            answer = await asked
            late = await served.request("/v1/completions", COMPLETION)
            return answer, late

    answer, late = run(scenario())
    assert events_of(answer.body)[-1]["error"]["code"] == "service_unavailable"
    assert late.status == 503


def test_a_client_that_takes_nothing_is_given_up_and_its_place_is_free(serving):
    async def scenario():
        async with serving(stalled_client_s=0.05) as served:
            exchange = Exchange("/v1/completions", COMPLETION | {"stream": True, "max_tokens": 50})
            served.engine.hold()
            asked = asyncio.ensure_future(served.replica.http(exchange.scope, exchange.receive, exchange.send))
            await served.until(lambda: exchange.sent)
            exchange.may_send.clear()
            served.engine.release()
            await asked
            await served.until_free()
            return exchange.answer(), served.replica.counts

    answer, counts = run(scenario())
    assert not answer.complete
    assert (counts.fail.count, counts.success.count) == (1, 0)


def test_while_a_stream_waits_its_client_is_told_that_somebody_is_there(serving):
    async def scenario():
        async with serving() as served:
            served.engine.hold()
            exchange = Exchange("/v1/completions", COMPLETION | {"stream": True, "max_tokens": 2})
            asked = asyncio.ensure_future(served.replica.http(exchange.scope, exchange.receive, exchange.send))
            await served.until(lambda: exchange.sent)
            served.parts.hub.wake_all()
            await served.until(lambda: len(exchange.sent) > 1)
            waiting = exchange.sent[1]["body"]
            served.engine.release()
            await asked
            return waiting, exchange.answer().body

    waiting, body = run(scenario())
    assert waiting.startswith(b":")
    assert events_of(body)[-1] == "[DONE]"
