"""What each prompt of an engine's step draws, prefill apart from decode, learned while the engine works.

Pure: steps and measured intervals come in, powers go out; no clock, no chance, no sensor. Neither the speed of the
machine nor the power of a phase is known beforehand, and no counter shows one prompt: they are worked out from the
durations of steps and from the energy of intervals that many steps share.

    price = StepPrice(engine.geometry)
    for prompt_id, (prefill_mw, decode_mw) in price.weigh(step).items(): ...      # adds up to the step's power
    price.learn(Interval(start_ns, end_ns, energy_uj))                            # when the books have it

Two questions, one after the other (docs/generation/energy.md has the formulas and their sources):

1. *Whose time?* A phase alone would take so long: prefill `p0 + p1 x prompts + p2 x FLOPs + p3 x FLOPs of attention`,
   decode `d0 (the weights, read once for all) + d1 x sequences + d2 x bytes of keys and values`. The coefficients
   follow from the durations of steps; one that had both is divided in proportion to what each would have taken alone,
   and so is what doing both in one pass saved.
2. *At which power?* The energy of an interval is the sum of the times of its phases, each at its power, and of the time
   between steps at another.
"""

from collections import deque
from collections.abc import Collection
from typing import NamedTuple, Protocol

from app.domain.generation import Step
from app.policy.nonnegative_fit import NonNegativeFit
from app.policy.phase_times import PhaseTimes, Terms
from app.units import NS_PER_MS

_INTERVALS_REMEMBERED = 300
_STEPS_KEPT = 16_384
"""That wait for the energy of their interval: two minutes of steps of 8 ms, of which a few seconds are needed."""
LONGEST_GAP_NS = 50 * NS_PER_MS
"""Between two steps of a working engine; what is longer is a pause."""
_COVERED = 0.9
"""Part of an interval that steps must fill to be learned from."""
_PRIOR = 0.02
"""How many intervals the assumption weighs that all phases draw alike."""


class Shape(Protocol):
    """What a pass of the model costs: `Geometry` of an engine."""

    @property
    def layers(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def kv_bytes_per_token(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def flops_per_token(self) -> int: ...


class Interval(NamedTuple):
    """What the books say an interval took of a device that the engine works on."""

    start_ns: int
    end_ns: int
    energy_uj: int


class Powers(NamedTuple):
    """Milliwatts while the engine is in a phase."""

    prefill_mw: float
    decode_mw: float
    per_sequence_mw: float
    """Added to decode for every sequence that decodes."""
    between_mw: float
    """From one step to the next."""


class _Timed(NamedTuple):
    """A step on the clock, by phase."""

    start_ns: int
    end_ns: int
    prefill_part: float
    """Of its duration, 0..1."""
    sequences: int
    """That decode."""


_ALIKE = Powers(1.0, 1.0, 0.0, 1.0)


class StepPrice:
    """Of one engine. Used by one thread."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._times = PhaseTimes(shape.weight_bytes)
        self._energy = NonNegativeFit(4, _INTERVALS_REMEMBERED)
        self._mean_mw = 0.0
        self._timed: deque[_Timed] = deque(maxlen=_STEPS_KEPT)
        self._reached_ns = 0
        self.powers = _ALIKE
        """As learned so far; before that 1 mW for all, whatever the machine draws."""

    @property
    def is_learned(self) -> bool:
        """Whether powers are milliwatts of a device, not only proportions."""
        return self.powers is not _ALIKE

    def weigh(self, step: Step) -> dict[str, tuple[float, float]]:
        """(prefill, decode) milliwatts of every prompt of `step`, adding up to its mean power; to be told in order."""
        prefills, decodes = self._terms_of(step)
        if not prefills and not decodes:
            return {}
        part = self._prefill_part(prefills, decodes, max(step.end_ns - step.start_ns, 1) / NS_PER_MS)
        self._timed.append(_Timed(step.start_ns, step.end_ns, part, len(decodes)))
        powers = self.powers
        prefill_mw = part * powers.prefill_mw
        decode_mw = (1 - part) * (powers.decode_mw + powers.per_sequence_mw * len(decodes))
        weights = {
            prompt: (prefill_mw * share, 0.0)
            for prompt, share in zip(prefills, self._times.prefill.shares(prefills.values()), strict=True)
        }
        for prompt, share in zip(decodes, self._times.decode.shares(decodes.values()), strict=True):
            weights[prompt] = (weights[prompt][0] if prompt in weights else 0.0, decode_mw * share)
        return weights

    def learn(self, interval: Interval) -> None:
        """Take in what an interval took; steps that touch it have been weighed. To be told in order."""
        times = self._times_in(interval)
        length_ms = (interval.end_ns - interval.start_ns) / NS_PER_MS
        prefill_ms, decode_ms, sequences_ms, between_ms = times
        if interval.energy_uj <= 0 or prefill_ms + decode_ms + between_ms < _COVERED * length_ms:
            return
        self._energy.add(times, interval.energy_uj)
        mean_mw = interval.energy_uj / length_ms
        self._mean_mw += (mean_mw - self._mean_mw) / min(self._energy.seen, _INTERVALS_REMEMBERED)
        mean_mw, alike = self._mean_mw, _PRIOR / self._mean_mw**2
        sequences = sequences_ms / decode_ms if decode_ms else 1.0
        self._energy.expect((mean_mw, mean_mw, 0.0, mean_mw / 2), (alike, alike, alike * sequences**2, alike))
        self.powers = Powers(*self._energy.coefficients)

    def _terms_of(self, step: Step) -> tuple[dict[str, Terms], dict[str, Terms]]:
        """By prompt, of its prefill and of its decode."""
        shape = self._shape
        linear, attention = shape.flops_per_token / 1e9, 4e-9 * shape.layers * shape.hidden
        kept_gb = shape.kv_bytes_per_token / 1e9
        prefills: dict[str, Terms] = {}
        decodes: dict[str, Terms] = {}
        for work in step.works:
            context, tokens = work.context_tokens, work.prefill_tokens
            if tokens:  # each of them looks at the context, at those before it and at itself
                pairs = tokens * context + tokens * (tokens + 1) / 2
                prefills[work.prompt_id] = (1.0, linear * tokens, attention * pairs)
            if work.decode_tokens:
                decodes[work.prompt_id] = (float(work.decode_tokens), kept_gb * context)
        return prefills, decodes

    def _prefill_part(self, prefills: dict[str, Terms], decodes: dict[str, Terms], took_ms: float) -> float:
        """Of the time of a step, 0..1; what the step tells of its phases is learned."""
        prefill, decode = _summed(prefills.values()), _summed(decodes.values())
        prefill_ms, decode_ms = self._times.alone_ms(prefill, decode)
        self._times.learn(prefill, decode, took_ms)
        return prefill_ms / (prefill_ms + decode_ms)

    def _times_in(self, interval: Interval) -> tuple[float, float, float, float]:
        """Milliseconds of the interval in prefill, in decode, in decode times its sequences, and between steps."""
        start_ns, end_ns = interval.start_ns, interval.end_ns
        timed = self._timed
        while timed and timed[0].end_ns <= start_ns:
            self._reached_ns = timed.popleft().end_ns
        prefill_ns = decode_ns = sequences_ns = between_ns = 0.0
        reached_ns = self._reached_ns
        for step in timed:
            if 0 < step.start_ns - reached_ns <= LONGEST_GAP_NS:
                between_ns += max(0, min(step.start_ns, end_ns) - max(reached_ns, start_ns))
            if step.start_ns >= end_ns:
                break
            inside_ns = min(step.end_ns, end_ns) - max(step.start_ns, start_ns)
            prefill_ns += inside_ns * step.prefill_part
            decode_ns += inside_ns * (1 - step.prefill_part)
            sequences_ns += inside_ns * (1 - step.prefill_part) * step.sequences
            reached_ns = step.end_ns
        return prefill_ns / NS_PER_MS, decode_ns / NS_PER_MS, sequences_ns / NS_PER_MS, between_ns / NS_PER_MS


def _summed(works: Collection[Terms]) -> Terms:
    return tuple(map(sum, zip(*works, strict=True)))
