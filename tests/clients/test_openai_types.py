"""What we answer against the types of the `openai` package, and its parameters against our page of them."""

import json
import re
import subprocess

import numpy as np
import pytest

from app.protocol.openai_answers import ChatWriter, Choice, CompletionWriter, Heading, Piece
from app.protocol.openai_embeddings import EmbeddingRequest, build_embeddings
from app.protocol.openai_logprobs import SpelledToken
from app.protocol.openai_models import ModelEntry, build_model
from app.protocol.openai_requests import ChatRequest, CompletionRequest
from app.protocol.openai_usage import Usage
from tests.fixtures.client_environments import client_python
from tests.fixtures.client_programs import PROGRAMS
from tests.fixtures.ray_cluster import ROOT

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

PAGE = ROOT / "docs" / "generation" / "openai.md"
HEADING = Heading("x-1", 1_800_000_000, "pycoder@int8", "fp-1")
USAGE = Usage(
    5, 3, 4, {"receipt_id": "r", "energy_uj": 900, "uj_per_token": 1.5, "grade": "counter", "provisional": True}
)
TOKEN = SpelledToken("a", b"a", -0.25, (SpelledToken("b", b"b", -1.5),))
STREAM = {"stream": True, "stream_options": {"continuous_usage_stats": True}}


def chats(**changes):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | changes
    return ChatWriter(HEADING, ChatRequest.parse(json.dumps(body).encode()))


def completions(**changes):
    body = {"model": "m", "prompt": "hi"} | changes
    return CompletionWriter(HEADING, CompletionRequest.parse(json.dumps(body).encode()), ("hi",))


def streamed(writer):
    """The chunks of a stream of one choice."""
    pieces = [Piece("a", (TOKEN,)), Piece("b")]
    stream = [writer.opening(0), *(writer.piece(0, piece, USAGE) for piece in pieces), writer.ending(0, "stop")]
    *chunks, _done, _rest = b"".join([*stream, writer.closing(USAGE)]).split(b"\n\n")
    return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]


def samples():
    """Every kind of answer, as (type of theirs, body of ours)."""
    choices = [Choice("ab", "stop", (TOKEN, TOKEN)), Choice("", "length")]
    for changes in ({"n": 2}, {"n": 2, "logprobs": True, "top_logprobs": 1}):
        yield "ChatCompletion", json.loads(chats(**changes).whole(choices, USAGE))
    for changes in ({}, {"logprobs": True}, {"stream": True}):
        yield from (("ChatCompletionChunk", chunk) for chunk in streamed(chats(**(STREAM | changes))))
    for changes in ({}, {"logprobs": 0}, {"logprobs": 2}, {"echo": True}):
        yield "Completion", json.loads(completions(**changes).whole(choices[:1], USAGE))
    request = EmbeddingRequest.parse(b'{"model": "m", "input": ["a", "b"]}')
    yield "CreateEmbeddingResponse", json.loads(build_embeddings(request, "m", np.ones((2, 3), np.float32), USAGE))
    yield "Model", json.loads(build_model(ModelEntry("pycoder", 7, "joulekeeper", {"uj_per_token": 1.5})))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the program in the client's environment found."""
    file = tmp_path_factory.mktemp("openai") / "samples.json"
    file.write_text(json.dumps([{"type": name, "body": body} for name, body in samples()]))
    command = [str(client_python("openai")), str(PROGRAMS / "openai_types.py"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_answer_is_of_the_types_that_the_client_reads(told):
    assert told["checked"] >= 20
    assert told["faults"] == []


@pytest.mark.parametrize("kind", ["chat", "completion", "embedding"])
def test_every_parameter_that_the_client_knows_is_on_the_page(told, kind):
    documented = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert set(told["parameters"][kind]) - documented == set()
