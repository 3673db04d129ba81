"""The OpenAPI description of OpenAI's calls, at the service's own door and at a model's.

As openapi.py, which describes the Open Inference Protocol: data in, nothing else; bounds are those that the calls are
read by. Parameters that are honoured are here, what becomes of others is in docs/generation/openai.md.

    document["paths"] |= openai_paths()
    document["components"]["schemas"] |= openai_schemas()
"""

from app.protocol.openai_embeddings import FORMATS, MAX_INPUTS
from app.protocol.openai_messages import ROLES
from app.protocol.openai_requests import CHAT_ALTERNATIVES, COMPLETION_ALTERNATIVES
from app.protocol.openai_usage import ENERGY_FIELDS
from app.protocol.openapi_schemas import (
    COUNT,
    FLAG,
    TEXT,
    JsonObject,
    answer_of,
    list_of,
    model_prefixes,
    object_of,
    ref,
)
from app.protocol.sampling import MAX_SEQUENCES, MAX_STOPS, SEED, TEMPERATURE, TOP_K, TOP_P

_MODEL: JsonObject = {"type": "string", "minLength": 1, "description": "`NAME`, or `NAME@VERSION`."}
_CALLS = {
    "chat/completions": ("chat", "A conversation, continued", "ChatRequest", "ChatAnswer"),
    "completions": ("completion", "A text, continued", "CompletionRequest", "CompletionAnswer"),
    "embeddings": ("embedding", "Texts as vectors", "EmbeddingRequest", "EmbeddingAnswer"),
}


def openai_paths() -> JsonObject:
    """Path to its operations: the model is named in the body alone, or in the path, too."""
    paths: JsonObject = {}
    for call, (identifier, summary, request, answer) in _CALLS.items():
        paths[f"/v1/{call}"] = {"post": _call(f"openai_{identifier}", summary, request, answer)}
        for prefix, named, suffix in model_prefixes():
            operation = _call(f"model_{identifier}{suffix}", summary, request, answer)
            paths[f"{prefix}/v1/{call}"] = {"parameters": named, "post": operation}
    return paths


def openai_schemas() -> JsonObject:
    """Name to schema of everything that the operations refer to."""
    error = {"message": TEXT, "type": TEXT, "param": _or_null(TEXT), "code": _or_null(TEXT)}
    usage = {"prompt_tokens": COUNT, "total_tokens": COUNT}
    energy = {"type": "object", "description": f"Of the receipt: {', '.join(ENERGY_FIELDS)}."}
    return {
        "OpenAIError": object_of({"error": object_of(error)}),
        "OpenAIUsage": object_of(usage, completion_tokens=COUNT, joulekeeper=energy),
        **_requests(),
        **_answers(),
    }


def _requests() -> JsonObject:
    text = object_of({"type": {"const": "text"}, "text": TEXT})
    content = {"anyOf": [TEXT, list_of(text)]}
    message = object_of({"role": {"type": "string", "enum": list(ROLES)}, "content": content}, name=TEXT)
    # A prompt is a text or its tokens, and there may be many.
    inputs = {"anyOf": [TEXT, list_of(TEXT), list_of(COUNT), list_of(list_of(COUNT))]}
    return {
        "ChatRequest": object_of(
            {"model": _MODEL, "messages": list_of(message) | {"minItems": 1}},
            **_sampling(),
            max_completion_tokens={"type": "integer", "minimum": 1},
            logprobs=FLAG,
            top_logprobs=_range("integer", 0, CHAT_ALTERNATIVES),
        ),
        "CompletionRequest": object_of(
            {"model": _MODEL, "prompt": inputs},
            **_sampling(),
            echo=FLAG,
            logprobs=_range("integer", 0, COMPLETION_ALTERNATIVES),
        ),
        "EmbeddingRequest": object_of(
            {"model": _MODEL, "input": inputs | {"description": f"At most {MAX_INPUTS}."}},
            encoding_format={"type": "string", "enum": list(FORMATS)},
            dimensions={"type": "integer", "minimum": 1},
            user=TEXT,
        ),
    }


def _sampling() -> JsonObject:
    """What both kinds of generation take."""
    return {
        "max_tokens": {"type": "integer", "minimum": 1},
        "n": _range("integer", 1, MAX_SEQUENCES),
        "temperature": _range("number", *TEMPERATURE),
        "top_p": _range("number", *TOP_P),
        "top_k": _range("integer", *TOP_K),
        "seed": _range("integer", *SEED),
        "stop": {"anyOf": [TEXT, list_of(TEXT) | {"maxItems": MAX_STOPS}]},
        "stream": FLAG,
        "stream_options": {"type": "object", "properties": {"include_usage": FLAG, "continuous_usage_stats": FLAG}},
        "user": TEXT,
    }


def _answers() -> JsonObject:
    head = {"object": TEXT, "model": TEXT}
    generated = {"id": TEXT, "created": COUNT, **head, "choices": list_of({"type": "object"})}
    vector = {"anyOf": [list_of({"type": "number"}), TEXT]}
    vectors = list_of(object_of({"object": TEXT, "index": COUNT, "embedding": vector}))
    usage = {"usage": ref("OpenAIUsage")}
    return {
        "ChatAnswer": object_of({**generated, **usage}),
        "CompletionAnswer": object_of({**generated, **usage}),
        "EmbeddingAnswer": object_of({**head, "data": vectors, **usage}),
    }


def _call(identifier: str, summary: str, request: str, answer: str) -> JsonObject:
    told = answer_of(summary, answer)
    if request != "EmbeddingRequest":
        told["content"]["text/event-stream"] = {"schema": TEXT}
    return {
        "operationId": identifier,
        "summary": summary,
        "tags": ["openai"],
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref(request)}}},
        "responses": {"200": told, "default": answer_of("A refusal", "OpenAIError")},
    }


def _range(kind: str, low: float, high: float) -> JsonObject:
    return {"type": kind, "minimum": low, "maximum": high}


def _or_null(schema: JsonObject) -> JsonObject:
    return schema | {"type": [schema["type"], "null"]}
