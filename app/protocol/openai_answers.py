"""Answers of /v1/chat/completions and /v1/completions as bytes: whole, or as the chunks of a stream.

Knows nothing of servers or engines. One writer answers one request; both kinds are used alike:

    writer = ChatWriter(Heading("chatcmpl-7", created_s, "pycoder"), request)
    body = writer.whole([Choice("def f():", "stop")], usage)            # not streamed; or
    yield writer.opening(0)                                             # before a choice's first piece
    yield writer.piece(0, Piece("def"), running)                        # `running`: the usage so far, if it was asked
    yield writer.ending(0, "stop")
    yield writer.closing(usage)                                         # usage, if it was asked, and DONE

Pure but for the offsets that a stream of probabilities has to count; raises nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson

from app.protocol.openai_logprobs import SpelledToken, of_chat, of_completion
from app.protocol.openai_requests import ChatRequest, CompletionRequest
from app.protocol.openai_usage import Usage
from app.protocol.sse import DONE, event

Finish = Literal["stop", "length"]
"""How a choice that is complete ended. What was cancelled or failed has no answer but an error."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What every part of an answer begins with."""

    id: str
    """`chatcmpl-...` or `cmpl-...`."""
    created_s: int
    """Unix time."""
    model: str
    """Who answered, as its clients call it."""
    fingerprint: str | None = None
    """Changes when the same seed may give other tokens: of the model's files, engine and precision."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a choice as it grows."""

    text: str
    tokens: tuple[SpelledToken, ...] = ()
    """Where probabilities were asked for: the tokens since the piece before, which may be of text still held back."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole continuation."""

    text: str
    finish: Finish
    tokens: tuple[SpelledToken, ...] = ()
    """Where probabilities were asked for."""


class Writer(Protocol):
    """Writes the answer of one request."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """The body of an answer that is not streamed, choices in order."""

    def opening(self, index: int) -> bytes:
        """The events before the first piece of choice `index`; may be none."""

    def piece(self, index: int, piece: Piece, running: Usage | None = None) -> bytes:
        """The event with more of choice `index`."""

    def ending(self, index: int, finish: Finish, running: Usage | None = None) -> bytes:
        """The event that ends choice `index`."""

    def closing(self, usage: Usage) -> bytes:
        """The events that end the stream."""


class _Chunks:
    """Chunks of either kind, the same but for what a choice holds."""

    def __init__(self, heading: Heading, kind: str, request: ChatRequest | CompletionRequest) -> None:
        self._head: dict[str, Any] = {
            "id": heading.id,
            "object": kind,
            "created": heading.created_s,
            "model": heading.model,
            **({} if heading.fingerprint is None else {"system_fingerprint": heading.fingerprint}),
        }
        self._include_usage = request.include_usage
        self._running_usage = request.running_usage

    def event(self, choice: dict[str, Any], running: Usage | None = None) -> bytes:
        """One chunk with one choice."""
        chunk = self._head | {"choices": [choice]}
        if running is not None and self._running_usage:
            chunk["usage"] = running.described()
        elif self._include_usage:
            chunk["usage"] = None
        return event(orjson.dumps(chunk))

    def closing(self, usage: Usage) -> bytes:
        """The chunk of the whole usage, which has no choice, if it was asked for; and the end."""
        if not self._include_usage:
            return DONE
        return event(orjson.dumps(self._head | {"choices": [], "usage": usage.described()})) + DONE

    def whole(self, kind: str, choices: list[dict[str, Any]], usage: Usage) -> bytes:
        """A body with all choices."""
        return orjson.dumps(self._head | {"object": kind, "choices": choices, "usage": usage.described()})


class ChatWriter:
    """`Writer` of a chat: the first chunk of each choice says who speaks."""

    def __init__(self, heading: Heading, request: ChatRequest) -> None:
        self._chunks = _Chunks(heading, "chat.completion.chunk", request)
        self._tells_tokens = request.top_logprobs >= 0

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        told = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice.tokens),
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(choices)
        ]
        return self._chunks.whole("chat.completion", told, usage)

    def opening(self, index: int) -> bytes:
        return self._event(index, {"role": "assistant", "content": "", "refusal": None})

    def piece(self, index: int, piece: Piece, running: Usage | None = None) -> bytes:
        return self._event(index, {"content": piece.text}, self._logprobs(piece.tokens), running=running)

    def ending(self, index: int, finish: Finish, running: Usage | None = None) -> bytes:
        return self._event(index, {}, finish=finish, running=running)

    def closing(self, usage: Usage) -> bytes:
        return self._chunks.closing(usage)

    def _event(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish: Finish | None = None,
        running: Usage | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._chunks.event(choice, running)

    def _logprobs(self, tokens: Sequence[SpelledToken]) -> dict[str, Any] | None:
        return of_chat(tokens) if self._tells_tokens else None


class CompletionWriter:
    """`Writer` of completions: `echoes` are the texts of the prompts, wanted where the request wants them echoed."""

    def __init__(self, heading: Heading, request: CompletionRequest, echoes: Sequence[str] = ()) -> None:
        self._chunks = _Chunks(heading, "text_completion", request)
        self._n = request.n
        self._alternatives = request.top_logprobs
        self._echoes = echoes if request.echo else ()
        self._offsets: dict[int, int] = {}
        """Choice to the characters of its tokens told so far."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        told = [
            self._choice(index, self._echo(index) + choice.text, self._logprobs(index, choice.tokens), choice.finish)
            for index, choice in enumerate(choices)
        ]
        return self._chunks.whole("text_completion", told, usage)

    def opening(self, index: int) -> bytes:
        echo = self._echo(index)
        return self._chunks.event(self._choice(index, echo)) if echo else b""

    def piece(self, index: int, piece: Piece, running: Usage | None = None) -> bytes:
        choice = self._choice(index, piece.text, self._logprobs(index, piece.tokens))
        return self._chunks.event(choice, running)

    def ending(self, index: int, finish: Finish, running: Usage | None = None) -> bytes:
        return self._chunks.event(self._choice(index, "", finish=finish), running)

    def closing(self, usage: Usage) -> bytes:
        return self._chunks.closing(usage)

    def _choice(
        self, index: int, text: str, logprobs: dict[str, Any] | None = None, finish: Finish | None = None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._n] if self._echoes else ""

    def _logprobs(self, index: int, tokens: Sequence[SpelledToken]) -> dict[str, Any] | None:
        if self._alternatives < 0:
            return None
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + sum(len(token.text) for token in tokens)
        return of_completion(tokens, offset, self._alternatives)
