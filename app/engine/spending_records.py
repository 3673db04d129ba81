"""What the desk of budgets decided, as records for `joulekeeper why`: one when who answers changes, one at a day's end.

Pure. Knows nothing of how it was decided (app/policy/variants.py).
"""

from app.domain.decision import Choice, Course, Fact, Saving
from app.engine.outlook import View
from app.engine.spending_day import SpendingDay
from app.engine.spending_words import Use
from app.policy.variants import Mix, Way
from app.units import UJ_PER_J

_TOPIC = "variant"


def chosen(
    name: str, day: SpendingDay, mix: Mix, use: Use, view: View, pue: float, now_s: float, spent: bool
) -> Choice:
    """Who answers from now on."""
    shares = ", ".join(f"{each} {share:.0%}" for each, share in sorted(mix.shares.items(), key=lambda one: -one[1]))
    dearest = max((way for way in mix.ways[:-1]), key=lambda way: (way.quality, way.cost), default=mix.ways[-1])
    reasons = mix.reasons
    if spent:
        reasons = (f"the budget of {day.rules.budget} is spent: 429 until the day ends", *reasons)
    return Choice(
        at_s=now_s,
        action="refuse until the day ends" if spent else f"answer with {shares}",
        reasons=reasons,
        subject=name,
        topic=_TOPIC,
        facts=(*_known(day, use, now_s), *_of_grid(view, pue, now_s), *_of_variants(day, use)),
        courses=tuple(_course(way, day) for way in mix.ways),
        chosen=mix.ways[-1].name,
        expected=_saving(dearest, mix.ways[-1], day),
    )


def ended(name: str, day: SpendingDay, use: Use, first: int | None) -> Choice:
    """What came of a day."""
    worth = {each.name: each for each in day.variants(use)}
    best = max(worth.values(), key=lambda each: (each.quality, each.energy_j or 0.0), default=None)
    saved_j = sum(
        count * ((best.energy_j or 0.0) - (worth[each].energy_j or 0.0))
        for each, count in day.steered.items()
        if best is not None and best.energy_j is not None and each in worth
    )
    g_per_j = use.carbon_ugco2e / use.energy_uj if use.energy_uj else 0.0  # ug/uJ is g/J
    answered = sum(day.answers.values())
    mean = sum(count * worth[each].quality for each, count in day.answers.items() if each in worth)
    energy_j = use.energy_uj / UJ_PER_J
    facts = [
        Fact(name="charged", value=use.carbon_ugco2e / 1e6, unit="gCO2e", source="the books"),
        Fact(name="charged", value=energy_j, unit="J", source="the books"),
        Fact(name="answers", value=answered, source="its replicas"),
        Fact(name="refused", value=float(day.refused), source="its replicas"),
        *(Fact(name=f"answers of {each}", value=count) for each, count in sorted(day.answers.items())),
    ]
    if answered:
        facts.append(Fact(name="mean quality", value=mean / answered, source="answers by variant"))
    return Choice(
        at_s=day.ends_s,
        action="the day has ended",
        reasons=(f"budget: {day.rules.budget}" if day.rules.budget else "no budget",),
        subject=name,
        topic=_TOPIC,
        facts=tuple(facts),
        about=first,
        realised=Saving(
            carbon_g=saved_j * g_per_j,
            energy_j=saved_j,
            share=saved_j / (saved_j + energy_j) if saved_j + energy_j > 0 else None,
            basis="modelled",
            against=f"always {best.name}" if best else "",
            note="joules of each variant's answers as measured, carbon at the day's mean",
        ),
    )


def _known(day: SpendingDay, use: Use, now_s: float) -> tuple[Fact, ...]:
    rules, facts = day.rules, []
    energy_uj, carbon_ug = day.spent(use, now_s)
    if rules.gco2e_per_day is not None:
        facts += [
            Fact(name="budget of the day", value=rules.gco2e_per_day, unit="gCO2e", basis="set"),
            Fact(name="charged so far", value=carbon_ug / 1e6, unit="gCO2e", source="the books, and receipts since"),
        ]
    if rules.joules_per_day is not None:
        facts += [
            Fact(name="budget of the day", value=rules.joules_per_day, unit="J", basis="set"),
            Fact(name="charged so far", value=energy_uj / UJ_PER_J, unit="J", source="the books, and receipts since"),
        ]
    for what, floor in (("floor of the mean", rules.mean_quality), ("floor of each answer", rules.least_quality)):
        if floor is not None:
            facts.append(Fact(name=what, value=floor, basis="set"))
    facts.append(Fact(name="answers so far", value=sum(day.answers.values()), source="its replicas"))
    facts.append(
        Fact(name="answers to come", value=sum(day.expected(now_s)), basis="forecast", source="the load of days before")
    )
    return tuple(facts)


def _of_grid(view: View, pue: float, now_s: float) -> tuple[Fact, ...]:
    error = "" if view.error is None else f", {view.error:.1%} off on the first day ahead"
    return (
        Fact(
            name="grid now",
            value=view.outlook.at(now_s) * pue,
            unit="gCO2e/kWh, PUE included",
            source=f"{view.source}; weakest figure {view.grade}",
        ),
        Fact(
            name="grid for the rest of the day",
            value=f"{view.model}{error}",
            basis="forecast",
            source=view.source,
        ),
    )


def _of_variants(day: SpendingDay, use: Use) -> tuple[Fact, ...]:
    return tuple(
        Fact(
            name=f"an answer of {each.name}, worth {each.quality:g}",
            value=each.energy_j,
            unit="J",
            basis="not known" if each.energy_j is None else "measured",
            source="the books over its answers" if each.energy_j is not None else "answers a few, to be measured",
        )
        for each in day.variants(use)
    )


def _course(way: Way, day: SpendingDay) -> Course:
    in_grams = day.rules.joules_per_day is None or day.rules.gco2e_per_day is not None
    return Course(
        name=way.name,
        carbon_g=way.cost if in_grams else None,
        energy_j=None if in_grams else way.cost,
        quality=way.quality,
        note="rest of the day",
    )


def _saving(dearest: Way, mix: Way, day: SpendingDay) -> Saving:
    less = dearest.cost - mix.cost
    course = _course(Way("", less, 0.0), day)
    return Saving(
        carbon_g=course.carbon_g,
        energy_j=course.energy_j,
        share=less / dearest.cost if dearest.cost > 0 else None,
        basis="modelled",
        against=dearest.name,
        note="rest of the day, on the forecasts of grid and load",
    )
