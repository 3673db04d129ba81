"""Which variant of a model answers now: the best answers that the budget of the day can pay for, or the floor asks for.

Pure: what variants cost and are worth, what is expected of the grid and of the load, and what is left of the budget
come in as plain numbers; shares with their reasons go out. Knows nothing of grids, models or Ray.

    variants = (Variant("fp32", 1.24, 0.987), Variant("int8", 0.79, 0.985), Variant("half", 0.52, 0.916))
    ahead = (Ahead(answers=400, cost_per_j=450 / 3.6e6), Ahead(answers=600, cost_per_j=90 / 3.6e6), ...)
    mix = choose(variants, ahead, Floors(mean=0.95), Done(answers=9000, quality=8640.0), left=1.2)
    mix.shares, mix.price, mix.reasons                 # {"int8": 0.8, "half": 0.2}

It is a knapsack with a price. Everybody is answered by the cheapest variant that the floor of each answer allows; then
better ones are bought slot by slot in order of quality per gram, as far as the budget reaches: the price of the last
one bought is the Lagrange price of carbon, and a slot whose price is higher keeps its cheaper variant. That order is
the exact solution of the linear programme (Dantzig 1957, "Discrete-variable extremum problems", for one knapsack;
Sinha and Zoltners 1979 for several choices each), since within a slot the variants lie on their concave hull. Asked
again every few seconds with what has become known, it follows the day. Raises InvalidInput.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.errors import InvalidInput

_PROBE_SHARE = 0.02
"""Of a variant whose energy is not known: enough to measure it within some hundred answers."""


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
class Way:
    """One way through the rest of the day, on the same forecasts."""

    name: str
    cost: float
    quality: float
    """Mean of the answers of the rest of the day."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Who answers now, and why."""

    shares: dict[str, float]
    """By variant, sum 1."""
    price: float
    """Quality per unit of the budget that the last improvement bought; what would cost more than it gives is not
    bought. 0: nothing is short."""
    cost: float
    """Expected of the rest of the day, `fixed` included."""
    quality: float
    """Expected mean of the rest of the day."""
    lasts: float
    """Share of the rest of the day's answers that the budget pays for; 1: all."""
    reasons: tuple[str, ...]
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """In one slot, from one variant on the hull to the next better one."""

    slot: int
    level: int
    cost: float
    gain: float

    @property
    def price(self) -> float:
        return self.gain / self.cost if self.cost > 0 else float("inf")


def choose(
    variants: Sequence[Variant],
    ahead: Sequence[Ahead],
    floors: Floors,
    done: Done,
    left: float | None,
    fixed: float = 0.0,
) -> Mix:
    """Who answers in the first slot of `ahead`, so that the rest of the day is as good as `left` of the budget allows.

    `left` None: no budget; then the floor of the mean is kept with the least cost, and without one the best answers.
    `fixed`: what is charged to the budget until the day ends whoever answers (loads, warm time). Raises InvalidInput
    where no variant may answer, or no slot is ahead.
    """
    usable = [each for each in variants if floors.each is None or each.quality >= floors.each]
    if not usable or not ahead:
        worst = f"at least {floors.each:g} is asked of each answer, " if floors.each is not None else ""
        raise InvalidInput(f"{worst}no variant may answer: lower the floor, or add a variant that reaches it")
    known = hull(usable)
    if not known:  # nothing was measured: the best answers, and is measured
        best = max(usable, key=lambda each: each.quality)
        return _mix({best.name: 1.0}, (best,), ahead, fixed, usable, 0.0, left, ("no variant is measured yet",))
    steps = sorted(_steps(known, ahead), key=lambda each: (-each.price, each.slot))
    answers = sum(each.answers for each in ahead)
    base_cost = fixed + known[0].energy_j * sum(each.answers * each.cost_per_j for each in ahead)  # type: ignore[operator]
    by_floor = _for_floor(steps, floors.mean, done, answers, known[0].quality)
    by_budget = len(steps) if left is None else _for_budget(steps, left - base_cost)
    bought = by_floor if left is None and floors.mean is not None else max(by_floor, by_budget)
    reasons = _reasons(left, floors, by_floor, by_budget, bought, len(steps))
    price = steps[min(int(bought), len(steps) - 1)].price if bought < len(steps) else 0.0
    return _mix(_shares(known, steps, bought), known, ahead, fixed, usable, price, left, reasons, steps, bought)


def hull(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Those worth having, cheapest first: each next one gives more quality, and less of it per joule, than the last."""
    found: list[Variant] = []
    measured = [each for each in variants if each.energy_j is not None]
    for each in sorted(measured, key=lambda one: (_j(one), -one.quality)):
        if found and each.quality <= found[-1].quality:
            continue
        while len(found) > 1 and _slope(found[-2], found[-1]) <= _slope(found[-1], each):
            found.pop()
        if found and _j(each) <= _j(found[-1]):
            found.pop()
        found.append(each)
    return tuple(found)


def _j(variant: Variant) -> float:
    assert variant.energy_j is not None, "only measured variants are on the hull"  # noqa: S101
    return variant.energy_j


def _slope(one: Variant, other: Variant) -> float:
    return (other.quality - one.quality) / max(1e-300, _j(other) - _j(one))


def _steps(known: Sequence[Variant], ahead: Sequence[Ahead]) -> Iterator[_Step]:
    for number, slot in enumerate(ahead):
        # A slot without answers still says who would answer in it.
        count = slot.answers or 1e-9
        for level, (one, other) in enumerate(pairwise(known)):
            joules = _j(other) - _j(one)
            yield _Step(number, level, count * slot.cost_per_j * joules, count * (other.quality - one.quality))


def _for_budget(steps: Sequence[_Step], spare: float) -> float:
    """How many of `steps`, the last one in part, `spare` pays for."""
    if spare <= 0:
        return 0.0
    for number, step in enumerate(steps):
        if step.cost > spare:
            return number + spare / step.cost
        spare -= step.cost
    return float(len(steps))


def _for_floor(steps: Sequence[_Step], mean: float | None, done: Done, answers: float, lowest: float) -> float:
    """How many of `steps` bring the mean of the whole day to the floor; all where none does."""
    if mean is None:
        return 0.0
    lacking = mean * (done.answers + answers) - done.quality - lowest * answers
    for number, step in enumerate(steps):
        if lacking <= 0:
            return float(number)
        if step.gain >= lacking:
            return number + lacking / step.gain
        lacking -= step.gain
    return float(len(steps))


def _shares(known: Sequence[Variant], steps: Sequence[_Step], bought: float) -> dict[str, float]:
    """Of the first slot: each level is reached by as much as was bought of the step to it."""
    reached = [1.0] + [0.0] * (len(known) - 1)
    for number, step in enumerate(steps):
        if step.slot == 0:
            reached[step.level + 1] = min(1.0, max(0.0, bought - number))
    above = [*reached[1:], 0.0]
    shares = {each.name: part - over for each, part, over in zip(known, reached, above, strict=True)}
    return {name: share for name, share in shares.items() if share > 0}


def _mix(
    shares: dict[str, float],
    known: Sequence[Variant],
    ahead: Sequence[Ahead],
    fixed: float,
    usable: Sequence[Variant],
    price: float,
    left: float | None,
    reasons: tuple[str, ...],
    steps: Sequence[_Step] = (),
    bought: float = 0.0,
) -> Mix:
    answers = sum(each.answers for each in ahead) or 1e-9
    weight = sum(each.answers * each.cost_per_j for each in ahead)
    parts = [(step, min(1.0, max(0.0, bought - number))) for number, step in enumerate(steps)]
    cheapest_cost = fixed + weight * (known[0].energy_j or 0.0)
    cost = cheapest_cost + sum(step.cost * part for step, part in parts)
    quality = known[0].quality + sum(step.gain * part for step, part in parts) / answers
    lasts = 1.0 if left is None or cost <= left * (1 + 1e-9) else max(0.0, left) / cost
    unknown = [each for each in usable if each.energy_j is None and each.name not in shares]
    probed = _PROBE_SHARE * len(unknown)
    shares = {name: share * (1 - probed) for name, share in shares.items()} | dict.fromkeys(
        (each.name for each in unknown), _PROBE_SHARE
    )
    if unknown:
        reasons = (*reasons, f"{', '.join(each.name for each in unknown)}: answers a few, to be measured")
    if lasts < 1:
        reasons = (*reasons, f"the budget pays for {lasts:.0%} of what is expected; who comes after it is refused")
    ways = (
        *(Way(f"always {each.name}", fixed + weight * _j(each), each.quality) for each in usable if each.energy_j),
        Way("the mix", cost, quality),
    )
    return Mix(shares, price, cost, quality, lasts, reasons, ways)


def _reasons(
    left: float | None, floors: Floors, by_floor: float, by_budget: float, bought: float, steps: int
) -> tuple[str, ...]:
    if bought >= steps:
        return ("the budget pays for the best answers until the day ends",) if left is not None else ()
    if left is None:
        return (f"no budget is set: the mean of {floors.mean:g} is kept with the least carbon",)
    if by_floor > by_budget:
        return (f"the floor of the mean, {floors.mean:g}, takes more than the budget was to pay for",)
    if bought <= 0:
        return ("the budget is short: the cheapest variant answers",)
    return ("the budget does not pay for the best answers all day: better ones are bought where carbon is least",)
