"""What a token of a language model costs in energy: prompts are continued as a server does it, and metered.

Knows nothing of repositories; who meters is an argument (`app.energy.measure` in a cluster, a fake in tests). Several
models are measured in turns, so that whatever else the machine does falls on all of them.

    costs = token_costs([(base_directory, base_card), (variant_directory, variant_card)], prompts, measure=measure)
"""

import platform
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from app.domain.generation import Ending, Prompt, Sampling, Step, Token
from app.errors import Unavailable
from app.models.card import ModelCard, TokenCost
from app.models.generation.load import Generator, open_generator
from app.models.generation.options import EngineOptions

_THREADS = 1
"""As many as a replica has where its deployment does not say."""
_ROUNDS = 5
_NEW_TOKENS = 64
_PROMPTS, _PROMPT_CHARACTERS = 16, 200
_PATIENCE_S = 300.0
_SETTLE_S = 20.0
_METER_WITHIN_S = 40.0


class Figures(Protocol):
    """What is used of `SliceEnergy`."""

    @property
    def energy_uj(self) -> int: ...
    @property
    def grade(self) -> str: ...


class MeteredBlock(Protocol):
    """What is used of `app.energy.Block`."""

    def settle(self, timeout_s: float) -> Figures | None: ...


Measure = Callable[[str], AbstractContextManager[MeteredBlock]]


@dataclass
class _Count:
    """Listens to an engine until all prompts have ended."""

    waiting: int
    tokens_given: int = 0
    failed: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        self.tokens_given += len(tokens)

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        self.waiting -= 1
        if ending == "failed":
            self.failed = reason
        if not self.waiting:
            self.done.set()

    def stepped(self, step: Step) -> None: ...


class _Relay:
    """An engine has one listener for its life; this one passes on to whoever counts now."""

    def __init__(self) -> None:
        self.count = _Count(0)

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        self.count.tokens(prompt_id, tokens)

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        self.count.ended(prompt_id, ending, reason)

    def stepped(self, step: Step) -> None: ...


class _Candidate:
    """One model under measurement."""

    def __init__(self, directory: Path, card: ModelCard, prompts: Sequence[str]) -> None:
        self._relay, self._prompts = _Relay(), prompts
        options = EngineOptions(max_sequences=len(prompts), max_queued=len(prompts), prefix_cache_share=0.0)
        self.generator: Generator = open_generator(directory, card, self._relay, options=options)
        self.name = f"{card.name}-{card.variant or 'base'}-tokens"
        self.energy_uj, self.tokens, self.grades = 0, 0, set[str]()

    @property
    def sequences(self) -> int:
        """At once."""
        return len(self._prompts)

    def run(self) -> int:
        """Continue all prompts at once; returns the tokens generated. Raises Unavailable where the engine fails."""
        count = self._relay.count = _Count(len(self._prompts))
        for number, text in enumerate(self._prompts):
            tokens = tuple(self.generator.tokenizer.encode(text)[: self.generator.engine.context_tokens // 2])
            self.generator.engine.submit(Prompt(str(number), tokens, Sampling(_NEW_TOKENS, temperature=0.0)))
        if not count.done.wait(_PATIENCE_S) or count.failed:
            raise Unavailable(f"the engine did not finish: {count.failed or f'nothing for {_PATIENCE_S:g} s'}")
        return count.tokens_given

    def run_metered(self, measure: Measure) -> bool:
        """One round on the books; False where no meter tells anything."""
        with measure(self.name) as block:
            tokens = self.run()
        figures = block.settle(_SETTLE_S)
        if figures is None:
            return False
        self.energy_uj, self.tokens = self.energy_uj + figures.energy_uj, self.tokens + tokens
        self.grades.add(figures.grade)
        return True


def token_costs(
    versions: Sequence[tuple[Path, ModelCard]], prompts: Sequence[str], *, measure: Measure
) -> list[TokenCost] | None:
    """What a token of each of `versions` costs, all prompts at once, beside the first; None where nobody meters."""
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    candidates = [_Candidate(directory, card, prompts) for directory, card in versions]
    try:
        for candidate in candidates:
            candidate.run()  # what only the first run costs is no token's
        if not meter_watches(measure, candidates[0].name):
            return None
        for _ in range(_ROUNDS):
            if not all(candidate.run_metered(measure) for candidate in candidates):
                return None
    finally:
        for candidate in candidates:
            candidate.generator.engine.close()
        torch.set_num_threads(threads)
    return [_cost(candidate, candidates[0]) for candidate in candidates]


def _cost(candidate: _Candidate, base: _Candidate) -> TokenCost:
    return TokenCost(
        uj_per_token=candidate.energy_uj / candidate.tokens,
        base_uj_per_token=base.energy_uj / base.tokens,
        tokens=candidate.tokens,
        sequences=candidate.sequences,
        grade="+".join(sorted(candidate.grades)),
        hardware=f"{processor()}, {_THREADS} thread",
    )


def prompts_of(texts: Sequence[str]) -> list[str]:
    """Beginnings of some of `texts`, which a model of such texts continues."""
    return [text[:_PROMPT_CHARACTERS] for text in texts[:_PROMPTS]]


def meter_watches(measure: Measure, name: str) -> bool:
    """Wait until a block has a figure: on a fresh cluster the meter comes seconds after the first block."""
    deadline = time.monotonic() + _METER_WITHIN_S
    while time.monotonic() < deadline:
        with measure(name) as block:
            time.sleep(0.1)
        if block.settle(_SETTLE_S / 10) is not None:
            return True
    return False


def processor() -> str:
    """What Python runs on, for people."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cost_line(cost: TokenCost | None) -> str:
    """For people."""
    if cost is None:
        return "energy per token: unknown; no meter was there"
    return (
        f"energy per token: {cost.uj_per_token / 1000:.2f} mJ ({cost.base_uj_per_token / 1000:.2f} mJ before), "
        f"{cost.tokens} tokens each, {cost.sequences} sequences at once, {cost.grade}"
    )
