"""The `openai` package as its documentation shows it: models, chats, errors; answers are validated by its own types."""

import asyncio
import math
import ssl
import time

import openai
from checks import run
from openai_calls import LONG, MESSAGES, MODEL, chat, client_of, completion, contents, refusal_of


def models_are_listed(doors):
    client = client_of(doors)
    assert MODEL in [model.id for model in client.models.list()]
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")


def a_chat_is_answered_with_what_it_cost(doors):
    answer = chat(client_of(doors), temperature=0)
    choice, usage = answer.choices[0], answer.usage
    assert (answer.object, choice.message.role) == ("chat.completion", "assistant")
    assert choice.finish_reason in ("stop", "length")
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 12
    assert usage.prompt_tokens_details.cached_tokens >= 0
    assert usage.joulekeeper["receipt_id"]


def a_chat_streams_and_is_the_same_as_the_whole(doors):
    client = client_of(doors)
    whole = chat(client, seed=7)
    chunks = list(chat(client, seed=7, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert contents(chunks) == whole.choices[0].message.content
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
        whole.choices[0].finish_reason
    ]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], whole.usage.completion_tokens)
    assert chunks[-1].usage.joulekeeper["receipt_id"]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def a_stream_tells_a_running_figure_where_it_is_asked_for(doors):
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(chat(client_of(doors), max_tokens=LONG, temperature=0, stream=True, stream_options=options))
    told = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(told) > 2
    assert told == sorted(told)


def seeds_decide(doors):
    client = client_of(doors)
    texts = [chat(client, seed=seed).choices[0].message.content for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def several_choices_are_each_their_own(doors):
    client = client_of(doors)
    answer = chat(client, n=2, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content
    assert answer.choices[0].message.content == chat(client, seed=5).choices[0].message.content
    chunks = list(chat(client, n=2, seed=5, stream=True))
    for choice in answer.choices:
        own = [chunk for chunk in chunks if chunk.choices[0].index == choice.index]
        assert contents(own) == choice.message.content


def plain_pair(text):
    """Two characters of ASCII behind the first of `text`; empty if it has none."""
    pairs = (text[place : place + 2] for place in range(1, len(text) - 1))
    return next((pair for pair in pairs if pair.isascii() and pair.isprintable()), "")


def a_stop_ends_the_text_before_it(doors):
    client = client_of(doors)
    wholes = {seed: chat(client, seed=seed, max_tokens=LONG).choices[0].message.content for seed in range(10)}
    seed, stop = next((seed, plain_pair(text)) for seed, text in wholes.items() if plain_pair(text))
    answer = chat(client, seed=seed, max_tokens=LONG, stop=[stop, "never there"]).choices[0]
    assert (answer.message.content, answer.finish_reason) == (wholes[seed][: wholes[seed].index(stop)], "stop")
    assert contents(chat(client, seed=seed, max_tokens=LONG, stop=stop, stream=True)) == answer.message.content


def probabilities_of_a_chat_add_up(doors):
    answer = chat(client_of(doors), temperature=0, logprobs=True, top_logprobs=4)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert len(token.top_logprobs) == 4
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1.001
        assert token.top_logprobs[0].logprob == token.logprob  # greedy
    spelled = b"".join(bytes(token.bytes) for token in tokens).decode(errors="ignore")
    assert spelled == answer.choices[0].message.content.replace("\ufffd", "")


def who_leaves_frees_a_place_at_once(doors):
    client = client_of(doors)
    for _ in range(20):
        with chat(client, max_tokens=LONG, stream=True) as stream:
            next(iter(stream))
    started = time.monotonic()
    assert chat(client, max_tokens=2).choices[0].finish_reason in ("stop", "length")
    assert time.monotonic() - started < 20


async def together(doors, count, **wishes):
    """What so many streams at once gave, each with a seed of its own: texts, or errors."""
    http_client = openai.DefaultAsyncHttpxClient(verify=ssl.create_default_context(cafile=doors.ca))
    base_url = f"https://{doors.http}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, http_client=http_client, max_retries=0) as client:

        async def one(seed):
            asked = {"model": MODEL, "messages": MESSAGES, "seed": seed, "stream": True} | wishes
            return contents([chunk async for chunk in await client.chat.completions.create(**asked)])

        return await asyncio.gather(*(one(seed) for seed in range(count)), return_exceptions=True)


def many_streams_at_once_are_those_of_one_at_a_time(doors):
    client = client_of(doors)
    texts = asyncio.run(together(doors, 16, max_tokens=12))
    assert texts == [chat(client, seed=seed).choices[0].message.content for seed in range(16)]


def a_full_queue_says_when_to_come_again(doors):
    given = asyncio.run(together(doors, 80, max_tokens=LONG))
    refused = [each for each in given if not isinstance(each, str)]
    assert refused
    assert {type(each) for each in refused} == {openai.RateLimitError}, refused
    assert {each.code for each in refused} == {"engine_overloaded"}
    assert all(int(each.response.headers["retry-after"]) >= 1 for each in refused)
    assert len(refused) < len(given)
    assert chat(client_of(doors)).choices[0].finish_reason in ("stop", "length")


def mistakes_are_named(doors):
    client = client_of(doors)
    for wishes, param, code in (
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"messages": []}, "messages", "empty_array"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"max_tokens": 10**6}, "messages", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "x" * 20_000}]}, "messages", "context_length_exceeded"),
    ):
        body = {"model": MODEL, "messages": MESSAGES, "stream": True} | wishes
        refused = refusal_of(openai.BadRequestError, lambda body=body: client.chat.completions.create(**body))
        assert (refused.param, refused.code, refused.type) == (param, code, "invalid_request_error"), refused
    unknown = refusal_of(openai.NotFoundError, lambda: completion(client, model="nonesuch"))
    assert (unknown.code, unknown.param) == ("model_not_found", "model")
    assert refusal_of(openai.NotFoundError, lambda: client.models.retrieve("nonesuch")).code == "model_not_found"
    refused = refusal_of(openai.BadRequestError, lambda: completion(client, prompt=[10**6]))
    assert (refused.param, refused.code) == ("prompt", "integer_above_max_value")


def strangers_are_refused(doors):
    stranger = client_of(doors, api_key="jk_nobody_nothing")
    assert refusal_of(openai.AuthenticationError, lambda: chat(stranger)).code == "invalid_api_key"


def answers_carry_their_receipt_in_headers_too(doors):
    raw = client_of(doors).chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=2)
    assert raw.headers["x-joulekeeper-receipt_id"] == raw.parse().usage.joulekeeper["receipt_id"]


run(
    models_are_listed,
    a_chat_is_answered_with_what_it_cost,
    a_chat_streams_and_is_the_same_as_the_whole,
    a_stream_tells_a_running_figure_where_it_is_asked_for,
    seeds_decide,
    several_choices_are_each_their_own,
    a_stop_ends_the_text_before_it,
    probabilities_of_a_chat_add_up,
    who_leaves_frees_a_place_at_once,
    many_streams_at_once_are_those_of_one_at_a_time,
    a_full_queue_says_when_to_come_again,
    mistakes_are_named,
    strangers_are_refused,
    answers_carry_their_receipt_in_headers_too,
)
