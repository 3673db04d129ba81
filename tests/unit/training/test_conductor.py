"""A run on paper goes through a day by its plan: it waits, pauses, resumes, plans anew, and is over in time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.clock import ManualClock
from app.errors import Unavailable
from app.training.conductor import Conductor
from app.training.decisions import Decision, decisions_of
from app.training.pace import AttemptEnergy, Pace, WorldPace
from app.training.pace_keeper import PaceKeeper
from app.training.planner import Planner
from app.training.rehearsal import PaperBoard, PaperRun
from app.training.run_files import RunFiles
from app.training.start import Terms
from app.units import NS_PER_S
from tests.fixtures.paper_grid import PaperGrid
from tests.fixtures.small_training import job as small_job

START_S, HOUR_S = 1_780_000_000 - 1_780_000_000 % 3600, 3600.0
TWO_VALLEYS = (400.0,) * 4 + (90.0,) * 4 + (500.0,) * 6 + (100.0,) * 4 + (400.0,) * 12
"""Hours 4 to 8 and 14 to 18 are clean."""
PACE = Pace(
    run="tiny-0",
    epoch_steps=36,
    worlds=(WorldPace(world=1, step_s=1.0, power_w=1000.0),),
    setup_s=60.0,
    setup_j=60_000.0,
    closing_s=10.0,
)
"""36 steps of a second at 1 kW: 600 epochs are six hours."""


class Day:
    """A run of six hours of work that is submitted at hour 0 and must be over at hour `deadline`."""

    def __init__(
        self, directory: Path, truth: tuple[float, ...] = TWO_VALLEYS, deadline: float = 20, **start: Any
    ) -> None:
        self.clock = ManualClock(wall_ns=round(START_S * NS_PER_S))
        self.job = small_job(epochs=600, start={"slack_hours": 14, **start})
        assert self.job.start is not None
        files = RunFiles.open(str(directory), "tiny-1")
        self.grid = PaperGrid(START_S - 48 * HOUR_S, HOUR_S, (300.0,) * 48 + truth, self.clock)
        self.planner = Planner(self.job, self.job.start, PaceKeeper(files), self.grid, PACE)
        self.planner.terms = Terms(submitted_s=START_S, deadline_s=START_S + deadline * HOUR_S)
        self.board = PaperBoard()
        self.paper = PaperRun(self.job, files, PACE, self.clock, self.board, look_s=120.0)
        self.said: list[str] = []
        self.at_hour: dict[int, Callable[[], None]] = {}
        self.conductor = Conductor(
            self.planner, "tiny-1", self.board, self.clock, self.said.append, sleep=self._sleep, in_background=False
        )

    def live(self) -> dict[str, Any]:
        """Until the run has ended."""
        return self.conductor.conduct(lambda: self.paper.fit(self._look)).return_value

    @property
    def hour(self) -> float:
        return (self.clock.wall_ns() / NS_PER_S - START_S) / HOUR_S

    @property
    def decisions(self) -> list[Decision]:
        return decisions_of(self.planner.keeper.files)

    def hours(self) -> list[tuple[float, float]]:
        """In which workers were there, from the start of each to its end."""
        found: list[tuple[float, float]] = []
        for each in self.paper.drawn:
            begin, end = (each.start_s - START_S) / HOUR_S, (each.end_s - START_S) / HOUR_S
            if found and begin - found[-1][1] < 1e-6:
                found[-1] = (found[-1][0], end)
            else:
                found.append((begin, end))
        return found

    def _sleep(self, seconds: float) -> None:
        self.paper.sleep(max(seconds, 120.0))
        self._happen()

    def _look(self) -> bool:
        self._happen()
        return self.conductor.watch_once()

    def _happen(self) -> None:
        for hour in [each for each in self.at_hour if each <= self.hour]:
            self.at_hour.pop(hour)()


def test_it_waits_pauses_and_resumes_at_the_clean_hours(tmp_path: Path) -> None:
    day = Day(tmp_path)
    assert day.live()["stopped"] == ""
    first, second = day.hours()
    assert first == (pytest.approx(4.0, abs=0.05), pytest.approx(8.0, abs=0.05))
    assert second[0] == pytest.approx(14.0, abs=0.05)
    assert second[1] < 17
    assert [each.action for each in day.decisions if each.action != "replan"] == ["wait", "start", "pause", "resume"]
    # By hand: 6 h of steps, a first start and a restart of 60 s, at 1 kW and 90 or 100 g/kWh.
    assert day.paper.grams(day.grid.whole()) == pytest.approx(4 * 90 + (2 + 2 / 60) * 100, rel=0.02)
    assert day.decisions[0].expected_g == pytest.approx(day.paper.grams(day.grid.whole()), rel=0.02)
    assert day.decisions[0].now_g > 1.5 * day.decisions[0].expected_g
    assert day.conductor.waited_s == pytest.approx(10 * HOUR_S, rel=0.02)


def test_what_came_of_it_is_the_last_record(tmp_path: Path) -> None:
    day = Day(tmp_path)
    day.live()
    grams, joules = day.paper.grams(day.grid.whole()), day.paper.joules
    day.conductor.ended(AttemptEnergy(), round(joules * 1e6), round(grams * 1e6))
    last = day.decisions[-1]
    assert last.action == "ended"
    assert last.realised is not None
    assert last.realised.carbon_g == pytest.approx(grams)
    # At once: four hours at 400 and two at 90, and a minute of setting up.
    assert last.realised.at_once_g == pytest.approx(4 * 400 + 2 * 90, rel=0.02)
    assert last.realised.grade == "actual"


def test_a_forecast_that_changes_moves_the_plan_and_is_a_decision(tmp_path: Path) -> None:
    day = Day(tmp_path)

    def the_second_valley_comes_earlier() -> None:
        values = (*TWO_VALLEYS[:9], *((50.0,) * 5), *TWO_VALLEYS[14:])
        day.grid.truth[48:], day.grid.forecast[48:] = list(values), list(values)

    day.at_hour[6] = the_second_valley_comes_earlier
    day.live()
    first, second = day.hours()
    assert first[1] == pytest.approx(6.0, abs=0.1)
    assert second[0] == pytest.approx(9.0, abs=0.05)
    assert "replan" in [each.action for each in day.decisions]


def test_a_provider_that_dies_changes_the_grade_and_nothing_else(tmp_path: Path) -> None:
    whole, cut = Day(tmp_path / "whole"), Day(tmp_path / "cut")
    cut.at_hour[7] = lambda: setattr(cut.grid, "dead_since_s", cut.clock.wall_ns() / NS_PER_S)
    whole.live()
    cut.live()
    assert cut.hours() == [
        (pytest.approx(one, abs=0.05), pytest.approx(other, abs=0.05)) for one, other in whole.hours()
    ]
    for day in (whole, cut):
        day.conductor.ended(AttemptEnergy(), 1, 1)
    grades = [day.decisions[-1].realised.grade for day in (whole, cut) if day.decisions[-1].realised]
    assert grades == ["actual", "forecast"]


def test_what_must_not_be_interrupted_is_only_begun_later(tmp_path: Path) -> None:
    day = Day(tmp_path, interruptible=False)
    day.live()
    assert len(day.hours()) == 1
    assert day.hours()[0] == (pytest.approx(2.0, abs=0.05), pytest.approx(8.0, abs=0.05))


def test_a_flat_grid_is_not_waited_for(tmp_path: Path) -> None:
    day = Day(tmp_path, truth=(300.0,) * 30)
    day.live()
    assert day.hours()[0][0] == 0.0
    assert len(day.hours()) == 1
    assert [each.action for each in day.decisions] == ["start"]


def test_a_deadline_that_leaves_no_choice_is_kept(tmp_path: Path) -> None:
    day = Day(tmp_path, deadline=6.3)
    day.live()
    assert day.hours()[0][0] == 0.0
    assert day.hour < 6.3


def test_asked_to_stop_while_it_waits_it_ends_and_says_how_to_go_on(tmp_path: Path) -> None:
    day = Day(tmp_path)
    day.at_hour[2] = lambda: day.board.ask_to_stop("tiny-1", "paused")
    with pytest.raises(Unavailable, match=r"asked to stop before it began: paused; .* --run tiny-1"):
        day.live()
    assert day.hours() == []


def test_stopped_by_somebody_else_it_is_not_resumed(tmp_path: Path) -> None:
    day = Day(tmp_path)
    day.at_hour[5] = lambda: day.board.ask_to_stop("tiny-1", "paused")
    assert day.live()["stopped"] == "paused"
    assert day.hour < 5.1


def test_a_run_gone_on_with_keeps_its_deadline(tmp_path: Path) -> None:
    day = Day(tmp_path)
    day.at_hour[5] = lambda: day.board.ask_to_stop("tiny-1", "paused")
    day.live()
    again = Planner.open(day.job, str(tmp_path), "tiny-1", day.grid, START_S + 10 * HOUR_S)
    assert again.terms == Terms(submitted_s=START_S, deadline_s=START_S + 20 * HOUR_S)
    assert again.look(START_S + 10 * HOUR_S).inputs.hours_left == pytest.approx(5.0, rel=0.02)
