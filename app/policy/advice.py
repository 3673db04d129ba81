"""Advice on one setting: what it is now, what it should be, what that is expected to save, and how that is known.

Pure. Knows nothing of Serve configs, job files or files at all: `change` is whatever the caller has to write down. A
saving that nobody has measured or can work out is not known; the advice then says what to run to know it.

    advice = settled("keep-alive", "30 s", "30 s is what its gaps ask for")
    advice.moves, advice.saving.share, advice.saving.note

Savings of several settings multiply (`together`) where they are shares of the same part of the energy.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from pydantic import Field, JsonValue

from app.domain.decision import Basis, Course, Fact, Part, Saving

WORTH = 0.02
"""A setting that saves less of its part than this is left as it is: that much is noise and trouble."""

ANSWERS, STANDBY, RUN = "answers", "standby", "all"
"""Parts of the energy that a saving is a share of: that of answering; of loading and of staying loaded; all of it."""


class Advice(Part):
    """On one setting."""

    setting: str
    """`batch`, `concurrency`, `keep-alive`, `variant`, `precision`, `power cap`, `workers`, `zone`, `hour`."""
    now: str
    """As people would say it."""
    proposed: str
    """The same as `now`: nothing better is known."""
    of: str
    """The part of the energy or carbon that the saving is a share of: ANSWERS, STANDBY or RUN."""
    saving: Saving
    """Its `note` says what to run where it is not known."""
    reasons: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    courses: tuple[Course, ...] = ()
    """What was compared, the present one included."""
    change: dict[str, JsonValue] = Field(default_factory=dict)
    """What has to be written to have it; empty: there is nothing to write, or nobody here can."""
    by_name: bool = False
    """It changes what comes out, beside what it costs: never applied unasked."""

    @property
    def moves(self) -> bool:
        """Whether it proposes anything else than what is."""
        return self.proposed != self.now

    @property
    def pays(self) -> bool:
        """Whether it is to be applied unasked: something to write, and a saving that is known and worth it."""
        return bool(self.change) and self.moves and not self.by_name and (self.saving.share or 0.0) >= WORTH


def settled(
    setting: str,
    now: str,
    why: str,
    *,
    of: str = ANSWERS,
    basis: Basis = "measured",
    facts: tuple[Fact, ...] = (),
    courses: tuple[Course, ...] = (),
) -> Advice:
    """It stays: nothing better is known to there be."""
    saving = Saving(share=0.0, energy_j=0.0, basis=basis, against=now)
    return Advice(
        setting=setting, now=now, proposed=now, of=of, saving=saving, reasons=(why,), facts=facts, courses=courses
    )


def unknown(
    setting: str,
    now: str,
    todo: str,
    *,
    of: str = ANSWERS,
    proposed: str = "",
    change: Mapping[str, JsonValue] | None = None,
    facts: tuple[Fact, ...] = (),
) -> Advice:
    """Nobody has measured it. With `proposed` and `change` it is something to try, which is never applied unasked."""
    return Advice(
        setting=setting,
        now=now,
        proposed=proposed or now,
        of=of,
        saving=Saving(basis="not known", against=now, note=todo),
        change=dict(change or {}),
        facts=facts,
    )


def together(advices: Iterable[Advice]) -> dict[str, float]:
    """Share that all known savings of `advices` leave over, by part: savings of one part multiply."""
    shares: dict[str, list[float]] = defaultdict(list)
    for advice in advices:
        if advice.moves and advice.saving.share is not None:
            shares[advice.of].append(1 - advice.saving.share)
    return {part: math.prod(left) for part, left in shares.items()}


def percent(share: float) -> str:
    """`12.3 %`, of a share."""
    return f"{100 * share:.1f} %"
