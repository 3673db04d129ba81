"""From the engine's thread to the event loop: what it tells of each prompt, in order, without waking the loop twice.

Knows nothing of text, wires or energy. What comes for a request while nobody reads lies together in its inbox, bounded
by the tokens that its prompts may have.

    hub = Hub(asyncio.get_running_loop())             # the engine's listener
    hub.steps = steps                                 # who hears on the engine's thread, before the loop does
    inbox = hub.open(["a/0", "a/1"])                  # the prompts of one request
    engine.submit(...)
    for news in await inbox.news(): ...               # nothing in it: only time has passed
    hub.close(inbox)
"""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.generation import Ending, Step, Token

_Item = tuple[str, Sequence[Token], Ending | None, str]


@dataclass(frozen=True, slots=True)
class News:
    """Of one prompt: tokens, an ending, or both."""

    index: int
    """Which of the inbox's prompts."""
    tokens: tuple[Token, ...]
    ending: Ending | None = None
    reason: str = ""
    """Why it failed; else empty."""


class Inbox:
    """Of the prompts of one request. For the event loop."""

    __slots__ = ("_endings", "_here", "_tokens", "left", "prompt_ids")

    def __init__(self, prompt_ids: Sequence[str]) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.left = len(prompt_ids)
        """Prompts that the engine has not ended."""
        self._tokens: dict[int, list[Token]] = {}
        self._endings: dict[int, tuple[Ending, str]] = {}
        self._here = asyncio.Event()

    async def news(self) -> list[News]:
        """What has come; waits until something has, or until it is waked."""
        await self._here.wait()
        self._here.clear()
        tokens, self._tokens = self._tokens, {}
        endings, self._endings = self._endings, {}
        nothing: tuple[None, str] = (None, "")
        return [
            News(index, tuple(tokens.get(index, ())), *endings.get(index, nothing))
            for index in sorted(tokens.keys() | endings.keys())
        ]

    def put(self, index: int, tokens: Sequence[Token], ending: Ending | None, reason: str) -> None:
        """Add to it."""
        if tokens:
            self._tokens.setdefault(index, []).extend(tokens)
        if ending is not None:
            self._endings[index] = ending, reason
            self.left -= 1
        self._here.set()

    def wake(self) -> None:
        """Let whoever waits look up, though nothing has come."""
        self._here.set()


class StepListener(Protocol):
    """Who hears on the engine's own thread, before the event loop does."""

    def stepped(self, step: Step) -> None: ...
    def tokens(self, prompt_id: str, count: int) -> None: ...
    def ended(self, prompt_id: str) -> None: ...


class Hub:
    """The listener of one engine (app/models/generation/engine.py); delivers on `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.steps: StepListener | None = None
        self._cached_tokens: dict[str, int] = {}
        self._places: dict[str, tuple[Inbox, int]] = {}
        self._lock = threading.Lock()
        self._post: list[_Item] = []
        """Not delivered yet; whoever puts the first item here wakes the loop."""

    def __len__(self) -> int:
        return len(self._places)

    def open(self, prompt_ids: Sequence[str]) -> Inbox:
        """An inbox for prompts that are about to be submitted."""
        inbox = Inbox(prompt_ids)
        self._places.update((prompt_id, (inbox, index)) for index, prompt_id in enumerate(prompt_ids))
        return inbox

    def close(self, inbox: Inbox) -> None:
        """Drop what still comes for it; a second call does nothing."""
        for prompt_id in inbox.prompt_ids:
            self._places.pop(prompt_id, None)
            self._cached_tokens.pop(prompt_id, None)

    def cached_tokens(self, prompt_id: str) -> int:
        """Of the prompt's tokens, those that came from the prefix cache; until its inbox is closed."""
        return self._cached_tokens.get(prompt_id, 0)

    def wake_all(self) -> None:
        """Let everybody who waits look up."""
        for inbox in {id(inbox): inbox for inbox, _ in self._places.values()}.values():
            inbox.wake()

    # The engine's side

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        """New tokens of a prompt."""
        try:
            if self.steps is not None:
                self.steps.tokens(prompt_id, len(tokens))
        finally:  # whatever becomes of the books, nobody waits in vain
            self._put((prompt_id, tokens, None, ""))

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        """Nothing more comes for a prompt."""
        try:
            if self.steps is not None:
                self.steps.ended(prompt_id)
        finally:
            self._put((prompt_id, (), ending, reason))

    def stepped(self, step: Step) -> None:
        """The engine has made a step."""
        for work in step.works:
            if work.cached_tokens and work.prompt_id in self._places:
                self._cached_tokens[work.prompt_id] = work.cached_tokens
        if self.steps is not None:
            self.steps.stepped(step)

    def _put(self, item: _Item) -> None:
        with self._lock:
            self._post.append(item)
            is_first = len(self._post) == 1
        if is_first and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            post, self._post = self._post, []
        for prompt_id, tokens, ending, reason in post:
            place = self._places.get(prompt_id)
            if place is not None:
                inbox, index = place
                inbox.put(index, tokens, ending, reason)
