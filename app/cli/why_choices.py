"""The decisions about a deployment or its settings as tables: when, what, why, what else, and what came of it.

Knows nothing of where they are kept, nor of who decided.
"""

from collections.abc import Mapping

from app.cli.grid import Grid, columns
from app.cli.instants import instant
from app.domain.decision import Choice, Course, Fact, Saving
from app.units import format_carbon, format_energy

_MICROS = 1_000_000
_DETAILED = 3
"""The newest ones are shown with their facts and courses; `--json` has all."""


def choice_grids(subject: str, choices: Mapping[int, Choice]) -> tuple[Grid, ...]:
    """All of them in one table, then the newest in detail."""
    rows = tuple(
        (
            str(number),
            instant(each.at_s),
            each.topic,
            each.action,
            _saving(each.expected),
            _saving(each.realised),
            "" if each.about is None else str(each.about),
        )
        for number, each in choices.items()
    )
    titles = columns("", "when", "about", "decision", ">expected", ">came of it", ">of")
    newest = list(choices.items())[-_DETAILED:]
    overview = Grid(f"decisions about {subject}", titles, rows)
    return (overview, *(grid for number, each in newest for grid in _details(number, each)))


def _details(number: int, choice: Choice) -> tuple[Grid, ...]:
    facts = Grid(
        f"{number}. {choice.action}",
        columns("known", ">value", "", "basis", "from"),
        tuple((each.name, _value(each), each.unit, each.basis, each.source) for each in choice.facts),
        notes=(*choice.reasons, *_against(choice)),
    )
    if not choice.courses:
        return (facts,)
    courses = Grid(
        f"{number}. what could be done",
        columns("what", ">carbon", ">energy", ">quality", "basis", ""),
        tuple(
            (
                f"{each.name} *" if each.name == choice.chosen else each.name,
                *_figures(each),
                "" if each.quality is None else f"{each.quality:.4g}",
                each.basis,
                each.note,
            )
            for each in choice.courses
        ),
        notes=(f"* {choice.chosen}: chosen",) if choice.chosen else (),
    )
    return facts, courses


def _value(fact: Fact) -> str:
    if fact.value is None:
        return "not known"
    return fact.value if isinstance(fact.value, str) else f"{fact.value:.6g}"


def _against(choice: Choice) -> tuple[str, ...]:
    found = []
    for name, saving in (("expected", choice.expected), ("came of it", choice.realised)):
        if saving is not None:
            note = f"; {saving.note}" if saving.note else ""
            found.append(f"{name}: {_saving(saving)} less than {saving.against or 'before'} ({saving.basis}{note})")
    for name, values in (("before", choice.before), ("after", choice.after)):
        if values:
            found.append(f"{name}: {', '.join(f'{key} {value}' for key, value in values.items())}")
    return tuple(found)


def _saving(saving: Saving | None) -> str:
    if saving is None:
        return ""
    parts = [each for each in _figures(saving) if each]
    if saving.share is not None:
        parts.append(f"{saving.share:.1%}")
    return ", ".join(parts) or "not known"


def _figures(told: Course | Saving) -> tuple[str, str]:
    carbon_g, energy_j = told.carbon_g, told.energy_j
    return (
        "" if carbon_g is None else format_carbon(round(carbon_g * _MICROS)),
        "" if energy_j is None else format_energy(round(energy_j * _MICROS)),
    )
