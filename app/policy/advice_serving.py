"""Advice on how a model is served: which variant answers, how its requests run together.

Pure. What replicas measured of themselves, what cards say and what a config has come in as plain values. Knows nothing
of Ray. What it takes a variant's energy from are figures measured in turns with the version that it was made from, on
one machine: their ratio is carried over, never the joules.

    advise_variant("1", [Candidate("1", 1.0, {...}), Candidate("1-int8", 0.58, {...})], Floor("accuracy", 0.97))
    advise_limit("batch", "32 rows", governed, asked="50 ms", is_asked_now=True, change={})
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from app.domain.decision import Course, Fact, Saving
from app.errors import InvalidInput
from app.policy.advice import ANSWERS, WORTH, Advice, percent, settled, unknown
from app.policy.governed import Governed

LOWER_IS_BETTER = frozenset({"bits_per_byte", "loss", "mse"})
"""Metrics of model cards of which less is better; of all others more."""
KEPT_QUALITY = 0.99
"""Without a floor a variant must have as much of each metric of the present one, or no more than 1/0.99 of an error."""
UJ_PER_J = 1_000_000


_ONE_VERSION = "there is one version; `joulekeeper models quantize` or a job of kind compress makes and measures others"
_UNMEASURED = "no card tells energy per answer beside its base's: publish the variant again with a meter running"


@dataclass(frozen=True, slots=True)
class Floor:
    """What answers must still be worth: at least so much of `metric`, or at most where less is better."""

    metric: str
    bound: float

    def holds(self, quality: Mapping[str, float]) -> bool:
        """Whether a model of this quality is good enough; one whose metric is not known is not."""
        value = quality.get(self.metric)
        if value is None:
            return False
        return value <= self.bound if self.metric in LOWER_IS_BETTER else value >= self.bound

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.metric in LOWER_IS_BETTER else '>='} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that could answer."""

    version: str
    relative: float | None
    """Energy of an answer over that of the common base version; 1 for the base itself, None: not measured."""
    quality: Mapping[str, float]
    measured_on: str = ""
    """Hardware, for people."""


def advise_variant(
    now: str,
    candidates: Sequence[Candidate],
    floor: Floor | None,
    change: Callable[[str], Mapping[str, JsonValue]],
) -> Advice:
    """Which version should answer. `change` is what has to be written for a version. Answers change with it, so that
    without a floor that somebody set it waits to be named.

    Raises InvalidInput where `now` is not among the candidates.
    """
    present = next((each for each in candidates if each.version == now), None)
    if present is None:
        raise InvalidInput(f"version {now} is not among {', '.join(each.version for each in candidates)}")
    known = [each for each in candidates if each is not present and each.relative is not None]
    if not known or not present.relative:
        return unknown("variant", now, _ONE_VERSION if len(candidates) == 1 else _UNMEASURED)
    floors = (floor,) if floor else _kept(present.quality)
    courses = tuple(_course(each, present, floors) for each in candidates)
    facts = tuple(Fact(name="floor", value=str(each), basis="set" if floor else "modelled") for each in floors)
    good = [each for each in known if floors and all(one.holds(each.quality) for one in floors)]
    best = min(good, key=lambda each: each.relative or 0.0, default=None)
    share = 1 - (best.relative or 0.0) / present.relative if best else 0.0
    if best is None or share < WORTH:
        why = _why_it_stays(best, share, floors)
        return settled("variant", now, why, facts=facts, courses=courses)
    hardware = f" on {best.measured_on}" if best.measured_on else ""
    reason = f"{best.version} takes {percent(share)} less energy an answer, measured in turns{hardware}"
    return Advice(
        setting="variant",
        now=now,
        proposed=best.version,
        of=ANSWERS,
        saving=Saving(share=share, basis="measured", against=now, note="as a ratio, where the card was measured"),
        reasons=(reason, *(f"it keeps {each}: {best.quality[each.metric]:.4g}" for each in floors)),
        facts=facts,
        courses=courses,
        change=dict(change(best.version)),
        by_name=floor is None,
    )


def _kept(quality: Mapping[str, float]) -> tuple[Floor, ...]:
    """The floor where nobody set one: about as good as now, by every metric that is known."""
    return tuple(
        Floor(name, value / KEPT_QUALITY if name in LOWER_IS_BETTER else value * KEPT_QUALITY)
        for name, value in quality.items()
        if value > 0 and name in (*LOWER_IS_BETTER, "accuracy", "r2", "recall_at_1")
    )


def _why_it_stays(best: Candidate | None, share: float, floors: Sequence[Floor]) -> str:
    if not floors:
        return "nothing is known of the present version's quality: give --floor METRIC=VALUE"
    if best is None:
        return f"no other version keeps {' and '.join(map(str, floors))} with its energy measured"
    return f"{best.version}, the cheapest that is good enough, would save {percent(share)}: it is not worth a change"


def _course(each: Candidate, present: Candidate, floors: Sequence[Floor]) -> Course:
    metric = floors[0].metric if floors else next(iter(present.quality), "")
    known, beside = bool(each.relative and present.relative), "energy not measured"
    if each.relative and present.relative:
        beside = f"{each.relative / present.relative:.3f} of the present energy"
    keeps = "" if not floors or all(one.holds(each.quality) for one in floors) else "; below the floor"
    return Course(
        name=f"variant {each.version}",
        quality=each.quality.get(metric),
        basis="measured" if known else "not known",
        note=beside + keeps,
    )


def advise_limit(
    setting: str,
    now: str,
    governed: Governed | None,
    *,
    asked: str,
    is_asked_now: bool,
    change: Mapping[str, JsonValue],
) -> Advice:
    """How many run together: `asked` is the objective that is wanted, `is_asked_now` whether it is in force already."""
    if not asked:
        todo = "give the latency that must be kept (--p95-ms, --gap-p90-ms): a governor then measures while it serves"
        return unknown(setting, now, todo)
    courses = _courses(setting, governed)
    if not is_asked_now:
        todo = f"applied, a governor looks for the least energy within {asked} while it serves; ask again after that"
        advice = unknown(setting, now, todo, proposed=f"governed, {asked}", change=change)
        return advice.model_copy(update={"courses": courses})
    if governed is None or not governed.tried:
        return unknown(setting, now, "its governor has measured nothing yet: let it serve, then ask again")
    by_name = {each.name: each for each in governed.tried}
    best, first = by_name.get(governed.best), by_name.get(governed.first)
    why = (
        f"its governor runs {governed.best}, the cheapest of {len(by_name)} limits that it has measured within {asked}"
    )
    if best and first and first.uj > 0:
        why += f": {percent(1 - best.uj / first.uj)} less energy a {governed.unit} than at {governed.first}"
    return settled(setting, now, why, courses=courses)


def _courses(setting: str, governed: Governed | None) -> tuple[Course, ...]:
    """What a governor has measured, against the objective that it has."""
    if governed is None:
        return ()
    return tuple(
        Course(
            name=f"{setting} {each.name}",
            energy_j=each.uj / UJ_PER_J,
            basis="measured",
            note=f"a {governed.unit}" + ("" if each.meets else f"; {governed.objective} is not kept for certain"),
        )
        for each in governed.tried
    )
