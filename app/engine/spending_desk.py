"""The accountant's desk of budgets: polls of deployments in, who answers and what is left out, records kept.

Knows nothing of Ray, nor of where figures of the books and of the grid come from. What it learnt of a day's load is
kept in a file of each model, so that a restart forgets at most a hundredth of a day. Thread-safe.

    desk = SpendingDesk(state_dir, used, look, clock, unsettled_s=5, pue=1.2)
    told = desk.answer(poll)                                # raises InvalidInput, Unavailable
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.clock import Clock
from app.engine.decision_files import directory_of, keep_choice
from app.engine.outlook import View
from app.engine.spending_day import SpendingDay
from app.engine.spending_records import chosen, ended
from app.engine.spending_words import SpendingPoll, Told, Use, check_offered
from app.errors import JoulekeeperError
from app.policy.day_load import DayLoad
from app.policy.spending import SLOTS
from app.policy.variants import Mix
from app.units import NS_PER_S

Used = Callable[[str, float], Use]
"""What a model was charged since a Unix time. Raises Unavailable."""
Look = Callable[[float, float], View]
"""What is expected of the grid from now until a Unix time. Raises nothing."""

_PARTS = 1000
"""Of a day: it is decided anew about as often."""
_SLOWEST_S = 30.0
_SHIFTED = 0.25
"""A share that moved by so much is another decision."""

_log = logging.getLogger(__name__)


class _Kept(BaseModel):
    """The file of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: list[float]
    days: float
    today: list[float]
    errors: list[float]
    start_s: float


class _Model:
    """What the desk has of one."""

    def __init__(self, day: SpendingDay) -> None:
        self.day = day
        self.mix: Mix | None = None
        self.use = Use()
        self.decided_s = self.kept_s = self.looked_s = 0.0
        self.view: View | None = None
        self.recorded: tuple[dict[str, float], bool] | None = None
        self.first_record: int | None = None


class SpendingDesk:
    """Of a cluster."""

    def __init__(
        self, state_dir: Path, used: Used, look: Look, clock: Clock, unsettled_s: float, pue: float = 1.0
    ) -> None:
        self._state_dir, self._used, self._look, self._clock = state_dir, used, look, clock
        self._unsettled_s, self._pue = unsettled_s, pue
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()

    def answer(self, poll: SpendingPoll) -> Told:
        """What a process may do until it asks again."""
        now_s = self._clock.wall_ns() / NS_PER_S
        check_offered(poll.offered, poll.rules)
        with self._lock:
            model = self._model(poll, now_s)
            if now_s >= model.day.ends_s:
                self._end(poll.model, model, now_s)
            model.day.hear(poll, now_s)
            pause_s = min(_SLOWEST_S, poll.rules.period_s / _PARTS)
            if model.mix is None or now_s - model.decided_s >= pause_s:
                self._decide(poll.model, model, now_s)
            return _told(model, now_s)

    def _model(self, poll: SpendingPoll, now_s: float) -> _Model:
        model = self._models.get(poll.model)
        if model is None or model.day.rules != poll.rules:
            load, was_today = self._read(poll, now_s)
            model = self._models[poll.model] = _Model(SpendingDay(poll.rules, now_s, self._unsettled_s, load))
            model.day.begin_at(self._used(poll.model, model.day.start_s))
            if was_today:
                model.day.seen_s = model.day.start_s
        return model

    def _decide(self, name: str, model: _Model, now_s: float) -> None:
        day = model.day
        slot_s = day.rules.slot_s
        model.use = self._used(name, day.start_s)
        if model.view is None or now_s - model.looked_s >= slot_s / 6 or now_s // slot_s != model.looked_s // slot_s:
            model.view, model.looked_s = self._look(now_s, day.ends_s), now_s
        model.mix, model.decided_s = day.decide(now_s, model.use, model.view, self._pue), now_s
        spent = _is_spent(model, now_s)
        if model.recorded is None or spent != model.recorded[1] or _moved(model.recorded[0], model.mix.shares):
            choice = chosen(name, day, model.mix, model.use, model.view, self._pue, now_s, spent)
            number = self._keep(name, choice)
            model.first_record = model.first_record or number
            model.recorded = model.mix.shares, spent
        if now_s - model.kept_s >= day.rules.period_s / 100:
            self._write(name, model, now_s)

    def _end(self, name: str, model: _Model, now_s: float) -> None:
        """The day of `model` is over; a new one begins."""
        day = model.day
        use = self._used(name, day.start_s)
        self._keep(name, ended(name, day, use, model.first_record))
        # What the books have of the new day already is not the old one's.
        begun = self._used(name, day.rules.start_s(now_s))
        day.next_day(_less(use, begun), now_s)
        model.mix = model.recorded = model.first_record = None
        self._write(name, model, now_s)

    def _keep(self, name: str, choice: object) -> int | None:
        try:
            return keep_choice(directory_of(self._state_dir, name), choice)  # type: ignore[arg-type]
        except JoulekeeperError as error:
            _log.error("%s; it holds nevertheless", error)
            return None

    def _path(self, name: str) -> Path:
        return self._state_dir / "spending" / f"{directory_of(self._state_dir, name).name}.json"

    def _read(self, poll: SpendingPoll, now_s: float) -> tuple[DayLoad, bool]:
        """The load of the days before, and whether today was counted from its begin."""
        try:
            kept = _Kept.model_validate_json(self._path(poll.model).read_text())
        except (OSError, ValidationError):
            return DayLoad(SLOTS), False
        was_today = kept.start_s == poll.rules.start_s(now_s)
        return DayLoad(SLOTS, kept.usual, kept.days, kept.today if was_today else (), kept.errors), was_today

    def _write(self, name: str, model: _Model, now_s: float) -> None:
        model.kept_s = now_s
        usual, days, today, errors = model.day.load.state
        kept = _Kept(usual=usual, days=days, today=today, errors=errors, start_s=model.day.start_s)
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_text(kept.model_dump_json())
            draft.replace(path)
        except OSError as error:
            _log.warning("what was learnt of the load of %s cannot be kept: %s", name, error)


def _told(model: _Model, now_s: float) -> Told:
    assert model.mix is not None, "decided before"  # noqa: S101
    day, gates = model.day, model.day.gates(now_s)
    left_uj, left_ug = day.left(model.use, now_s)
    return Told(
        shares=model.mix.shares,
        why=_words(model.mix),
        spent=_is_spent(model, now_s),
        ends_s=day.ends_s,
        left_uj=None if left_uj is None else left_uj / gates,
        left_ugco2e=None if left_ug is None else left_ug / gates,
    )


def _is_spent(model: _Model, now_s: float) -> bool:
    return any(left is not None and left <= 0 for left in model.day.left(model.use, now_s))


def _words(mix: Mix) -> str:
    """Why, in what fits a header."""
    if mix.price == 0:
        return "nothing is short"
    return f"budget: {mix.price:.3g} of quality a unit"


def _moved(old: dict[str, float], new: dict[str, float]) -> bool:
    names = old.keys() | new.keys()
    return any(abs(old.get(name, 0.0) - new.get(name, 0.0)) > _SHIFTED for name in names)


def _less(use: Use, other: Use) -> Use:
    requests = {name: energy_uj - other.requests_uj.get(name, 0) for name, energy_uj in use.requests_uj.items()}
    return Use(use.energy_uj - other.energy_uj, use.carbon_ugco2e - other.carbon_ugco2e, requests)
