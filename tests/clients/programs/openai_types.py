"""Answers of ours against the `openai` package's own types: no key it does not know, no value of another type.

Runs in the client's environment; knows nothing of the package or of pytest. Reads a JSON array of {"type", "body"}
from the file it is given, prints {"faults": [...], "parameters": {request: [names]}}.
"""

import json
import sys
from typing import get_type_hints

from openai.types import Completion, CreateEmbeddingResponse, Model, completion_create_params, embedding_create_params
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import ValidationError

TYPES = {
    each.__name__: each for each in (ChatCompletion, ChatCompletionChunk, Completion, CreateEmbeddingResponse, Model)
}
OURS = {"joulekeeper"}
PARAMETERS = {
    "chat": chat_create_params.CompletionCreateParamsStreaming,
    "completion": completion_create_params.CompletionCreateParamsStreaming,
    "embedding": embedding_create_params.EmbeddingCreateParams,
}


def faults_of(name, body):
    try:
        read = TYPES[name].model_validate_json(json.dumps(body), strict=True)
    except ValidationError as error:
        return [f"{name}: {error}"]
    unknown = [f"{name}: unknown key {path}" for path in unknown_keys(read)]
    return unknown if read.model_dump(exclude_unset=True) == body else [*unknown, f"{name}: {body} became {read!r}"]


def unknown_keys(value, path=""):
    if isinstance(value, list):
        for position, each in enumerate(value):
            yield from unknown_keys(each, f"{path}[{position}]")
    elif hasattr(type(value), "model_fields"):
        yield from (f"{path}.{name}" for name in value.model_extra or {} if name not in OURS)
        for name in type(value).model_fields:
            yield from unknown_keys(getattr(value, name), f"{path}.{name}")


with open(sys.argv[1]) as file:
    samples = json.load(file)
faults = [fault for sample in samples for fault in faults_of(sample["type"], sample["body"])]
parameters = {name: sorted(get_type_hints(each)) for name, each in PARAMETERS.items()}
json.dump({"faults": faults, "parameters": parameters, "checked": len(samples)}, sys.stdout)
