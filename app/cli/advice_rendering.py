"""Advice as tables: one row a setting, then its reasons and what to run where a saving is not known, then what was
compared.

Pure: advice comes in, grids go out.
"""

from collections.abc import Iterator, Sequence

from app.cli.grid import Grid, columns
from app.domain.decision import Course, Saving
from app.policy.advice import Advice
from app.units import UJ_PER_J, format_carbon, format_energy

_UG_PER_G = 1_000_000


def advice_grids(
    subject: str, advices: Sequence[Advice], expected: Saving | None, outcome: Saving | None
) -> tuple[Grid, ...]:
    """`expected`: of what is or would be applied, `outcome`: of what was."""
    rows = tuple(
        (
            each.setting,
            each.now,
            each.proposed if each.moves else "",
            _share(each.saving),
            each.of if each.moves else "",
            each.saving.basis,
        )
        for each in advices
    )
    titles = columns("setting", "now", "proposed", ">saves", "of", "basis")
    notes = (*_notes(advices), *_together(expected, outcome))
    grids = [Grid(f"settings of {subject}", titles, rows, notes=notes)]
    compared = tuple(_course(course) for each in advices for course in each.courses)
    if compared:
        titles = columns("what was compared", ">energy", ">carbon", ">quality", "basis", "of what")
        grids.append(Grid("compared", titles, compared))
    return tuple(grids)


def share_text(saving: Saving) -> str:
    """`12.3 %`; where only an amount is known that; where nothing is `not known`."""
    return _share(saving) or "not known"


def _share(saving: Saving) -> str:
    if saving.share is not None:
        return f"{100 * saving.share:.1f} %" if saving.share else ""
    return "" if saving.basis != "not known" else "not known"


def _notes(advices: Sequence[Advice]) -> Iterator[str]:
    for each in advices:
        for reason in each.reasons:
            yield f"{each.setting}: {reason}"
        if each.saving.basis == "not known" and each.saving.note:
            yield f"{each.setting}: {each.saving.note}"


def _together(expected: Saving | None, outcome: Saving | None) -> Iterator[str]:
    if outcome is not None:
        yield f"what was applied before saved {share_text(outcome)}: {outcome.note}"
    if expected is not None:
        note = f" ({expected.note})" if expected.note else ""
        yield f"together: {share_text(expected)}, {expected.basis}{note}"


def _course(course: Course) -> tuple[str, ...]:
    return (
        course.name,
        "" if course.energy_j is None else format_energy(round(course.energy_j * UJ_PER_J)),
        "" if course.carbon_g is None else format_carbon(round(course.carbon_g * _UG_PER_G)),
        "" if course.quality is None else f"{course.quality:.4g}",
        course.basis,
        course.note,
    )
