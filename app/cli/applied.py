"""Settings that were applied, on record: what changed, what was expected of it, how to take it back, what came of it.

Records are Choices of topic `setting` in app/engine/decision_files.py; one is never altered. Knows nothing of Serve or
job files: what undoes a change is a mapping of whoever applied it.

    number = keep_applied(directory, "digits", now_s, advices, change, parts_uj, facts)
    last = last_applied(directory)                    # None: nothing to undo
    keep_undone(directory, last, now_s); keep_outcome(directory, last, now_s, before_j, now_j, "an answer")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain.decision import Choice, Fact, Saving
from app.engine.decision_files import choices_in, keep_choice
from app.policy.advice import Advice, together

TOPIC = "setting"
APPLIED, UNDONE, CAME = "applied", "undone", "came of it"
PER_UNIT, UNITS, LIFE = "energy a unit", "units", "seconds"
"""Facts by which what came of a change is told later: joules, of how many, in what time."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A record of settings that were applied."""

    number: int
    choice: Choice

    @property
    def before_j(self) -> float | None:
        """Joules of a unit of work before it; None: not known then."""
        return self.figure(PER_UNIT)

    def figure(self, name: str) -> float | None:
        """Of a fact of the record; None: it has none of that name."""
        found = next((fact.value for fact in self.choice.facts if fact.name == name), None)
        return float(found) if isinstance(found, int | float) else None


def expected(advices: Sequence[Advice], parts: Mapping[str, float]) -> Saving:
    """What they save together. `parts`: energy or carbon of each part as it is; only their ratios count."""
    moved = [each for each in advices if each.moves]
    left = together(moved)
    unknown = [each.setting for each in moved if each.saving.share is None]
    total = sum(parts.get(part, 0.0) for part in parts)
    if not left:
        return Saving(basis="not known", against="as it was", note=f"not known of {', '.join(unknown)}")
    note = f"not known of {', '.join(unknown)}, which is not in it" if unknown else ""
    if total > 0 and left.keys() <= parts.keys():
        share = 1 - sum(amount * left.get(part, 1.0) for part, amount in parts.items()) / total
    elif len(left) == 1:
        (part, share_left), share = next(iter(left.items())), 0.0
        share, note = 1 - share_left, "; ".join(filter(None, (f"of {part} alone", note)))
    else:
        return Saving(basis="not known", against="as it was", note="the parts of its energy are not known")
    bases = {each.saving.basis for each in moved if each.saving.share is not None}
    basis = "measured" if bases == {"measured"} else "forecast" if "forecast" in bases else "modelled"
    return Saving(share=share, basis=basis, against="as it was", note=note)


def keep_applied(
    directory: Path,
    subject: str,
    now_s: float,
    advices: Sequence[Advice],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    parts: Mapping[str, float],
    facts: Sequence[Fact] = (),
) -> int:
    """The record of `advices`, all applied; its number. `before` is what undoes them."""
    choice = Choice(
        at_s=now_s,
        action=APPLIED,
        subject=subject,
        topic=TOPIC,
        reasons=tuple(f"{each.setting}: {reason}" for each in advices for reason in each.reasons),
        facts=(*facts, *(fact for each in advices for fact in each.facts)),
        courses=tuple(course for each in advices for course in each.courses),
        chosen="; ".join(f"{each.setting} {each.proposed}" for each in advices),
        expected=expected(advices, parts),
        before=dict(before),
        after=dict(after),
    )
    return keep_choice(directory, choice)


def last_applied(directory: Path) -> Applied | None:
    """The newest that was not undone."""
    records = choices_in(directory)
    undone = {each.about for each in records.values() if each.topic == TOPIC and each.action == UNDONE}
    found = [
        Applied(number, each)
        for number, each in records.items()
        if each.topic == TOPIC and each.action == APPLIED and number not in undone
    ]
    return found[-1] if found else None


def keep_undone(directory: Path, applied: Applied, now_s: float) -> int:
    """Say that it was taken back."""
    choice = applied.choice
    return keep_choice(
        directory,
        Choice(
            at_s=now_s,
            action=UNDONE,
            subject=choice.subject,
            topic=TOPIC,
            reasons=(f"asked for: {choice.chosen} is taken back",),
            chosen="as it was",
            before=choice.after,
            after=choice.before,
            about=applied.number,
        ),
    )


def keep_outcome(directory: Path, applied: Applied, now_s: float, now_j: float, what: str) -> Saving | None:
    """Say once what came of it, by the energy of a unit of work since; None: it is said, or was not known before."""
    told = any(each.action == CAME and each.about == applied.number for each in choices_in(directory).values())
    before_j = applied.before_j
    if told or not before_j:
        return None
    note = f"{now_j:.4g} J {what} instead of {before_j:.4g} J; the load may have changed meanwhile, too"
    saving = Saving(share=1 - now_j / before_j, basis="measured", against="before it", note=note)
    choice = Choice(
        at_s=now_s,
        action=CAME,
        subject=applied.choice.subject,
        topic=TOPIC,
        reasons=(note,),
        chosen=applied.choice.chosen,
        about=applied.number,
        realised=saving,
    )
    keep_choice(directory, choice)
    return saving
