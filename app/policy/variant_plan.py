"""The knapsack behind app/policy/variants.py: variants on their hull, better answers bought one by one, the floor.

Pure. Knows nothing of reasons or records. A plan is a list of steps in order of quality per unit of the budget, and how
many of them are bought, the last one in part.

    known = hull(variants)
    plan = make_plan(known, ahead, floors, done, left, fixed, spread)
    plan.cost, plan.bought, plan.steps
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

_SURE_PART = 0.25
"""Of the answers expected: as if no more came, quality below the floor is made up for. Loads are off by half easily."""
_LAST_PART = 0.15
"""Of the answers of a day: what is below the floor then might stay there."""
_ABOVE = 0.03
"""Of the way from the floor to the best variant: so far above it a day is to end, for answers that are counted late."""
_HALVINGS = 14
_NORMAL, _LEAST_RATIO = NormalDist(), 0.005


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to answer."""

    name: str
    energy_j: float | None
    """Of one answer; None: not measured yet."""
    quality: float
    """Of an answer, on average; more is better. In any unit, the same for all."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is expected of one slot of the rest of the day; the first one is now."""

    answers: float
    cost_per_j: float
    """Of the budget: g per J (g/kWh over 3.6e6) of one in carbon, 1 of one in joules."""


@dataclass(frozen=True, slots=True)
class Floors:
    """What answers are worth at least. None: nothing is asked."""

    each: float | None = None
    """A variant below it never answers those who did not ask for it."""
    mean: float | None = None
    """Of all answers of the day; it goes before the budget, which then ends sooner."""


@dataclass(frozen=True, slots=True)
class Done:
    """The part of the day that is over."""

    answers: float = 0.0
    quality: float = 0.0
    """Sum over these answers."""


@dataclass(frozen=True, slots=True)
class Step:
    """In one slot, from one variant on the hull to the next better one."""

    slot: int
    level: int
    cost: float
    gain: float

    @property
    def price(self) -> float:
        return self.gain / self.cost if self.cost > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are bought, and how many are, the last one in part."""

    steps: tuple[Step, ...]
    by_floor: float
    by_budget: float
    bought: float
    cost: float


def make_plan(
    known: Sequence[Variant],
    ahead: Sequence[Ahead],
    floors: Floors,
    done: Done,
    left: float | None,
    fixed: float,
    spread: float = 0.0,
) -> Plan:
    steps = tuple(sorted(_steps(known, ahead), key=lambda each: (-each.price, each.slot)))
    base = fixed + joules(known[0]) * sum(each.answers * each.cost_per_j for each in ahead)
    answers, lowest = sum(each.answers for each in ahead), known[0].quality
    # Quality that is owed must not wait for answers that may never be asked for.
    by_floor = max(_for_floor(steps, floors.mean, done, answers, lowest, part) for part in (1.0, _SURE_PART))
    by_budget = (
        float(len(steps))
        if left is None
        else _for_budget(steps, left - base, spread * (base - fixed), answers * lowest / max(1e-300, base - fixed))
    )
    bought = by_floor if left is None and floors.mean is not None else max(by_floor, by_budget)
    cost = base + sum(step.cost * part for step, part in zip(steps, parts(bought, len(steps)), strict=True))
    return Plan(steps, by_floor, by_budget, bought, cost)


def until_spent(
    known: Sequence[Variant], ahead: Sequence[Ahead], floors: Floors, done: Done, left: float, fixed: float
) -> list[Ahead]:
    """`ahead` as far as `left` pays for answers that keep the floor."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_paid = make_plan(known, _first_part(ahead, middle), floors, done, left, fixed).cost <= left
        low, high = (middle, high) if is_paid else (low, middle)
    return _first_part(ahead, low)


def _first_part(ahead: Sequence[Ahead], part: float) -> list[Ahead]:
    """The first so many of its answers; every slot stays, some without answers."""
    left = part * sum(each.answers for each in ahead)
    found = []
    for each in ahead:
        found.append(Ahead(min(each.answers, left), each.cost_per_j))
        left -= found[-1].answers
    return found


def hull(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Those worth having, cheapest first: each next one gives more quality, and less of it per joule, than the last."""
    found: list[Variant] = []
    measured = [each for each in variants if each.energy_j is not None]
    for each in sorted(measured, key=lambda one: (joules(one), -one.quality)):
        if found and each.quality <= found[-1].quality:
            continue
        while len(found) > 1 and _slope(found[-2], found[-1]) <= _slope(found[-1], each):
            found.pop()
        if found and joules(each) <= joules(found[-1]):
            found.pop()
        found.append(each)
    return tuple(found)


def joules(variant: Variant) -> float:
    assert variant.energy_j is not None, "only measured variants are on the hull"  # noqa: S101
    return variant.energy_j


def _slope(one: Variant, other: Variant) -> float:
    return (other.quality - one.quality) / max(1e-300, joules(other) - joules(one))


def _steps(known: Sequence[Variant], ahead: Sequence[Ahead]) -> Iterator[Step]:
    for number, slot in enumerate(ahead):
        # A slot without answers still says who would answer in it.
        count = slot.answers or 1e-9
        for level, (one, other) in enumerate(pairwise(known)):
            more_j = joules(other) - joules(one)
            yield Step(number, level, count * slot.cost_per_j * more_j, count * (other.quality - one.quality))


def _for_budget(steps: Sequence[Step], spare: float, sigma: float, answer_price: float) -> float:
    """How many of `steps`, the last one in part, `spare` pays for when everybody has the cheapest answer.

    That is not certain: it may take `sigma` more, and somebody who is refused loses more than a better answer gives.
    So each step is bought from what is left beside the reserve at which the two are even, the newsvendor's;
    `answer_price`: quality per unit of the budget of the cheapest answers.
    """
    spent = 0.0
    for number, step in enumerate(steps):
        reserve = sigma * _reserve(step.price / answer_price) if sigma > 0 else 0.0
        room = spare - reserve - spent
        if step.cost > room:
            return number + max(0.0, room) / step.cost
        spent += step.cost
    return float(len(steps))


def _reserve(ratio: float) -> float:
    """Standard deviations to keep for answers that may come, where a step gives `ratio` of what an answer does."""
    if ratio >= 1:
        return 0.0
    return max(0.0, _NORMAL.inv_cdf(1 - max(_LEAST_RATIO, ratio)))


def _for_floor(
    steps: Sequence[Step], mean: float | None, done: Done, answers: float, lowest: float, part: float
) -> float:
    """How many of `steps` bring the mean of the whole day to the floor; all where none does. `part` of the answers
    that are expected come."""
    if mean is None:
        return 0.0
    lacking = (mean * done.answers - done.quality) / part + (mean - lowest) * answers
    for number, step in enumerate(steps):
        if lacking <= 0:
            return float(number)
        if step.gain >= lacking:
            return number + lacking / step.gain
        lacking -= step.gain
    return float(len(steps))


def parts(bought: float, steps: int) -> list[float]:
    """How much of each of so many steps is bought."""
    return [min(1.0, max(0.0, bought - number)) for number in range(steps)]


def is_due(known: Sequence[Variant], ahead: Sequence[Ahead], mean: float, done: Done, left: float | None) -> bool:
    """Whether the best must answer at once: the mean is below its floor, and later may be too late to bring it back."""
    if len(known) < 2 or known[-1].quality <= mean:
        return False
    aim = mean + _ABOVE * (known[-1].quality - mean) if is_ending(ahead, done) else mean
    owed = aim * done.answers - done.quality
    if owed <= 0:
        return False
    needed = owed / (known[-1].quality - mean)
    dearest = max(each.cost_per_j for each in ahead)
    is_late = needed >= _SURE_PART * sum(each.answers for each in ahead)
    is_short = left is not None and left <= 2 * needed * joules(known[-1]) * dearest
    return is_late or is_short or is_ending(ahead, done)


def is_ending(ahead: Sequence[Ahead], done: Done) -> bool:
    """Whether most of the day's answers are given: every one that comes keeps the floor by itself."""
    coming = sum(each.answers for each in ahead)
    return coming < _LAST_PART * (done.answers + coming)
