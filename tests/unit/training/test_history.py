"""Epochs kept with the weights, and the curve of energy to accuracy over attempts."""

from pathlib import Path

from app.training.history import HISTORY_FILE, EpochRow, History, curve, frontier
from app.training.phases import Usage
from app.training.progress import EpochFigures, WorkerFigures


def row(attempt: int, epoch: int, energy_uj: int, accuracy: float) -> EpochRow:
    return EpochRow(
        attempt=attempt,
        epoch=epoch,
        metrics={"accuracy": accuracy},
        seconds=1.0,
        steps=10,
        samples=80,
        energy_uj=energy_uj,
        carbon_ugco2e=0.0,
        workers=(),
    )


ROWS = [row(1, 1, 10, 0.5), row(1, 2, 10, 0.7), row(2, 3, 10, 0.6), row(2, 4, 10, 0.9)]


def test_what_was_written_is_read_again_and_goes_on(tmp_path: Path) -> None:
    history = History()
    usage = {"step": Usage(energy_uj=30, slices=2, known=2), "evaluate": Usage(energy_uj=5, carbon_ugco2e=0.5)}
    workers = (WorkerFigures(20, 18, 1_500_000_000, 250_000_000, 3), WorkerFigures(15, 12, 1_500_000_000, 0, 0))
    history.add(EpochFigures(1, {"loss": 0.25}, 2.5, 7, 56, usage, workers), attempt=1)
    (tmp_path / HISTORY_FILE).write_text(history.to_json())
    again = History.read(tmp_path)
    assert again.rows == history.rows
    assert (again.rows[0].energy_uj, again.rows[0].carbon_ugco2e) == (35, 0.5)
    assert (again.rows[0].workers[0].step_s, again.rows[0].workers[0].waiting_s) == (1.5, 0.25)


def test_a_checkpoint_without_history_and_no_checkpoint_begin_empty(tmp_path: Path) -> None:
    assert History.read(tmp_path).rows == []
    assert History.read(None).rows == []


def test_the_curve_counts_earlier_attempts_whole_and_setting_up_before_the_first_epoch() -> None:
    # Attempt 1: setup 3, epochs 11, 12 and a third of 9 that was lost: 35 in all, 2 more between slices.
    booked = {1: {0: 3, 1: 11, 2: 12, 3: 9}, 2: {0: 4, 3: 13, 4: 14}}
    points = curve(ROWS, booked, {1: 37, 2: 33})
    assert [point.spent_uj for point in points] == [14, 26, 37 + 4 + 13, 37 + 4 + 13 + 14]
    assert [point.energy_uj for point in points] == [11, 12, 13, 14]


def test_without_a_ledger_the_curve_is_what_the_workers_saw() -> None:
    assert [point.spent_uj for point in curve(ROWS, {}, {})] == [10, 20, 30, 40]
    assert curve([], {}, {}) == []


def test_the_frontier_has_only_points_that_are_better_than_all_before() -> None:
    points = curve(ROWS, {}, {})
    assert [point.epoch for point in frontier(points, "accuracy", smaller_is_better=False)] == [1, 2, 4]
    assert [point.epoch for point in frontier(points, "accuracy", smaller_is_better=True)] == [1]
    assert frontier(points, "loss", smaller_is_better=True) == []
