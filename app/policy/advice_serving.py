"""Advice on how a model is served: which variant, how long it stays loaded, how its requests run together.

Pure. What replicas measured of themselves, what cards say and what a config has come in as plain values. Knows nothing
of Ray. What it takes a variant's energy from are figures measured in turns with the version that it was made from, on
one machine: their ratio is carried over, never the joules.

    advise_variant("1", [Candidate("1", 1.0, {...}), Candidate("1-int8", 0.58, {...})], Floor("accuracy", 0.97))
    advise_keep_alive(StayNow(...), gaps_s, Standby(load_j=8.0, warm_w=1.2, sleeps=1))
    advise_limit("batch", "32 rows", [Tried("16 rows, 6 ms", uj, meets), ...])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from app.domain.decision import Course, Fact, Saving
from app.errors import InvalidInput
from app.policy.advice import ANSWERS, STANDBY, WORTH, Advice, percent, settled, unknown
from app.policy.gaps import EDGES_S

LOWER_IS_BETTER = frozenset({"bits_per_byte", "loss", "mse"})
"""Metrics of model cards of which less is better; of all others more."""
KEPT_QUALITY = 0.99
"""Without a floor a variant must have as much of each metric of the present one, or no more than 1/0.99 of an error."""
_FEW_GAPS = 10
_FORGIVEN_LOADS = 0.5
"""What one request that need not wait is worth, in loads: as KeepAliveSettings.cold_price is by default."""
UJ_PER_J = 1_000_000


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
    """Which version should answer. `change` is what has to be written for a version.

    Raises InvalidInput where `now` is not among the candidates.
    """
    present = next((each for each in candidates if each.version == now), None)
    if present is None:
        raise InvalidInput(f"version {now} is not among {', '.join(each.version for each in candidates)}")
    others = [each for each in candidates if each is not present]
    if not others:
        todo = "there is one version; `joulekeeper models quantize` or a job of kind compress makes and measures others"
        return unknown("variant", now, todo)
    known = [each for each in others if each.relative is not None and present.relative]
    if not known or not present.relative:
        todo = "no card tells energy per answer beside that of its base: publish the variant again with a meter running"
        return unknown("variant", now, todo)
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
    known = each.relative is not None and present.relative
    beside = f"{(each.relative or 0.0) / present.relative:.3f} of the present energy" if known else "energy not measured"
    keeps = "" if not floors or all(one.holds(each.quality) for one in floors) else "; below the floor"
    return Course(
        name=f"variant {each.version}",
        quality=each.quality.get(metric),
        basis="measured" if known else "not known",
        note=beside + keeps,
    )


@dataclass(frozen=True, slots=True)
class StayNow:
    """How long the last replica stays when nobody asks, as the config has it."""

    kind: str
    """`learnt` (KeepAlivePolicy), `delay` (Serve's own), `always` (never fewer than one)."""
    seconds: float
    """`learnt`: at most so long; `delay`: so long; `always`: has no meaning."""
    cold_price: float = _FORGIVEN_LOADS

    def __str__(self) -> str:
        if self.kind == "always":
            return "always loaded"
        return f"learnt, {self.seconds:g} s at most" if self.kind == "learnt" else f"{self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Standby:
    """What one replica measured of itself over its life."""

    load_j: float
    """Of its one load."""
    warm_w: float
    """While loaded and not asked."""
    sleeps: int
    """Gaps that outlasted its life: 1 where the model sleeps, 0 where it always stays."""


def advise_keep_alive(
    now: StayNow,
    gaps_s: Sequence[float],
    standby: Standby | None,
    change: Callable[[float], Mapping[str, JsonValue]],
) -> Advice:
    """How long a model should stay when nobody asks. `gaps_s` are the gaps between visits that were seen.

    Staying costs warm power, a gap that outlasts the delay a load, and who waits for it `cold_price` loads more; the
    delay with the least of that over the gaps is what the learnt policy comes to. `change` is what has to be written for
    it to stay so many seconds.
    """
    name = str(now)
    if standby is None or standby.warm_w <= 0 or standby.load_j <= 0:
        todo = "what its load and its staying cost is not measured: ask it a few requests with a meter running, and again"
        return unknown("keep-alive", name, todo, of=STANDBY)
    break_even_s = standby.load_j / standby.warm_w
    facts = (
        Fact(name="load", value=standby.load_j, unit="J", source="its replica"),
        Fact(name="staying", value=standby.warm_w, unit="W", source="its replica"),
        Fact(name="break-even", value=break_even_s, unit="s", basis="modelled"),
        Fact(name="gaps", value=float(len(gaps_s)), source="its replica"),
    )
    if len(gaps_s) < _FEW_GAPS:
        todo = f"{len(gaps_s)} gaps were seen, {_FEW_GAPS} are needed: let it serve on; staying pays {break_even_s:.3g} s"
        return unknown("keep-alive", name, todo, of=STANDBY, facts=facts)
    cost_of = _Stay(np.asarray(gaps_s), standby, now.cold_price)
    best_s = min(EDGES_S, key=cost_of.priced)
    present_s = {"always": np.inf, "delay": now.seconds}.get(now.kind, min(now.seconds, best_s))
    before_j, after_j = cost_of.joules(present_s), cost_of.joules(best_s)
    courses = (
        Course(name=f"keep-alive {name}", energy_j=before_j),
        Course(name=f"keep-alive {best_s:.3g} s", energy_j=after_j),
    )
    share = 1 - after_j / before_j if before_j > 0 else 0.0
    if share < WORTH:
        why = f"its {len(gaps_s)} gaps ask for about {best_s:.3g} s; a change would save {percent(max(share, 0.0))}"
        return settled("keep-alive", name, why, of=STANDBY, basis="modelled", facts=facts, courses=courses)
    return Advice(
        setting="keep-alive",
        now=name,
        proposed=f"learnt, about {best_s:.3g} s",
        of=STANDBY,
        saving=Saving(share=share, energy_j=before_j - after_j, basis="modelled", against=name),
        reasons=(
            f"a load costs as much as {break_even_s:.3g} s of staying, and over {len(gaps_s)} gaps that were seen "
            f"{best_s:.3g} s cost {after_j:.4g} J instead of {before_j:.4g} J",
        ),
        facts=facts,
        courses=courses,
        change=dict(change(best_s)),
    )


class _Stay:
    """What a delay would have cost over gaps that were seen."""

    def __init__(self, gaps_s: "np.ndarray[tuple[int], np.dtype[np.float64]]", standby: Standby, price: float) -> None:
        self._gaps_s, self._standby, self._price = gaps_s, standby, price

    def joules(self, delay_s: float) -> float:
        """Of staying and of loading."""
        stays_s = float(np.minimum(self._gaps_s, delay_s).sum())
        ends_s = delay_s if np.isfinite(delay_s) else 0.0
        return self._standby.warm_w * (stays_s + self._standby.sleeps * ends_s) + self._standby.load_j * self._loads(
            delay_s
        )

    def priced(self, delay_s: float) -> float:
        """The same, with a price on those who wait."""
        return self.joules(delay_s) + self._price * self._standby.load_j * self._loads(delay_s)

    def _loads(self, delay_s: float) -> int:
        return int((self._gaps_s > delay_s).sum()) + self._standby.sleeps


@dataclass(frozen=True, slots=True)
class Tried:
    """One limit that a governor knows."""

    name: str
    uj: float
    """Microjoules per row or token."""
    meets: bool
    """Its objective, with the doubt against it."""


@dataclass(frozen=True, slots=True)
class Governed:
    """What the governor of a replica has found."""

    unit: str
    """`row`, `token`."""
    first: str
    """The limit that it began with."""
    best: str
    tried: Sequence[Tried]


def advise_limit(
    setting: str, now: str, governed: Governed | None, *, asked: str, is_asked_now: bool, change: Mapping[str, JsonValue]
) -> Advice:
    """How many run together. `asked` is the objective that is wanted, `is_asked_now` whether it is in force already."""
    if not asked:
        todo = "give the latency that must be kept (--p95-ms, --gap-p90-ms): a governor then measures while it serves"
        return unknown(setting, now, todo)
    if not is_asked_now:
        todo = f"applied, a governor looks for the least energy within {asked} while it serves; ask again after that"
        return unknown(setting, now, todo, proposed=f"governed, {asked}", change=change)
    if governed is None or not governed.tried:
        return unknown(setting, now, "its governor has measured nothing yet: let it serve, then ask again")
    by_name = {each.name: each for each in governed.tried}
    courses = tuple(
        Course(
            name=f"{setting} {each.name}",
            energy_j=each.uj / UJ_PER_J,
            basis="measured",
            note=f"a {governed.unit}" + ("" if each.meets else "; does not keep the objective for certain"),
        )
        for each in governed.tried
    )
    best, first = by_name.get(governed.best), by_name.get(governed.first)
    why = f"its governor runs {governed.best}, the cheapest of {len(by_name)} limits that it has measured within {asked}"
    if best and first and first.uj > 0:
        why += f": {percent(1 - best.uj / first.uj)} less energy a {governed.unit} than at {governed.first}"
    return settled(setting, now, why, courses=courses)
