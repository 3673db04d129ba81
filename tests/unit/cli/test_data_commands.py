"""`joulekeeper data`: a wrong spec is told at once, and the table shows stages, what stayed and what was saved."""

from typer.testing import CliRunner

from app.cli.data import stages_grid
from app.cli.grid import plain_text
from app.cli.main import cli
from app.data.outcome import Outcome, energy_card, stage_rows
from app.data.tally import Done, Tally
from app.engine.views import JobDetail, JobShare, Report, ReportRow


def report_of(run):
    row = ReportRow(
        group={"tenant": "t", "job": run, "attempt": "1", "kind": "data"},
        energy_uj=3_000_000,
        carbon_ugco2e=400,
        share=1.0,
        by_grade_uj={"modelled": 3_000_000},
        uncertainty_uj=0,
    )
    shares = tuple(
        JobShare(worker=None, epoch=stage, energy_uj=energy_uj, time_ns=1)
        for stage, energy_uj in ((1, 1_000_000), (6, 2_000_000))
    )
    job = JobDetail(
        tenant="t", job=run, attempt=1, kind="data", energy_uj=3_000_000, by_worker=(), by_epoch=shares, shares=()
    )
    return Report(
        by="job",
        since_s=None,
        until_s=0,
        zone="DE",
        intensity_g_per_kwh=400,
        intensity_source="static",
        pue=1,
        energy_uj=3_000_000,
        carbon_ugco2e=400,
        rows=(row,),
        energy_utilisation=1,
        jobs=(job,),
    )


def outcome_of(report):
    tally = Tally()
    tally.add("read", "chunk-0", Done(9, 9.0))
    tally.add("read", "chunk-0", Done(10, 0.5))  # the same block again: a task that Ray repeated
    tally.add("read", "chunk-1", Done(10, 0.5))
    tally.add("write", "write-0", Done(15, 0.25))
    return Outcome(
        name="a",
        run="a-1",
        where="/y",
        source_files=2,
        source_bytes=1000,
        read_rows=20,
        faulty=1,
        exact=3,
        near=1,
        rows=15,
        content_bytes=800,
        written_bytes=200,
        written_files=1,
        seconds=2.0,
        stages=stage_rows(tally.sums(), {}, report, "a-1"),
        energy=energy_card(report, "a-1"),
        digest="sha256:0",
    )


def test_the_table_shows_joules_and_seconds_of_stages_and_both_ratios():
    text = plain_text(stages_grid(outcome_of(report_of("a-1"))))
    assert [line.split() for line in text.splitlines()[2:5]] == [
        ["read", "20", "1.00", "1.000"],
        ["write", "15", "0.25", "2.000"],
        ["total", "15", "1.25", "3.000"],
    ]
    assert "ratio 80.0%; packing alone 75.0%" in text
    assert "20 records read, 1 faulty, 3 equal to an earlier one, 1 similar to one: 15 stay" in text


def test_without_a_ledger_energy_is_unknown_not_zero():
    outcome = outcome_of(None)
    assert [row.energy_uj for row in outcome.stages] == [None, None]
    assert "energy unknown" in plain_text(stages_grid(outcome))
    assert outcome.plain()["ratio"] == 0.8


def test_a_wrong_spec_is_one_error(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("name: a\n")
    result = CliRunner().invoke(cli, ["data", "prepare", str(path)])
    assert result.exit_code == 1
    assert "has 3 mistakes" in result.output


def test_a_place_without_data_is_named(tmp_path):
    result = CliRunner().invoke(cli, ["data", "show", str(tmp_path)])
    assert result.exit_code == 1
    assert "no dataset.json" in result.output
