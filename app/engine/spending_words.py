"""What a replica that has a budget tells the accountant, and what it is told: who answers, and what is left.

Plain frozen values that pickle. Knows nothing of either end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.errors import InvalidInput
from app.policy.spending import SpendingRules


@dataclass(frozen=True, slots=True)
class Offered:
    """A variant that can answer."""

    name: str
    quality: float | None = None
    """None: nobody said what its answers are worth."""
    card_j: float | None = None
    """J of an answer where it was measured when it was made; other hardware, so only its proportions are used."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Answers of one variant since the process began, by their receipts."""

    answers: int = 0
    steered: int = 0
    """Those whose callers left the choice open."""
    energy_uj: int = 0
    carbon_ugco2e: float = 0.0


@dataclass(frozen=True, slots=True)
class SpendingPoll:
    """What one process tells."""

    who: str
    """Unique."""
    model: str
    rules: SpendingRules
    offered: tuple[Offered, ...]
    counted: Mapping[str, Counted] = field(default_factory=dict)
    refused: int = 0
    """For want of budget, since the process began."""


@dataclass(frozen=True, slots=True)
class Use:
    """What the books have charged to a model since its day began."""

    energy_uj: int = 0
    carbon_ugco2e: float = 0.0
    requests_uj: Mapping[str, int] = field(default_factory=dict)
    """By version, of `energy_uj` what requests took."""


@dataclass(frozen=True, slots=True)
class Told:
    """What holds until the next poll."""

    shares: Mapping[str, float]
    """By variant, of the answers whose callers left the choice open."""
    why: str
    """In a few words."""
    spent: bool
    """Nobody is answered until `ends_s`."""
    ends_s: float
    """Of the day; Unix seconds."""
    left_uj: float | None
    """This process's part of what is left; None: no such budget."""
    left_ugco2e: float | None


def check_offered(offered: tuple[Offered, ...], rules: SpendingRules) -> None:
    """Raises InvalidInput where the rules ask for quality and nobody said what a variant's answers are worth."""
    unknown = [each.name for each in offered if each.quality is None]
    if unknown and (len(offered) > 1 or rules.mean_quality is not None or rules.least_quality is not None):
        raise InvalidInput(
            f"spending needs to know what answers of {', '.join(unknown)} are worth: name a metric of their cards in "
            "`quality_metric`, or say it in `quality`"
        )
