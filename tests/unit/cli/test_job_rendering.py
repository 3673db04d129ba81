"""Jobs by worker and epoch below the report: sums, ends of long lists, and what is left to other formats."""

from app.cli.grid import plain_text
from app.cli.job_rendering import job_grids
from app.engine.views import JobDetail, JobShare, Report, ReportRow


def detail(epochs: int, job: str = "digits-1") -> JobDetail:
    by_epoch = tuple(
        JobShare(worker=None, epoch=epoch, energy_uj=1_000_000, time_ns=500_000_000) for epoch in range(epochs)
    )
    total_uj = epochs * 1_000_000
    by_worker = (JobShare(worker=0, epoch=None, energy_uj=total_uj, time_ns=epochs * 500_000_000),)
    return JobDetail(
        tenant="default",
        job=job,
        attempt=2,
        kind="train",
        energy_uj=total_uj,
        by_worker=by_worker,
        by_epoch=by_epoch,
        shares=(),
    )


def report(*jobs: JobDetail) -> Report:
    return Report(
        by="job",
        since_s=None,
        until_s=1_790_000_000,
        zone="FRA",
        intensity_g_per_kwh=36.0,
        intensity_source="a table",
        pue=1.0,
        energy_uj=0,
        carbon_ugco2e=0,
        rows=(),
        energy_utilisation=0.0,
        jobs=jobs,
    )


def test_a_job_has_a_table_by_worker_and_one_by_epoch() -> None:
    by_worker, by_epoch = map(plain_text, job_grids(report(detail(4))))
    assert by_worker.splitlines()[0] == "digits-1, attempt 2: by worker"
    assert by_worker.splitlines()[2].split() == ["0", "4.000", "2.0", "100.0", "%"]
    lines = [line.split() for line in by_epoch.splitlines()]
    assert lines[2] == ["outside", "1.000", "0.5", "25.0", "%"]
    assert lines[5] == ["3", "1.000", "0.5", "25.0", "%"]
    assert lines[6] == ["total", "4.000", "2.0", "100.0", "%"]


def test_what_a_job_was_charged_beyond_its_slices_is_told_where_it_is_known() -> None:
    row = ReportRow(
        group={"job": "digits-1", "attempt": "2", "node": "n1"},
        energy_uj=3_000_000,
        carbon_ugco2e=0,
        share=1.0,
        by_grade_uj={},
        uncertainty_uj=0,
    )
    other = row.model_copy(update={"group": row.group | {"attempt": "1"}})
    whole = report(detail(4)).model_copy(update={"rows": (row, row, other)})  # 6 J on two nodes, 4 J of them in slices
    (note,) = job_grids(whole)[1].notes
    assert note == "2.000 J more for its workers' time between slices: starting, waiting"
    assert job_grids(whole.model_copy(update={"since_s": 0.0}))[1].notes == ()


def test_of_many_epochs_the_first_and_the_last_are_shown() -> None:
    _, by_epoch = job_grids(report(detail(1000)))
    names = [row[0] for row in by_epoch.rows]
    assert names == ["outside", *map(str, range(1, 10)), "...", *map(str, range(990, 1000))]
    assert by_epoch.total is not None
    assert by_epoch.total[1] == "1000.000"


def test_of_many_jobs_the_largest_are_shown_and_the_others_counted() -> None:
    grids = job_grids(report(*(detail(1, f"job-{number}") for number in range(13))))
    assert len(grids) == 10  # their only epoch is none
    assert grids[-1].notes == ("3 more with workers or epochs: --format json or parts has all",)


def test_without_workers_and_epochs_there_is_nothing() -> None:
    assert job_grids(report()) == ()
