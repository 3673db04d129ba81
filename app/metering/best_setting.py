"""Finds the setting of a function with the least energy, by running it: what `app.energy.optimize` is.

Each call is a measured block on the ledger (blocks.py); which setting comes next is app/policy/objective_search.py's to
say. What was found is applied when asked, and undone; both are decisions on record.

    def embed(batch, threads):
        torch.set_num_threads(threads)
        return sum(len(encode(texts)) for texts in chunks(batch))       # units of work: texts

    found = optimize(embed, {"batch": (16, 8, 32, 64), "threads": (1, 2)}, name="embed", at_most_s=2.0)
    found.setting, found.saving, found.reasons
    found.apply(settings.update); found.undo()
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from app.clock import Clock, SystemClock
from app.config import settings
from app.domain.decision import Choice, Course, Fact, Saving
from app.engine.decision_files import directory_of, keep_choice
from app.engine.slices import SliceEnergy
from app.errors import InvalidInput, Unavailable
from app.metering.blocks import measure
from app.policy.objective_search import ObjectiveSearch, Trial
from app.units import NS_PER_S, UJ_PER_J

_SETTLE_S = 20.0
Objective = Callable[..., float | tuple[float, float]]
Apply = Callable[..., object]
"""Called with a setting, as keywords."""


class MeasuredBlock(Protocol):
    """What is used of a block."""

    def settle(self, timeout_s: float = ...) -> SliceEnergy | None: ...


Measure = Callable[[str], AbstractContextManager[MeasuredBlock]]


class Optimised:
    """What a search found. Nothing is set before `apply`."""

    def __init__(self, name: str, search: ObjectiveSearch, directory: Path, clock: Clock) -> None:
        self.name, self._search, self._directory, self._clock = name, search, directory, clock
        self._number: int | None = None
        self._applied: Apply | None = None

    @property
    def setting(self) -> Mapping[str, Hashable]:
        """The least energy a unit of those that keep the constraints; the present one where nothing is better."""
        best = self._search.best()
        return best if self._search.is_met(best) else self._search.first

    @property
    def first(self) -> Mapping[str, Hashable]:
        """The setting as it was: the first value of every dimension."""
        return self._search.first

    @property
    def trials(self) -> Sequence[Trial]:
        """Every measured call, in order."""
        return tuple(self._search.trials)

    @property
    def uj_per_unit(self) -> float:
        """Microjoules of a unit of work with `setting`."""
        return self._search.uj_per_unit(self.setting)

    @property
    def saving(self) -> float:
        """Share of the energy that `setting` saves over `first`, measured; 0: nothing better was found."""
        return 1 - self.uj_per_unit / self._search.uj_per_unit(self.first)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why this setting, a sentence each."""
        trials, best = len(self._search.trials), self._search.best()
        said = [f"{trials} calls with {len({tuple(each.setting.items()) for each in self._search.trials})} settings"]
        if not self._search.is_met(best):
            said.append(f"no setting keeps the constraints, {_told(best)} misses them least: it stays as it is")
        elif best == self.first:
            said.append("no setting near the present one that keeps the constraints takes less")
        else:
            said.append(f"{_told(best)} takes {100 * self.saving:.1f} % less energy a unit than {_told(self.first)}")
        said += [f"a setting could not run: {why}" for why in self._search.failed.values()]
        return tuple(said)

    def apply(self, apply: Apply) -> int:
        """Call `apply` with the setting; the number of the record, which `joulekeeper why NAME` shows."""
        apply(**self.setting)
        self._applied = apply
        self._number = self._keep("applied", self.first, self.setting)
        return self._number

    def undo(self) -> None:
        """Call what `apply` was given with the setting as it was. Raises InvalidInput before anything was applied."""
        if self._applied is None:
            raise InvalidInput(f"{self.name}: nothing was applied that could be undone")
        self._applied(**self.first)
        self._applied = None
        self._keep("undone", self.setting, self.first)

    def _keep(self, action: str, before: Mapping[str, Hashable], after: Mapping[str, Hashable]) -> int:
        undone = action == "undone"
        choice = Choice(
            at_s=self._clock.wall_ns() / NS_PER_S,
            action=action,
            subject=self.name,
            topic="setting",
            reasons=("asked for",) if undone else self.reasons,
            facts=(Fact(name="calls", value=float(len(self.trials)), source="app.energy.optimize"),),
            courses=() if undone else tuple(self._courses()),
            chosen=_told(after),
            expected=None if undone else Saving(share=self.saving, basis="measured", against=_told(before)),
            before=_plain(before),
            after=_plain(after),
            about=self._number if undone else None,
        )
        return keep_choice(self._directory, choice)

    def _courses(self) -> list[Course]:
        tried = {tuple(each.setting.items()): each.setting for each in self._search.trials}
        return [
            Course(
                name=_told(setting),
                energy_j=self._search.uj_per_unit(setting) / UJ_PER_J,
                basis="measured",
                note="a unit of work" if self._search.is_met(setting) else "a unit of work; misses the constraints",
            )
            for setting in tried.values()
        ]


def optimize(
    objective: Objective,
    space: Mapping[str, Sequence[Hashable]],
    *,
    name: str = "",
    at_most_s: float | None = None,
    at_least_quality: float | None = None,
    most_trials: int = 0,
    apply: Apply | None = None,
    block: Measure = measure,
    clock: Clock | None = None,
) -> Optimised:
    """The setting out of `space` with which `objective` takes the least energy for each unit of work.

    `objective` is called with one setting as keywords and returns the units of work it did, > 0, or a pair of units and
    their quality. The first value of every dimension is the present setting. `at_most_s`: seconds that a call may take;
    `at_least_quality`: what its quality must be. `most_trials` calls at most; 0: four for each setting, few are needed.
    `apply` is called with what was found where it saves anything. Each call is charged to the job `name`, by default
    the function's, and is waited for until the meter has booked it, which takes seconds.

    Raises InvalidInput for a space or a result that cannot be, Unavailable where no meter tells the energy of a call.
    """
    name = name or getattr(objective, "__name__", "objective").strip("<>")
    directory = directory_of(settings().state_dir, name)
    search = ObjectiveSearch(space, at_most_s=at_most_s, at_least_quality=at_least_quality, most_trials=most_trials)
    clock = clock or SystemClock()
    while (setting := search.next()) is not None:
        try:
            _try(search, objective, setting, block, name, clock)
        except MemoryError as error:
            search.fail(setting, f"{_told(setting)}: out of memory {error}".strip())
    found = Optimised(name, search, directory, clock)
    if apply is not None and found.setting != found.first:
        found.apply(apply)
    return found


def _try(
    search: ObjectiveSearch,
    objective: Objective,
    setting: Mapping[str, Hashable],
    block: Measure,
    name: str,
    clock: Clock,
) -> None:
    with block(name) as measured:
        begun_ns = clock.monotonic_ns()
        result = objective(**setting)
        took_ns = clock.monotonic_ns() - begun_ns
    figures = measured.settle(_SETTLE_S)
    if figures is None or figures.provisional:
        raise Unavailable(
            f"{name}: no meter has told the energy of a call within {_SETTLE_S:g} s; run it in a cluster with metering "
            "on (scripts/up), `joulekeeper watch` shows the meters"
        )
    units, quality = result if isinstance(result, tuple) else (result, None)
    search.observe(setting, units, took_ns / NS_PER_S, figures.energy_uj, quality)


def _told(setting: Mapping[str, Hashable]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())


def _plain(setting: Mapping[str, Hashable]) -> dict[str, Any]:
    """As JSON has it; what JSON has no word for as its text."""
    return {
        name: value if isinstance(value, str | int | float | bool) or value is None else str(value)
        for name, value in setting.items()
    }
