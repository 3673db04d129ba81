"""OpenAI's batches and files on the wire: lines in, objects out, in their own shapes.

Knows no server, store or model. A line asks for one answer of one model, by OpenAI's calls or by the Open Inference
Protocol:

    {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "minilm", "input": "x"}}
    {"custom_id": "b", "method": "POST", "url": "/v2/models/minilm/infer", "body": {"inputs": [...]}}

    lines = parse_lines(content, "/v1/embeddings")       # raises BadLines naming every line at fault
    create = CreateBatch.parse(body)                     # raises WireFault

https://platform.openai.com/docs/api-reference/batch (read 2026-11-23).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.errors import InvalidInput
from app.protocol.openai_errors import WireFault
from app.protocol.openai_fields import Fields, read_fields, shown

MAX_REQUESTS = 50_000
"""As OpenAI's own."""
MAX_METADATA = 16
MAX_WINDOW_S, MIN_WINDOW_S = 7 * 86_400, 60
CALLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
INFER = "/v2/models/{model}/infer"
"""As `endpoint` of a batch: any model's inference call."""

_INFER = re.compile(r"/v2/models/([A-Za-z0-9._+@-]+)(?:/versions/[A-Za-z0-9._+-]+)?/infer")
_WINDOW = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MAX_ID_CHARS, _FAULTS_TOLD = 512, 20


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch."""

    number: int
    """From 1, as in the file."""
    custom_id: str
    url: str
    model: str
    """As the line names it: `pycoder@int8`."""
    body: bytes


class BadLines(InvalidInput):
    """`BadLines(faults)`: what is wrong, each `(line number, code, sentence)`, at most 20 of them."""

    def __str__(self) -> str:
        faults: Sequence[tuple[int, str, str]] = self.args[0]
        return "; ".join(f"line {number}: {sentence}" for number, _, sentence in faults)


@dataclass(frozen=True, slots=True)
class CreateBatch:
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    window_s: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: bytes) -> "CreateBatch":
        """Raises WireFault."""
        fields = read_fields(body)
        endpoint = fields.required_text("endpoint")
        if endpoint not in (*CALLS, INFER) and not _INFER.fullmatch(endpoint):
            raise WireFault(
                f"endpoint must be one of {', '.join(CALLS)}, {INFER}, got {shown(endpoint)}",
                "endpoint",
                "invalid_value",
            )
        window = fields.text("completion_window") or "24h"
        return cls(fields.required_text("input_file_id"), endpoint, window, window_s(window), _metadata(fields))


def window_s(text: str) -> int:
    """Seconds of `24h`, `90m`, `2d`. Raises WireFault."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not MIN_WINDOW_S <= seconds <= MAX_WINDOW_S:
        raise WireFault(
            f"completion_window must be from 1m to 7d, such as 24h, got {shown(text)}",
            "completion_window",
            "invalid_value",
        )
    return seconds


def parse_lines(content: bytes, endpoint: str) -> list[Line]:
    """Every request of a file whose lines all call `endpoint`. Raises BadLines; WireFault for an empty file or one of
    more than MAX_REQUESTS."""
    lines: list[Line] = []
    faults: list[tuple[int, str, str]] = []
    seen: set[str] = set()
    for number, text in enumerate(content.splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = _line(number, text, endpoint)
            if line.custom_id in seen:
                raise WireFault(
                    f"custom_id {shown(line.custom_id)} stands there twice", "custom_id", "duplicate_custom_id"
                )
        except WireFault as fault:
            faults.append((number, fault.code, str(fault)))
            continue
        seen.add(line.custom_id)
        lines.append(line)
        if len(lines) > MAX_REQUESTS:
            raise WireFault(f"a batch has at most {MAX_REQUESTS} requests; divide the file", None, "too_many_tasks")
    if faults:
        raise BadLines(faults[:_FAULTS_TOLD])
    if not lines:
        raise WireFault("the file has no requests; a line is one JSON object", None, "empty_batch")
    return lines


def _line(number: int, text: bytes, endpoint: str) -> Line:
    fields = read_fields(text)
    custom_id, url = fields.required_text("custom_id"), fields.required_text("url")
    if len(custom_id) > _MAX_ID_CHARS:
        raise WireFault(
            f"custom_id must have at most {_MAX_ID_CHARS} characters", "custom_id", "string_above_max_length"
        )
    if (fields.text("method") or "POST") != "POST":
        raise WireFault(f"method must be POST, got {shown(fields.get('method'))}", "method", "invalid_method")
    inferring = _INFER.fullmatch(url)
    if url != endpoint and not (inferring and endpoint == INFER):
        raise WireFault(f"url must be the batch's endpoint {endpoint}, got {shown(url)}", "url", "mismatched_endpoint")
    body = fields.object("body")
    if body is None:
        raise fields.missing("body")
    if body.flag("stream"):
        raise WireFault("body.stream must be false: nobody listens", "body.stream", "unsupported_value")
    model = inferring[1] if inferring else body.required_text("model")
    return Line(number, custom_id, url, model, orjson.dumps(fields.get("body")))


def _metadata(fields: Fields) -> dict[str, str]:
    given = fields.object("metadata")
    values: Any = fields.get("metadata") if given else {}
    if len(values) > MAX_METADATA or not all(isinstance(value, str) for value in values.values()):
        raise WireFault(f"metadata must be at most {MAX_METADATA} texts", "metadata", "invalid_type")
    return dict(values)


# Objects


def file_object(file_id: str, name: str, purpose: str, size: int, created_s: float) -> dict[str, Any]:
    """A file as OpenAI tells it."""
    return {
        "id": file_id,
        "object": "file",
        "bytes": size,
        "created_at": int(created_s),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }


def list_object(items: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of anything with ids."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def answered_line(
    batch_id: str, number: int, custom_id: str, status: int, request_id: str, body: bytes, extra: Mapping[str, Any]
) -> bytes:
    """One line of results: what the model answered; `body` is JSON, or told as a text."""
    try:
        told: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = {"text": body.decode(errors="replace")}
    line = {
        "id": f"{batch_id}-{number}",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": request_id, "body": told},
        "error": None,
        "joulekeeper": dict(extra),
    }
    return orjson.dumps(line) + b"\n"


def unanswered_line(batch_id: str, number: int, custom_id: str, code: str, message: str) -> bytes:
    """One line of errors: nobody answered."""
    error = {"code": code, "message": message}
    line = {"id": f"{batch_id}-{number}", "custom_id": custom_id, "response": None, "error": error}
    return orjson.dumps(line) + b"\n"


def models_of(lines: Sequence[Line]) -> Iterator[str]:
    """Each model once, without its version, in order of the lines: what a scope is asked for."""
    yield from dict.fromkeys(line.model.partition("@")[0] for line in lines)
