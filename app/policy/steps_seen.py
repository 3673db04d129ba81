"""What the governor of concurrency is told of an engine: sequences, tokens, energy, and how long tokens let wait.

Pure: time comes in with the steps. Knows nothing of text, limits or meters.

    times = TokenTimes()
    times.asked("a", at_ns)                        # before the prompt is submitted; `ended` if it is refused
    # on the engine's thread, as its listener hears it; the tokens of a step come after it
    seen = times.take(energy_uj, waiting)          # before the next step, energy of those before it; None: nothing ran
    times.stepped(step)
    times.came("a", tokens=1)
    times.ended("a")

Steps of prompts that were never asked (embeddings) are left out. `asked` may come from any thread.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.domain.generation import Step
from app.units import NS_PER_S

_GAP_DIGITS = 4  # gaps to 0.1 ms


@dataclass(frozen=True, slots=True)
class StepSeen:
    """A step of the engine, or a few with about the same sequences, that ended at `at_s` (monotonic)."""

    at_s: float
    seconds: float
    sequences: float
    """That took part, on average."""
    waiting: int
    """Prompts that had not started at the end."""
    tokens: int
    """Generated."""
    energy_uj: int
    """Provisional or settled, but always of one kind."""
    gaps: Sequence[tuple[float, int]] = ()
    """Seconds between a token and the one before it, and how many tokens had just that."""
    first_tokens_s: Sequence[float] = ()
    """From arrival to first token, of prompts that got theirs."""


@dataclass(slots=True)
class SeenSum:
    """Of several, with about the same sequences."""

    seconds: float = 0.0
    tokens: int = 0
    energy_uj: int = 0
    gaps: list[tuple[float, int]] = field(default_factory=list)
    gap_tokens: int = 0
    late_tokens: int = 0
    squares: int = 0

    def add(self, seen: StepSeen, gap_s: float) -> "SeenSum":
        """Gaps longer than `gap_s` are late."""
        self.seconds += seen.seconds
        self.tokens += seen.tokens
        self.energy_uj += seen.energy_uj
        self.gaps += seen.gaps
        for gap, count in seen.gaps:
            self.gap_tokens += count
            self.squares += count * count
            self.late_tokens += count * (gap > gap_s)
        return self

    @property
    def answers(self) -> float:
        """Gaps that tell something of their own: the tokens of one step are late together.

        (sum of counts)^2 / sum of their squares: Kish, "Survey Sampling", 1965.
        """
        return self.gap_tokens**2 / self.squares if self.squares else 0.0

    @property
    def late(self) -> float:
        """Of `answers`."""
        return self.gap_tokens * self.late_tokens / self.squares if self.squares else 0.0

    @property
    def mean_gap_s(self) -> float:
        return sum(gap * count for gap, count in self.gaps) / max(self.gap_tokens, 1)

    def gap_quantile_s(self, quantile: float) -> float:
        """0 without gaps."""
        rest = quantile * self.gap_tokens
        for gap, count in sorted(self.gaps):
            rest -= count
            if rest <= 0:
                return gap
        return 0.0


class TokenTimes:
    """Adds up the steps since the last `take`. Every prompt that was `asked` is forgotten when it has `ended`."""

    def __init__(self) -> None:
        self._asked_ns: dict[str, int] = {}
        self._token_ns: dict[str, int] = {}
        self._end_ns = 0
        self._clear()

    def _clear(self) -> None:
        self._busy_ns = self._sequence_ns = self._tokens = 0
        self._gaps: Counter[float] = Counter()
        self._first_tokens_s: list[float] = []

    def asked(self, prompt_id: str, at_ns: int) -> None:
        """A prompt came at `at_ns`, on the clock of the steps."""
        self._asked_ns[prompt_id] = at_ns

    def stepped(self, step: Step) -> None:
        """The tokens that come next were made by `step`."""
        sequences = sum(work.prompt_id in self._asked_ns or work.prompt_id in self._token_ns for work in step.works)
        if sequences:
            self._end_ns = step.end_ns
            self._busy_ns += step.end_ns - step.start_ns
            self._sequence_ns += sequences * (step.end_ns - step.start_ns)

    def came(self, prompt_id: str, tokens: int) -> None:
        """`tokens` >= 1 of a prompt came with the last step."""
        self._tokens += tokens
        before_ns = self._token_ns.get(prompt_id)
        self._token_ns[prompt_id] = self._end_ns
        if before_ns is not None:
            self._gaps[round((self._end_ns - before_ns) / NS_PER_S, _GAP_DIGITS)] += tokens
        elif (asked_ns := self._asked_ns.pop(prompt_id, None)) is not None:
            self._first_tokens_s.append((self._end_ns - asked_ns) / NS_PER_S)

    def ended(self, prompt_id: str) -> None:
        """Nothing more will come of it."""
        self._asked_ns.pop(prompt_id, None)
        self._token_ns.pop(prompt_id, None)

    def take(self, energy_uj: int, waiting: int) -> StepSeen | None:
        """What was seen since the last time, and the energy of that; None if nothing ran."""
        if not self._busy_ns:
            return None
        seen = StepSeen(
            self._end_ns / NS_PER_S,
            self._busy_ns / NS_PER_S,
            self._sequence_ns / self._busy_ns,
            waiting,
            self._tokens,
            energy_uj,
            tuple(self._gaps.items()),
            tuple(self._first_tokens_s),
        )
        self._clear()
        return seen
