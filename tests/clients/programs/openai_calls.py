"""What the programs of the `openai` package share: its client, over TLS, and the calls that they all make.

The key is in OPENAI_API_KEY, where the client looks for it. `tiny` is a random language model with a context of 96
tokens, so that texts mean nothing: what is checked is that they agree with each other.
"""

import ssl

import openai
from checks import Doors

MODEL = "tiny"
MESSAGES = [{"role": "user", "content": "def add(a, b):"}]
LONG = 50
"""Tokens, as many as the context has room for beside the messages."""
PUBLISHED_TOKENS = 48
"""`max_new_tokens` that the model was published with."""


def client_of(doors: Doors, strict: bool = True, **options) -> openai.OpenAI:
    """`strict`: what is not of its types is an error; the client's default is to take anything."""
    context = ssl.create_default_context(cafile=doors.ca)
    http_client = openai.DefaultHttpxClient(verify=context)
    base_url = f"https://{doors.http}/v1"
    return openai.OpenAI(base_url=base_url, http_client=http_client, _strict_response_validation=strict, **options)


def refusal_of(kind, call):
    try:
        call()
    except kind as refusal:
        return refusal
    raise AssertionError("nothing was refused")


def chat(client, **wishes):
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, **({"max_tokens": 12} | wishes))


def completion(client, **wishes):
    return client.completions.create(**({"model": MODEL, "prompt": "def add(", "max_tokens": 12} | wishes))


def contents(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
