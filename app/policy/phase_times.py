"""How long the phases of an engine's steps take, each by itself, learned from the durations of steps.

Pure: what a step did comes in as sums of terms, milliseconds come out. Knows nothing of prompts, clocks or energy.

    times = PhaseTimes(weight_bytes=16_000_000_000)
    times.learn(prefill=(1.0, 160.0, 0.4), decode=(), took_ms=2.1)      # a step that read a prompt
    times.alone_ms((1.0, 160.0, 0.4), (8.0, 0.3))                       # of both phases in one step
    times.decode.shares([(1.0, 0.1), (1.0, 0.2)])                       # of two sequences, 0..1
"""

from collections.abc import Collection, Sequence
from operator import mul

from app.policy.nonnegative_fit import NonNegativeFit

_STEPS_REMEMBERED = 5_000
_FEW = 3
"""Steps of one phase alone from which its time is known."""
_LITTLE, _TRUSTED, _RECENT_MIXED = 0.05, 0.25, 16
"""A step of both phases weighs the less the more such steps save, lately, of the shorter phase: nothing from a quarter
on, where one pass does both. Before each was seen alone, a little."""
_FLOPS_PER_BYTE = 100.0
"""Until a step of each phase alone was seen: what a machine computes while it reads a byte. A H100 SXM does 989 TFLOPS
of dense bf16 at 3.35 TB/s (NVIDIA, "H100 Tensor Core GPU", data sheet 2023, read 2026-11-22), CPUs ten times less."""
_SURPRISE = 4.0
"""A step that took so many times what was expected counts as that: the machine did something else as well."""

Terms = tuple[float, ...]
"""Of a prompt's work: 1, then GFLOP and GFLOP of attention, or GB of keys and values. Of a step: their sums."""


class Phase:
    """How long one phase takes by itself: something for the pass, and something for each term."""

    def __init__(self, rough: Terms) -> None:
        """`rough`: gigabytes that could be read in the time of the pass and of each term, before any time is known."""
        self.rough = self.each_ms = rough
        self.seen = 0.0
        """Steps of this phase alone, and those of both as far as they count."""
        self.ms_per_gb = 0.0

    @property
    def is_known(self) -> bool:
        return self.seen >= _FEW

    def rough_gb(self, terms: Terms) -> float:
        return max(1e-9, _made((1.0, *terms), self.rough))

    def alone_ms(self, terms: Terms, ms_per_gb: float) -> float:
        """Of a step with these sums, > 0; `ms_per_gb` is taken where it is not known yet."""
        return (self.is_known and _made((1.0, *terms), self.each_ms)) or self.rough_gb(terms) * ms_per_gb

    def shares(self, works: Collection[Terms]) -> list[float]:
        """Part of each prompt in the time of the phase: what the pass takes is shared equally."""
        of_pass, *each = self.each_ms if self.is_known else self.rough
        parts = [of_pass / len(works) + _made(terms, each) for terms in works]
        whole = sum(parts)
        return [part / whole if whole > 0 else 1 / len(parts) for part in parts]


class PhaseTimes:
    """The times of both phases, learned together from steps of one and of both."""

    def __init__(self, weight_bytes: int) -> None:
        self.prefill = Phase((0.0, 0.0, 1 / _FLOPS_PER_BYTE, 1 / _FLOPS_PER_BYTE))
        self.decode = Phase((weight_bytes / 1e9, 0.0, 1.0))
        self._fit = NonNegativeFit(len(self.prefill.rough) + len(self.decode.rough), _STEPS_REMEMBERED)
        self._ms_per_gb = 1.0
        self._saved_ms, self._shorter_ms = _TRUSTED / 2, 1.0
        """What steps of both phases took less than both alone, lately, and the shorter ones of these."""

    def alone_ms(self, prefill: Terms, decode: Terms) -> tuple[float, float]:
        """What the phases of a step with these sums would take alone; 0 of one that is not in it."""
        return (
            self.prefill.alone_ms(prefill, self._ms_per_gb) if prefill else 0.0,
            self.decode.alone_ms(decode, self._ms_per_gb) if decode else 0.0,
        )

    def learn(self, prefill: Terms, decode: Terms, took_ms: float) -> None:
        """Such a step took `took_ms`."""
        phases = [phase for phase, terms in ((self.prefill, prefill), (self.decode, decode)) if terms]
        weight = self._weight_of_both(self.alone_ms(prefill, decode), took_ms) if len(phases) > 1 else 1.0
        if all(phase.is_known for phase in phases):
            expected_ms = sum(self.alone_ms(prefill, decode))
            took_ms = min(max(took_ms, expected_ms / _SURPRISE), expected_ms * _SURPRISE)
        if len(phases) == 1:
            self._ms_per_gb = took_ms / phases[0].rough_gb(prefill or decode)
            phases[0].ms_per_gb += (self._ms_per_gb - phases[0].ms_per_gb) / min(phases[0].seen + 1, _FEW)
        if not weight:
            return
        first, last = len(self.prefill.rough), len(self.decode.rough)
        terms = (*((1.0, *prefill) if prefill else (0.0,) * first), *((1.0, *decode) if decode else (0.0,) * last))
        self._fit.add(terms, took_ms, weight)
        for phase in phases:
            phase.seen += weight
        self._fit.lean_on(
            [
                each * (phase.ms_per_gb or self._ms_per_gb)
                for phase in (self.prefill, self.decode)
                for each in phase.rough
            ]
        )
        found = self._fit.coefficients
        self.prefill.each_ms, self.decode.each_ms = found[:first], found[first:]

    def _weight_of_both(self, alone_ms: tuple[float, float], took_ms: float) -> float:
        """How much a step of both phases tells, 0..1."""
        if not (self.prefill.is_known and self.decode.is_known):
            return _LITTLE
        self._saved_ms += (sum(alone_ms) - took_ms - self._saved_ms) / _RECENT_MIXED
        self._shorter_ms += (min(alone_ms) - self._shorter_ms) / _RECENT_MIXED
        return max(0.0, 1 - abs(self._saved_ms) / self._shorter_ms / _TRUSTED)


def _made(terms: Sequence[float], each: Sequence[float]) -> float:
    made: float = sum(map(mul, terms, each))
    return made
