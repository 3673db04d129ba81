"""Reports of runs: what goes into one, and how it is kept and found again."""

from pathlib import Path

import pytest

from app.engine.views import Report, ReportKey
from app.errors import NotFound, Unavailable
from app.models.card import EnergyCard
from app.training.history import EpochRow, WorkerRow
from app.training.reports import (
    REPORT_FILE,
    Booked,
    RunFacts,
    energy_utilisation_of,
    job_report,
    keep_report,
    read_report,
    runs,
)
from app.training.restarts import Restart, RestartCosts

ENERGY = EnergyCard(energy_uj=100_000_000, carbon_ugco2e=40_000, grade="counter", source="ledger")
FACTS = RunFacts("tiny-1", "tiny", "default", "train", True, 1000.0, 10.0, 2, {"accuracy": 0.9})


def row(epoch: int, attempt: int) -> EpochRow:
    workers = (
        WorkerRow(energy_uj=20_000_000, step_uj=15_000_000, step_s=3.0, waiting_s=1.0, waiting_uj=2_000_000),
        WorkerRow(energy_uj=15_000_000, step_uj=12_000_000, step_s=3.0, waiting_s=0.0, waiting_uj=0),
    )
    return EpochRow(
        attempt=attempt,
        epoch=epoch,
        metrics={"accuracy": 0.4 + epoch / 10},
        seconds=4.0,
        steps=10,
        samples=80,
        energy_uj=35_000_000,
        carbon_ugco2e=1.0,
        workers=workers,
    )


class Books:
    """A period with three quarters of its energy for work."""

    def __init__(self, energy_uj: int = 200_000_000, trouble: bool = False) -> None:
        self.energy_uj, self.trouble = energy_uj, trouble
        self.asked: list[tuple[object, ...]] = []

    def report(self, by: ReportKey, since_s: float | None = None, until_s: float | None = None) -> Report:
        self.asked.append((by, since_s, until_s))
        if self.trouble:
            raise Unavailable("no accountant")
        return Report(
            by=by,
            since_s=since_s,
            until_s=2000.0,
            zone="world",
            intensity_g_per_kwh=480.0,
            intensity_source="",
            pue=1.0,
            energy_uj=self.energy_uj,
            carbon_ugco2e=80_000,
            rows=(),
            energy_utilisation=0.75,
        )


def test_a_report_has_the_four_ratios_sci_and_the_curve() -> None:
    booked = Booked(
        attempts_uj={1: 60_000_000, 2: 40_000_000},
        epochs_uj={1: {1: 36_000_000}},
        energy_utilisation=0.75,
        restarts=RestartCosts((Restart(2, 2, 2, 10, 4, 9_000_000, 1_000_000, None),)),
    )
    report = job_report(FACTS, ENERGY, [row(1, 1), row(2, 2)], booked)
    # Two epochs with two workers: 12 s in steps, 2 s of it waiting; 2 workers x 10 s were held.
    assert report.utilisation == pytest.approx(0.5)
    assert report.scheduling_efficiency == 0.5
    assert report.energy_utilisation == 0.75
    assert report.compression_ratio is None
    assert (report.lost_uj, report.restart_uj) == (9_000_000, 1_000_000)
    assert report.sci_per_epoch_ugco2e == 20_000
    assert report.sci_per_model_ugco2e == 40_000
    # Epoch 1 as the ledger has it; attempt 1 whole, then epoch 2 as its workers saw it.
    assert [point.spent_uj for point in report.curve] == [36_000_000, 95_000_000]
    assert [worker.waiting_s for worker in report.workers] == [2.0, 0.0]


def test_without_a_meter_what_only_it_knows_is_left_open() -> None:
    nothing = EnergyCard(energy_uj=0, carbon_ugco2e=0, grade="none", source="none")
    report = job_report(FACTS, nothing)
    assert (report.utilisation, report.energy_utilisation) == (None, None)
    assert (report.sci_per_epoch_ugco2e, report.sci_per_model_ugco2e) == (None, None)
    assert report.curve == ()


def test_the_books_are_asked_for_the_runs_own_time() -> None:
    books = Books()
    assert energy_utilisation_of(books, 1000.0, 1010.0) == 0.75
    assert books.asked == [("account", 1000.0, 1010.0)]


@pytest.mark.parametrize("books", [None, Books(trouble=True), Books(energy_uj=0)])
def test_books_that_know_nothing_of_the_time_give_no_ratio(books: Books | None) -> None:
    assert energy_utilisation_of(books, 0.0, 1.0) is None


def test_what_a_job_made_smaller_has_a_compression_ratio() -> None:
    facts = RunFacts("c-1", "c", "default", "compress", True, 0.0, 1.0, 1, {}, before_bytes=400, after_bytes=100)
    assert job_report(facts, ENERGY).compression_ratio == 0.75


def test_reports_are_kept_beside_their_runs_and_found_again(tmp_path: Path) -> None:
    storage = str(tmp_path)
    report = job_report(FACTS, ENERGY, [row(1, 1)])
    keep_report(storage, report)
    (tmp_path / "tiny-2").mkdir()
    (tmp_path / "cut-off").mkdir()
    (tmp_path / "cut-off" / REPORT_FILE).write_text('{"run": "cut-')
    assert read_report(storage, "tiny-1") == report
    assert runs(storage) == {"tiny-1": report, "cut-off": None, "tiny-2": None}
    with pytest.raises(NotFound, match=r"tiny-2.*no report"):
        read_report(storage, "tiny-2")


def test_a_storage_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert runs(str(tmp_path / "nowhere")) == {}
