"""Energy saved per hit: the engine with and without its prefix cache on the same prompts, in turns.

Prompts are those of the trace with 16 tokens, one page, for each block of 512, so that equal blocks are equal tokens.
One prompt at a time, a few tokens generated; both engines live in one process and take turns of some prompts each, so
that what else happens on the machine happens to both. Energy: engine_in_process.py.
"""

import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engine_in_process import CLOCKS, CONTEXT_TOKENS, ProcessEnergy, open_engine
from prefix_cache_trace import Request

from app.domain.generation import Ending, Prompt, Sampling, Step, Token
from app.models.generation.continuous import ContinuousEngine
from app.models.generation.options import EngineOptions

PAGE_TOKENS, GENERATED, TURN = 16, 4, 20
PROMPTS, QUICK_PROMPTS = 1200, 300
CACHE_TOKENS = 65_536


class Reader:
    """Waits for one answer; counts what was computed and what was found."""

    def __init__(self) -> None:
        self.ended_event = threading.Event()
        self.failure = ""
        self.forget()

    def forget(self) -> None:
        """Counts begin anew."""
        self.cached = self.computed = self.hits = 0

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None: ...

    def stepped(self, step: Step) -> None:
        self.cached += sum(work.cached_tokens for work in step.works)
        self.hits += sum(work.cached_tokens > 0 for work in step.works)
        self.computed += sum(work.prefill_tokens for work in step.works)

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        self.failure = reason
        self.ended_event.set()


def prompts(requests: Sequence[Request], engine: ContinuousEngine) -> list[tuple[int, ...]]:
    """Of those that fit the model's context."""
    most, vocabulary = (engine.context_tokens - GENERATED) // PAGE_TOKENS - 1, engine.vocabulary
    return [
        (*(token for block in request.blocks for token in _page(block, vocabulary)), 0)
        for request in requests
        if len(request.blocks) <= most
    ]


def _page(block: int, vocabulary: int) -> list[int]:
    chance = random.Random(block)
    return [chance.randrange(vocabulary) for _ in range(PAGE_TOKENS)]


def answer(engine: ContinuousEngine, reader: Reader, prompt_id: str, tokens: tuple[int, ...]) -> None:
    reader.ended_event.clear()
    engine.submit(Prompt(prompt_id, tokens, Sampling(max_tokens=GENERATED, temperature=0)))
    if not reader.ended_event.wait(60) or reader.failure:
        raise RuntimeError(f"prompt {prompt_id} was not answered: {reader.failure or 'nothing came within 60 s'}")


def run(requests: Sequence[Request], model: Path | None, quick: bool, clock: str) -> dict[str, Any]:
    used_uj = {"with": 0, "without": 0}
    readers = {name: Reader() for name in used_uj}
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(
                open_engine(
                    model,
                    reader,
                    EngineOptions(
                        context_tokens=CONTEXT_TOKENS,
                        cache_tokens=CACHE_TOKENS,
                        prefix_cache_share=0.9 if name == "with" else 0,
                        page_tokens=PAGE_TOKENS,
                    ),
                    CLOCKS[clock],
                )
            )
            for name, reader in readers.items()
        }
        asked = prompts(requests, engines["with"])[: QUICK_PROMPTS if quick else PROMPTS]
        for name, engine in engines.items():
            answer(engine, readers[name], "warm", (1, 2, 3))
            readers[name].forget()
        for at in range(0, len(asked), TURN):
            # Who goes first changes, too.
            for name in sorted(engines, reverse=bool(at // TURN % 2)):
                energy = ProcessEnergy(CLOCKS[clock])
                for number, tokens in enumerate(asked[at : at + TURN], at):
                    answer(engines[name], readers[name], str(number), tokens)
                used_uj[name] += energy.since_last()
    return _told(len(asked), readers["with"], readers["without"], used_uj)


def _told(count: int, cached: Reader, plain: Reader, used_uj: dict[str, int]) -> dict[str, Any]:
    saved_uj = used_uj["without"] - used_uj["with"]
    row = {
        "prompts": count,
        "prompt_tokens": plain.computed,
        "hit_tokens": cached.cached,
        "hits": cached.hits,
        "uj_without": used_uj["without"],
        "uj_with": used_uj["with"],
        "saved_uj_per_hit": saved_uj / max(cached.hits, 1),
        "saved_uj_per_hit_token": saved_uj / max(cached.cached, 1),
        "saved": saved_uj / used_uj["without"],
    }
    print(
        f"{count} prompts of {plain.computed} tokens, {GENERATED} tokens generated for each; "
        f"{cached.cached} prompt tokens found again in {cached.hits} prompts"
    )
    print(f"without  {used_uj['without'] / 1e6:9.2f} J")
    print(f"with     {used_uj['with'] / 1e6:9.2f} J, {row['saved']:.1%} less")
    print(f"saved    {row['saved_uj_per_hit']:9.0f} uJ a hit, {row['saved_uj_per_hit_token']:.1f} uJ a hit token")
    return row
