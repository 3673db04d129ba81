"""OpenAI's calls to a language model: chats and completions, whole or streamed; embeddings are in embedding.py.

Knows nothing of HTTP beyond what app/serving/openai_door.py hands in and takes back.

    door = OpenAIDoor(args, admission, handlers_of(model), counts)
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from app.clock import SystemClock
from app.domain.generation import Sampling, Token
from app.protocol import sse
from app.protocol.openai_answers import ChatWriter, Choice, CompletionWriter, Heading, Piece, Writer
from app.protocol.openai_errors import WireFault
from app.protocol.openai_logprobs import SpelledToken
from app.protocol.openai_prompts import PromptInput, check_vocabulary
from app.protocol.openai_requests import ChatRequest, CompletionRequest
from app.protocol.openai_usage import Usage
from app.serving.generation.embedding import Embedding
from app.serving.generation.model import GenerationModel
from app.serving.generation.running import Grown
from app.serving.generation.session import Session
from app.serving.http_door import RawHeaders
from app.serving.openai_door import Call, Events, Handler, Whole
from app.serving.receipts import PREFIX, Receipt, as_headers
from app.serving.settling import settle_of_query
from app.telemetry.generation import Asked, Operation
from app.units import NS_PER_S

_STILL_HERE = sse.comment("waiting")


@dataclass(slots=True)
class _Request:
    """A request that is read, and how it is to be answered."""

    session: Session
    writer: Writer
    samplings: Sequence[Sampling]
    prompts: int
    """Of which sequences i // n continue one each."""
    tells_usage: bool
    """With every piece."""
    settle_s: float


class Continuing:
    """The handler of `chat/completions` and of `completions`."""

    def __init__(self, model: GenerationModel) -> None:
        self._model = model

    async def __call__(self, call: Call) -> Whole | Events:
        """Raises WireFault, and what the engine raises."""
        if call.name == "completions":
            completion = await self._model.beside(len(call.body), CompletionRequest.parse, call.body)
            request = await self._completion(call, completion)
            stream = completion.stream
        else:
            chat = await self._model.beside(len(call.body), ChatRequest.parse, call.body)
            request = await self._chat(call, chat)
            stream = chat.stream
        request.session.begin()
        if stream:
            return Events(_Stream(self, request), _early_headers(request.session))
        return await self._whole(request)

    async def _chat(self, call: Call, request: ChatRequest) -> _Request:
        call.check_model(request.model, self._model.args)
        messages = [message.for_template() for message in request.messages]
        tokens = await self._model.beside(len(call.body), self._model.generator.tokenizer.chat, messages)
        return self._request(call, request, [tokens], ChatWriter(self._heading("chatcmpl"), request))

    async def _completion(self, call: Call, request: CompletionRequest) -> _Request:
        call.check_model(request.model, self._model.args)
        generator = self._model.generator
        check_vocabulary(request.prompts, "prompt", generator.engine.vocabulary)
        tokens = await self._model.beside(len(call.body), self._tokens, request.prompts)
        echoes = [
            each if isinstance(each, str) else generator.tokenizer.decode(each)
            for each in (request.prompts if request.echo else ())
        ]
        return self._request(call, request, tokens, CompletionWriter(self._heading("cmpl"), request, echoes))

    def _tokens(self, prompts: Sequence[PromptInput]) -> list[Sequence[int]]:
        encode = self._model.generator.tokenizer.encode
        return [encode(each) if isinstance(each, str) else each for each in prompts]

    def _request(
        self, call: Call, request: ChatRequest | CompletionRequest, prompts: list[Sequence[int]], writer: Writer
    ) -> _Request:
        """Choice i continues prompt i // n."""
        model, bound = self._model, self._model.args.max_choices
        if request.choices > bound:
            raise WireFault(
                f"at most {bound} choices are made here, got {request.choices}", "n", "integer_above_max_value"
            )
        limits = model.limits
        wanted = [
            (prompts[choice // request.n], request.sampling(limits, len(prompts[choice // request.n]), choice))
            for choice in range(request.choices)
        ]
        operation: Operation = "chat" if isinstance(request, ChatRequest) else "text_completion"
        asked = Asked.of(operation, request.model, model.label, request.choices, wanted[0][1], request.stream)
        session = model.session(asked, wanted, call.caller, call.scope["headers"])
        settle_s = settle_of_query(call.scope.get("query_string", b""))
        samplings = [sampling for _, sampling in wanted]
        return _Request(session, writer, samplings, len(prompts), request.running_usage, settle_s)

    def _heading(self, kind: str) -> Heading:
        created_s = SystemClock().wall_ns() // NS_PER_S
        return Heading(f"{kind}-{uuid.uuid4().hex}", created_s, self._model.label, self._model.fingerprint)

    async def _whole(self, request: _Request) -> Whole:
        session = request.session
        try:
            texts: list[list[str]] = [[] for _ in request.samplings]
            tokens: list[list[SpelledToken]] = [[] for _ in request.samplings]
            finishes = {}
            async for grown in session.pieces():
                for each in grown:
                    texts[each.index].append(each.text)
                    tokens[each.index] += self.spelled(each, request)
                    if each.finish:
                        finishes[each.index] = each.finish
            receipt = await session.finish(request.settle_s)
        finally:
            session.leave()
        choices = [Choice("".join(text), finishes[index], tuple(tokens[index])) for index, text in enumerate(texts)]
        body = request.writer.whole(choices, usage_of(request, receipt))
        return Whole(body, _headers(receipt, session))

    def spelled(self, grown: Grown, request: _Request) -> tuple[SpelledToken, ...]:
        """The tokens of a piece with their probabilities, where they were asked for."""
        if request.samplings[grown.index].top_logprobs < 0:
            return ()
        return tuple(self._spelled(token) for token in grown.tokens)

    def _spelled(self, token: Token) -> SpelledToken:
        tokenizer = self._model.generator.tokenizer
        top = tuple(
            SpelledToken(tokenizer.text_of(each), tokenizer.bytes_of(each), logprob) for each, logprob in token.top
        )
        own = token.logprob if token.logprob is not None else 0.0
        return SpelledToken(tokenizer.text_of(token.id), tokenizer.bytes_of(token.id), own, top)


class _Stream:
    """The events of one request. Closing it frees what still runs, also where nothing was ever taken of it."""

    def __init__(self, handler: Continuing, request: _Request) -> None:
        self._handler, self._request = handler, request
        self._events = self._written()

    def __aiter__(self) -> "AsyncIterator[bytes]":
        return self._events

    async def aclose(self) -> None:
        await self._events.aclose()
        self._request.session.leave()

    async def _written(self) -> AsyncGenerator[bytes, None]:
        request, session, writer = self._request, self._request.session, self._request.writer
        opened: set[int] = set()
        async for grown in session.pieces():
            events = [] if grown else [_STILL_HERE]
            for each in grown:
                if each.index not in opened:
                    opened.add(each.index)
                    events.append(writer.opening(each.index))
                running = usage_of(request, session.receipt()) if request.tells_usage else None
                tokens = self._handler.spelled(each, request)
                if each.text or tokens:
                    events.append(writer.piece(each.index, Piece(each.text, tokens), running))
                if each.finish:
                    events.append(writer.ending(each.index, each.finish, running))
            if piece := b"".join(events):
                yield piece
        yield writer.closing(usage_of(request, await session.finish(request.settle_s)))


def handlers_of(model: GenerationModel) -> Mapping[str, Handler]:
    """By the name of the call."""
    continuing = Continuing(model)
    return {"chat/completions": continuing, "completions": continuing, "embeddings": Embedding(model)}


def usage_of(request: _Request, receipt: Receipt) -> Usage:
    """Of all choices together; a prompt that several choices continue counts once."""
    session = request.session
    first_choices = session.cached_tokens[:: max(1, len(request.samplings) // request.prompts)]
    return Usage(session.prompt_tokens, session.completion_tokens, sum(first_choices), receipt)


def _early_headers(session: Session) -> RawHeaders:
    """What is known when a stream begins: under which id its receipt will be found."""
    told = [(f"{PREFIX}receipt_id".encode(), session.receipt_id.encode())] if session.receipt_id else []
    return [*told, *_raw(session.trace)]


def _headers(receipt: Receipt, session: Session) -> RawHeaders:
    return [*as_headers(receipt), *_raw(session.trace)]


def _raw(trace: Sequence[tuple[str, str]]) -> RawHeaders:
    return [(name.encode(), value.encode()) for name, value in trace]
