"""The sequences of one request while they are generated: from tokens to text, to endings, to nothing left behind.

Knows nothing of wires, accounts or energy.

    running = Running(engine, hub, prompts, texts)
    running.submit()                                   # raises what the engine raises
    while not running.is_finished:
        for grown in await running.grown(): ...        # may be none: only time has passed
    await running.ended()                              # the engine works for none of them any more
    running.close()                                    # in any case; frees what still runs

`grown` raises JoulekeeperError where a sequence failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.generation import Prompt, Token
from app.errors import JoulekeeperError, Unavailable
from app.models.generation.engine import GenerationEngine
from app.protocol.openai_answers import Finish
from app.serving.generation.hub import Hub, Inbox, News


class Texts(Protocol):
    """The text of one sequence; app/models/generation/text.py."""

    stopped: bool

    def feed(self, tokens: Sequence[int]) -> str: ...
    def finish(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Grown:
    """What one sequence has more than before."""

    index: int
    text: str
    tokens: tuple[Token, ...]
    """They may be of text that is still held back; where a stop string was found, the engine may have made more."""
    finish: Finish | None = None


class Running:
    """Of one request. For one event loop."""

    def __init__(self, engine: GenerationEngine, hub: Hub, prompts: Sequence[Prompt], texts: Sequence[Texts]) -> None:
        self._engine, self._hub, self._prompts, self._texts = engine, hub, prompts, texts
        self._inbox = Inbox(())
        self.finishes: list[Finish | None] = [None] * len(prompts)
        self.tokens = [0] * len(prompts)
        """Generated for each sequence, as far as it was followed."""

    @property
    def is_finished(self) -> bool:
        """Whether every sequence has come to its end."""
        return None not in self.finishes

    @property
    def has_ended(self) -> bool:
        """Whether the engine works for none of them any more."""
        return not self._inbox.left

    @property
    def cached_tokens(self) -> list[int]:
        """For each sequence, tokens of its prompt that came from the prefix cache."""
        return [self._hub.cached_tokens(prompt.id) for prompt in self._prompts]

    def submit(self) -> None:
        """Hand all of them to the engine, or none: raises what the engine raises. Those that it took before are then
        cancelled and end as such; those that it did not take have ended."""
        self._inbox = self._hub.open([prompt.id for prompt in self._prompts])
        for position, prompt in enumerate(self._prompts):
            try:
                self._engine.submit(prompt)
            except Exception:
                for untaken in self._prompts[position:]:
                    self._hub.ended(untaken.id, "cancelled", "")
                self.cancel()
                raise

    async def grown(self) -> list[Grown]:
        """What has come since the last time; waits for something, or for time to pass."""
        return [self._grow(news) for news in await self._inbox.news() if self.finishes[news.index] is None]

    async def ended(self) -> None:
        """Wait until the engine works for none of them any more."""
        while not self.has_ended:
            await self._inbox.news()

    def cancel(self) -> None:
        """Free the places of those that still run."""
        for prompt, finish in zip(self._prompts, self.finishes, strict=True):
            if finish is None:
                self._engine.cancel(prompt.id)

    def close(self) -> None:
        """Forget them; whatever still runs is cancelled."""
        if not self.has_ended:
            self.cancel()
        self._hub.close(self._inbox)

    def _grow(self, news: News) -> Grown:
        texts, shown, kept = self._texts[news.index], "", 0
        for token in news.tokens:
            shown += texts.feed((token.id,))
            kept += 1
            if texts.stopped:
                break
        self.tokens[news.index] += kept
        finish: Finish | None = None
        if texts.stopped:
            finish = "stop"
            if news.ending is None:
                self._engine.cancel(self._prompts[news.index].id)
        elif news.ending == "stop" or news.ending == "length":
            finish = news.ending
            shown += texts.finish()
        elif news.ending is not None:
            raise _fault(news)
        self.finishes[news.index] = finish
        return Grown(news.index, shown, news.tokens[:kept], finish)


def _fault(news: News) -> JoulekeeperError:
    if news.ending == "cancelled":
        return Unavailable(f"the generation was given up: {news.reason or 'the model is being unloaded'}; try again")
    return JoulekeeperError(f"the generation failed: {news.reason}")
