"""LangChain's OpenAI client, used as its documentation shows, over TLS with the key in OPENAI_API_KEY."""

import ssl

from checks import Doors, run
from langchain_core.exceptions import ContextOverflowError
from langchain_openai import ChatOpenAI
from openai import DefaultHttpxClient

MESSAGES = [("system", "You continue Python."), ("human", "def add(a, b):")]


def model_of(doors: Doors, **wishes) -> ChatOpenAI:
    http_client = DefaultHttpxClient(verify=ssl.create_default_context(cafile=doors.ca))
    return ChatOpenAI(model="tiny", base_url=f"https://{doors.http}/v1", http_client=http_client, **wishes)


def a_conversation_is_answered(doors):
    answer = model_of(doors, max_tokens=12, temperature=0).invoke(MESSAGES)
    assert answer.usage_metadata["output_tokens"] <= 12
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.response_metadata["token_usage"]["joulekeeper"]["receipt_id"]


def a_stream_is_the_whole(doors):
    model = model_of(doors, max_tokens=12, seed=3, stream_usage=True)
    chunks = list(model.stream(MESSAGES))
    assert "".join(chunk.text for chunk in chunks) == model.invoke(MESSAGES).text
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) > 0


def a_prompt_that_is_too_long_is_known_as_such(doors):
    try:
        model_of(doors, max_tokens=10**6).invoke(MESSAGES)
    except ContextOverflowError:
        return
    raise AssertionError("nothing was refused")


run(
    a_conversation_is_answered,
    a_stream_is_the_whole,
    a_prompt_that_is_too_long_is_known_as_such,
)
