"""What `joulekeeper optimize` is asked, and what it answers. Knows nothing of how it is found out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from app.domain.decision import Part, Saving
from app.policy.advice import Advice
from app.policy.advice_serving import Floor

TargetArgument = Annotated[
    str, typer.Argument(metavar="MODEL|JOB.yaml", help="An application that serves, or a job file.")
]
LeastOption = Annotated[
    Literal["carbon", "energy"], typer.Option("--for", help="What shall be least; hour and zone change carbon alone.")
]
P95Option = Annotated[float | None, typer.Option(min=0.1, help="Of a model, ms: 95 % of answers within it.")]
GapOption = Annotated[
    float | None, typer.Option(min=0.1, help="Of a language model, ms: from token to token, for 90 % of them.")
]
FirstTokenOption = Annotated[
    float | None, typer.Option(min=0.1, help="And to the first token, for 95 % of prompts; ms.")
]
FloorOption = Annotated[
    str, typer.Option(metavar="METRIC=VALUE", help="What a variant must keep; else 99 % of every metric now.")
]
SinceOption = Annotated[str, typer.Option(help="Of a model: the books' period, as in `joulekeeper report`.")]
SlowerOption = Annotated[float, typer.Option(min=1, help="Of a job: it may take so many times as long.")]
SlackOption = Annotated[float | None, typer.Option(min=0, help="Of a job: it may be over so many hours later.")]
HoursOption = Annotated[float, typer.Option(min=0, help="Of a job: what it takes, where no run shows it.")]
ZoneOption = Annotated[list[str] | None, typer.Option(help="A zone that it could run in; again for more.")]
MovedOption = Annotated[float, typer.Option(min=0, help="Gigabytes of data that such a zone does not have yet.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="SETTING", help="Apply this one, also where its saving is not known; again for more."),
]
ApplyOption = Annotated[bool, typer.Option("--apply", "--write", help="Deploy what pays, or write the job file.")]
UndoOption = Annotated[bool, typer.Option("--undo", help="Take back what was applied last.")]
RayClusterOption = Annotated[
    str, typer.Option(metavar="NAME", help="Of a job, in a pod of Kubernetes: size a worker group of it, too.")
]
GroupOption = Annotated[str, typer.Option(help="The worker group of that RayCluster.")]
PerReplicaOption = Annotated[int, typer.Option(min=1, help="Workers of the job for which one replica has room.")]


@dataclass(frozen=True, slots=True)
class Wish:
    """As the options have it."""

    least: str = "carbon"
    p95_ms: float | None = None
    gap_p90_ms: float | None = None
    first_token_p95_ms: float | None = None
    floor: Floor | None = None
    since: str = "7d"
    slower: float = 1.25
    slack_hours: float | None = None
    hours: float = 0.0
    zones: tuple[str, ...] = ()
    moved_gb: float = 0.0
    only: tuple[str, ...] = ()
    apply: bool = False
    raycluster: str = ""
    group: str = ""
    per_replica: int = 1
    storage: str = ""
    address: str = ""


class OptimizeView(Part):
    """What was found and done, for scripts."""

    subject: str
    advice: tuple[Advice, ...]
    applied: int | None = None
    """Number of the record, which `joulekeeper why SUBJECT` shows; None: nothing was applied."""
    expected: Saving | None = None
    """Of what was applied, or would be; None: nothing would."""
    outcome: Saving | None = None
    """Of what was applied before, where it is told for the first time."""
    difference: str = ""
    """Of a job file."""


def floor_of(text: str) -> Floor | None:
    """`accuracy=0.97`; None: nothing was said. Raises typer.BadParameter."""
    if not text:
        return None
    metric, _, bound = text.partition("=")
    try:
        return Floor(metric, float(bound))
    except ValueError:
        raise typer.BadParameter(
            f"must be METRIC=VALUE such as accuracy=0.97, got {text!r}", param_hint="--floor"
        ) from None


def check_wish(wish: Wish, *, is_job: bool, undo: bool) -> None:
    """Raises typer.BadParameter for options that mean nothing together."""
    if undo and wish.apply:
        raise typer.BadParameter("give --apply or --undo, not both", param_hint="--undo")
    if bool(wish.raycluster) != bool(wish.group):
        raise typer.BadParameter("a RayCluster needs the name of its worker group, too", param_hint="--group")
    if wish.raycluster and not is_job:
        raise typer.BadParameter("worker groups are sized for jobs; name a job file", param_hint="--raycluster")


def chosen_of(advices: Sequence[Advice], only: Sequence[str]) -> list[Advice]:
    """Those to be applied: what pays; where some are named those alone, as far as there is something to write.

    Raises typer.BadParameter for a name that no advice has.
    """
    if not only:
        return [each for each in advices if each.pays]
    known = {each.setting: each for each in advices}
    for name in only:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--only")
        if not (known[name].change and known[name].moves):
            raise typer.BadParameter(f"there is nothing to change about {name}", param_hint="--only")
    return [known[name] for name in dict.fromkeys(only)]
