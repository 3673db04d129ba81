"""Reports as CSV."""

import csv
import io

from app.console.exports import grade_of, label_names, parts_csv, report_csv
from app.engine.views import JobDetail, JobShare, Report, ReportRow


def _row(group: dict[str, str], energy_uj: int, **changes: object) -> ReportRow:
    figures = {
        "carbon_ugco2e": 0,
        "share": 0.5,
        "by_grade_uj": {"counter": energy_uj},
        "uncertainty_uj": 0,
        **changes,
    }
    return ReportRow.model_validate({"group": group, "energy_uj": energy_uj, **figures})


def _report(*rows: ReportRow) -> Report:
    return Report(
        by="model",
        since_s=None,
        until_s=1_790_000_000,
        zone="FRA",
        intensity_g_per_kwh=36.0,
        intensity_source='a source, with a comma and "quotes"',
        pue=1.2,
        energy_uj=sum(row.energy_uj for row in rows),
        carbon_ugco2e=0,
        rows=rows,
        energy_utilisation=0.5,
    )


def test_every_row_carries_its_figures_and_the_terms_of_the_price() -> None:
    # 7.2 MJ = 2 kWh; at 36 g/kWh and PUE 1.2 that is 86.4 g.
    row = _row({"model": "minilm", "version": "1"}, 7_200_000_000_000, carbon_ugco2e=86_400_000)
    (read,) = csv.DictReader(io.StringIO(report_csv(_report(row))))
    assert (read["model"], read["version"]) == ("minilm", "1")
    assert int(read["energy_uj"]) == 7_200_000_000_000
    assert (float(read["energy_j"]), float(read["energy_kwh"])) == (7_200_000, 2)
    assert float(read["carbon_gco2e"]) == 86.4
    assert read["grade"] == "counter"
    assert (read["zone"], float(read["intensity_g_per_kwh"]), float(read["pue"])) == ("FRA", 36, 1.2)
    assert read["intensity_source"] == 'a source, with a comma and "quotes"'


def test_rows_with_different_labels_share_one_header() -> None:
    report = _report(_row({"model": "minilm"}, 2), _row({"job": "digits"}, 1))
    assert label_names(report) == ("model", "job")
    first, second = csv.DictReader(io.StringIO(report_csv(report)))
    assert (first["model"], first["job"]) == ("minilm", "")
    assert (second["model"], second["job"]) == ("", "digits")


def test_an_empty_report_is_a_header() -> None:
    assert report_csv(_report()).startswith("model,energy_uj,")
    assert report_csv(_report()).count("\n") == 1


def test_grades_without_energy_are_not_named() -> None:
    row = _row({"model": "m"}, 3, by_grade_uj={"modelled": 1, "counter": 2, "integrated": 0})
    assert grade_of(row) == "counter+modelled"


def test_parts_of_jobs_are_a_row_per_worker_and_epoch_or_their_sums() -> None:
    share = JobShare(worker=1, epoch=2, energy_uj=2_500_000, time_ns=1_500_000_000)
    worker = share.model_copy(update={"epoch": None})
    told = {"tenant": "acme", "job": "digits", "attempt": 1, "kind": "train", "energy_uj": 2_500_000}
    whole = JobDetail(**told, by_worker=(worker,), by_epoch=(), shares=(share,))
    sums = JobDetail(**told | {"job": "huge"}, by_worker=(worker,), by_epoch=(), shares=())
    report = _report().model_copy(update={"by": "job", "jobs": (whole, sums)})
    first, second = csv.DictReader(io.StringIO(parts_csv(report)))
    assert first == {
        "tenant": "acme",
        "job": "digits",
        "attempt": "1",
        "kind": "train",
        "worker": "1",
        "epoch": "2",
        "energy_uj": "2500000",
        "energy_j": "2.5",
        "time_s": "1.5",
    }
    assert (second["job"], second["worker"], second["epoch"]) == ("huge", "1", "")
