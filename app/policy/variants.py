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

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import InvalidInput
from app.policy.variant_plan import (
    Ahead,
    Done,
    Floors,
    Plan,
    Variant,
    hull,
    is_due,
    is_ending,
    joules,
    make_plan,
    parts,
    until_spent,
)

__all__ = ["Ahead", "Done", "Floors", "Mix", "Variant", "Way", "choose", "hull"]

_NOTHING = 1e-9
_PROBE_SHARE = 0.2
"""Of all answers, for the variants whose energy is not known together: a budget may hang on what they take."""


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
    """Share of the rest of the day's answers that the budget pays for; 1: all. Cost and quality are of these."""
    reasons: tuple[str, ...]
    ways: tuple[Way, ...]


def choose(
    variants: Sequence[Variant],
    ahead: Sequence[Ahead],
    floors: Floors,
    done: Done,
    left: float | None,
    fixed: float = 0.0,
    spread: float = 0.0,
) -> Mix:
    """Who answers in the first slot of `ahead`, so that the rest of the day is as good as `left` of the budget allows.

    `left` None: no budget; then the floor of the mean is kept with the least cost, and without one the best answers.
    `fixed`: what is charged to the budget until the day ends whoever answers (loads, warm time). `spread`: standard
    deviation of the answers ahead, as a share of their mean. Raises InvalidInput where no variant may answer, or no
    slot is ahead.
    """
    usable = [each for each in variants if floors.each is None or each.quality >= floors.each]
    if not usable or not ahead:
        worst = f"at least {floors.each:g} is asked of each answer, " if floors.each is not None else ""
        raise InvalidInput(f"{worst}no variant may answer: lower the floor, or add a variant that reaches it")
    known = hull(usable)
    if not known:  # nothing was measured: the best answers, and is measured
        best = max(usable, key=lambda each: each.quality)
        return _mix({best.name: 1.0}, (best,), ahead, fixed, usable, 0.0, left, ("no variant is measured yet",))
    return _bymake_plan(known, usable, ahead, floors, done, left, fixed, spread)


def _bymake_plan(
    known: Sequence[Variant],
    usable: Sequence[Variant],
    ahead: Sequence[Ahead],
    floors: Floors,
    done: Done,
    left: float | None,
    fixed: float,
    spread: float,
) -> Mix:
    plan, served = make_plan(known, ahead, floors, done, left, fixed, spread), list(ahead)
    if left is not None and floors.mean is not None and plan.cost > left:
        # It ends before the day does: the floor holds for those who are answered until then.
        served = until_spent(known, ahead, floors, done, left, fixed)
        plan = make_plan(known, served, floors, done, left, fixed)
    if floors.mean is not None and is_due(known, served, floors.mean, done, None if left is None else left - fixed):
        why = (
            f"the mean is below its floor, {floors.mean:g}: it is brought back while there are answers to do it with",
        )
        return _mix({known[-1].name: 1.0}, known, ahead, fixed, usable, plan.steps[0].price, left, why, plan, served)
    shares = _shares(known, plan)
    if floors.mean is not None and is_ending(served, done):
        alone = _shares(known, make_plan(known, ahead[:1], floors, done, left, fixed))
        shares = max(shares, alone, key=lambda each: sum(each.get(one.name, 0.0) * one.quality for one in known))
    price = plan.steps[min(int(plan.bought), len(plan.steps) - 1)].price if plan.bought < len(plan.steps) else 0.0
    reasons = _reasons(left, floors, plan)
    return _mix(shares, known, ahead, fixed, usable, price, left, reasons, plan, served)


def _shares(known: Sequence[Variant], plan: Plan) -> dict[str, float]:
    """Of the first slot: each level is reached by as much as was bought of the step to it."""
    reached = [1.0] + [0.0] * (len(known) - 1)
    for step, part in zip(plan.steps, parts(plan.bought, len(plan.steps)), strict=True):
        if step.slot == 0:
            reached[step.level + 1] = part
    above = [*reached[1:], 0.0]
    shares = {each.name: part - over for each, part, over in zip(known, reached, above, strict=True)}
    return {name: share for name, share in shares.items() if share > _NOTHING}


def _mix(
    shares: dict[str, float],
    known: Sequence[Variant],
    ahead: Sequence[Ahead],
    fixed: float,
    usable: Sequence[Variant],
    price: float,
    left: float | None,
    reasons: tuple[str, ...],
    plan: Plan | None = None,
    served: Sequence[Ahead] = (),
) -> Mix:
    """`served`: `ahead` as far as the budget lasts."""
    served = served or ahead
    answers, total = (sum(each.answers for each in some) or 1e-9 for some in (served, ahead))
    weight = sum(each.answers * each.cost_per_j for each in ahead)
    steps = plan.steps if plan else ()
    gained = zip(steps, parts(plan.bought if plan else 0.0, len(steps)), strict=True)
    quality = known[0].quality + sum(step.gain * part for step, part in gained) / answers
    cost = plan.cost if plan else fixed + weight * (known[0].energy_j or 0.0)
    lasts = answers / total
    if left is not None and cost > left * (1 + 1e-9):
        lasts *= max(0.0, left) / cost
    unknown = [each for each in usable if each.energy_j is None and each.name not in shares]
    if unknown:
        shares = {name: share * (1 - _PROBE_SHARE) for name, share in shares.items()}
        shares |= {each.name: _PROBE_SHARE / len(unknown) for each in unknown}
        reasons = (*reasons, f"{', '.join(each.name for each in unknown)}: answers a few, to be measured")
    if lasts < 1:
        reasons = (*reasons, f"the budget pays for {lasts:.0%} of what is expected; who comes after it is refused")
    ways = (
        *(Way(f"always {each.name}", fixed + weight * joules(each), each.quality) for each in usable if each.energy_j),
        Way("the mix", cost, quality),
    )
    return Mix(shares, price, cost, quality, lasts, reasons, ways)


def _reasons(left: float | None, floors: Floors, plan: Plan) -> tuple[str, ...]:
    if plan.bought >= len(plan.steps):
        return ("the budget pays for the best answers until the day ends",) if left is not None else ()
    if left is None:
        return (f"no budget is set: the mean of {floors.mean:g} is kept with the least carbon",)
    if plan.by_floor > plan.by_budget:
        return (f"the floor of the mean, {floors.mean:g}, takes more than the budget was to pay for",)
    if plan.bought <= 0:
        return ("the budget is short: the cheapest variant answers",)
    return ("the budget does not pay for the best answers all day: better ones are bought where carbon is least",)
