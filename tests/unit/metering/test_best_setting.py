"""optimize: calls become measured blocks, what is found is applied when asked, undone, and both are on record."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.clock import ManualClock
from app.config import settings
from app.engine.decision_files import choices_in, directory_of
from app.engine.slices import SliceEnergy
from app.errors import InvalidInput, Unavailable
from app.metering.best_setting import optimize

COST_UJ = {8: 900, 16: 600, 32: 1000}


class Meter:
    """Blocks that are charged what the call before them set."""

    def __init__(self) -> None:
        self.used_uj = 0
        self.names: list[str] = []
        self.figures: SliceEnergy | None = None
        self.is_there = True

    @contextmanager
    def block(self, name: str) -> Iterator["Meter"]:
        self.names.append(name)
        yield self

    def settle(self, timeout_s: float = 10.0) -> SliceEnergy | None:
        return SliceEnergy(self.used_uj, 0.0, "counter", False) if self.is_there else None


@pytest.fixture
def meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    yield Meter()
    settings.cache_clear()


def found_by(meter: Meter, **options: Any) -> Any:
    def embed(batch: int) -> float:
        meter.used_uj = COST_UJ[batch] * 50
        clock.advance(10**9)
        return 50.0

    clock = ManualClock(wall_ns=1_700_000_000 * 10**9)
    return optimize(embed, {"batch": (8, 16, 32)}, block=meter.block, clock=clock, **options)


def test_it_finds_the_setting_and_says_what_it_saves_and_why(meter: Meter) -> None:
    found = found_by(meter)
    assert found.setting == {"batch": 16}
    assert found.saving == pytest.approx(1 / 3)
    assert found.uj_per_unit == pytest.approx(600)
    assert "batch=16 takes 33.3 % less energy a unit than batch=8" in found.reasons
    assert set(meter.names) == {"embed"}
    assert len(meter.names) == len(found.trials)


def test_what_was_found_is_applied_and_taken_back_with_a_record_of_each(meter: Meter, tmp_path: Path) -> None:
    found, used = found_by(meter, name="embedder"), {"batch": 8}
    number = found.apply(lambda **setting: used.update(setting))
    assert used == {"batch": 16}
    found.undo()
    assert used == {"batch": 8}
    applied, undone = choices_in(directory_of(tmp_path, "embedder")).values()
    assert (applied.action, applied.before, applied.after) == ("applied", {"batch": 8}, {"batch": 16})
    assert applied.expected is not None
    assert applied.expected.share == pytest.approx(1 / 3)
    assert {course.name for course in applied.courses} >= {"batch=8", "batch=16"}
    assert (undone.action, undone.about) == ("undone", number)
    with pytest.raises(InvalidInput, match="nothing was applied"):
        found.undo()


def test_asked_to_it_applies_at_once_and_only_what_saves(meter: Meter) -> None:
    used: dict[str, Any] = {}
    found_by(meter, apply=lambda **setting: used.update(setting))
    assert used == {"batch": 16}


def test_where_nothing_keeps_the_constraint_it_stays_as_it_is(meter: Meter) -> None:
    used: dict[str, Any] = {}
    found = found_by(meter, at_most_s=0.5, apply=lambda **setting: used.update(setting))
    assert (found.setting, found.saving, used) == ({"batch": 8}, 0.0, {})
    assert "no setting keeps the constraints" in found.reasons[1]


def test_without_a_meter_it_says_so_instead_of_guessing(meter: Meter) -> None:
    meter.is_there = False
    with pytest.raises(Unavailable, match="no meter has told the energy"):
        found_by(meter)


def test_a_name_that_cannot_be_kept_is_refused_before_anything_runs(meter: Meter) -> None:
    with pytest.raises(InvalidInput, match="no name"):
        found_by(meter, name="two words")
    assert meter.names == []
