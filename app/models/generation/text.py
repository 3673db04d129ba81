"""From tokens to text that may be shown, a few tokens at a time.

Knows nothing of engines or wires; whoever feeds it cancels the prompt once `stopped`. A character whose bytes are
spread over several tokens comes when it is whole, and one that never gets whole does not come at all. Text that may be
the beginning of a stop string is held back until it is clear; a stop string and what follows it are never shown. Of
several the one that is complete first counts, so that how text is cut into tokens changes nothing.

    stream = TextStream(tokenizer.decode, stop=("\\n\\n",))
    stream.feed([17, 4])                # "def f("
    stream.finish()                     # what was held back and is no stop string after all
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from app.domain.generation import Prompt, Sampling

Decode = Callable[[Sequence[int]], str]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_PARTIAL_TOKENS = 8
"""Tokens that may wait for the end of a character, which has at most 4 bytes: beyond it they are no character."""


class TextStream:
    """The text of one sequence."""

    def __init__(self, decode: Decode, stop: Sequence[str] = (), after: Sequence[int] = ()) -> None:
        """`after`: the last tokens of the prompt, for tokenizers whose first token looks different."""
        self._decode, self._stop = decode, tuple(text for text in stop if text)
        self._window = list(after)
        """Tokens that were shown last, as context for the next ones, then those that were not shown yet."""
        self._shown = len(self._window)
        self._held = ""
        self.stopped = False
        """Whether a stop string was found."""

    def feed(self, tokens: Iterable[int]) -> str:
        """What may be shown after `tokens` that could not be before."""
        shown = []
        for token in tokens:
            if self.stopped:
                break
            shown.append(self._release(self._next(token)))
        return "".join(shown)

    def finish(self) -> str:
        """The rest: no more tokens come."""
        rest, self._held = self._held, ""
        return rest

    def _next(self, token: int) -> str:
        self._window.append(token)
        text = self._decode(self._window)
        waiting = len(self._window) - self._shown
        if text.endswith(_REPLACEMENT) and waiting < _MAX_PARTIAL_TOKENS:
            return ""
        new = text[len(self._decode(self._window[: self._shown])) :]
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return new

    def _release(self, new: str) -> str:
        text = self._held + new
        found = [(place + len(stop), place) for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def choices(prompt_id: str, tokens: Sequence[int], sampling: Sampling, count: int) -> list[Prompt]:
    """`count` prompts that continue the same tokens, each with a seed of its own that follows from the first."""
    if count == 1:
        return [Prompt(prompt_id, tuple(tokens), sampling)]
    return [
        Prompt(
            f"{prompt_id}/{number}",
            tuple(tokens),
            sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + number),
        )
        for number in range(count)
    ]
