"""LiteLLM, which brings an older `openai` package, as its documentation shows it: over TLS, key in OPENAI_API_KEY."""

import litellm
from checks import Doors, run

MESSAGES = [{"role": "user", "content": "def add(a, b):"}]


def ask(doors: Doors, **wishes):
    litellm.ssl_verify = doors.ca
    return litellm.completion("openai/tiny", MESSAGES, api_base=f"https://{doors.http}/v1", **wishes)


def a_chat_is_answered(doors):
    answer = ask(doors, max_tokens=12, temperature=0)
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 12
    assert answer.usage.joulekeeper["receipt_id"]


def a_stream_is_the_whole(doors):
    whole = ask(doors, max_tokens=12, seed=3).choices[0].message.content
    chunks = ask(doors, max_tokens=12, seed=3, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


def a_prompt_that_is_too_long_is_known_as_such(doors):
    try:
        ask(doors, max_tokens=10**6, num_retries=0)
    except litellm.ContextWindowExceededError:
        return
    raise AssertionError("nothing was refused")


run(
    a_chat_is_answered,
    a_stream_is_the_whole,
    a_prompt_that_is_too_long_is_known_as_such,
)
