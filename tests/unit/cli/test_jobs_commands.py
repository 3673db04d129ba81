"""jobs list, jobs report: runs as the command shows them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.engine.job_report import CurveRow, JobReport, WorkerReport
from app.training.reports import keep_report

Call = Callable[..., Any]


def report(run: str, finished: bool = True, epochs: int = 2) -> JobReport:
    return JobReport(
        run=run,
        job="tiny",
        tenant="default",
        kind="train",
        finished=finished,
        started_s=1000.0 + int(run[-1]),
        seconds=86_400.0,
        attempts=2,
        epochs=epochs,
        energy_uj=100_000_000,
        carbon_ugco2e=40_000,
        grade="counter",
        source="ledger",
        lost_uj=5_000_000,
        restart_uj=1_000_000,
        metrics={"accuracy": 0.9},
        utilisation=0.5,
        scheduling_efficiency=0.5,
        energy_utilisation=0.75,
        compression_ratio=None,
        embodied_ugco2e=0,
        sci_per_epoch_ugco2e=20_000.0,
        sci_per_model_ugco2e=40_000.0,
        curve=tuple(
            CurveRow(
                epoch=epoch, attempt=1, spent_uj=epoch * 10_000_000, energy_uj=10_000_000, metrics={"accuracy": 0.9}
            )
            for epoch in range(1, epochs + 1)
        ),
        workers=tuple(
            WorkerReport(
                worker=rank, energy_uj=50_000_000, step_s=6.0, waiting_s=rank * 2.0, waiting_uj=rank * 1_000_000
            )
            for rank in range(2)
        ),
    )


@pytest.fixture
def storage(tmp_path: Path) -> str:
    keep_report(str(tmp_path), report("tiny-1"))
    keep_report(str(tmp_path), report("tiny-2", finished=False))
    (tmp_path / "tiny-3").mkdir()
    return str(tmp_path)


def test_every_run_is_listed_and_finished_over_submitted_stands_below(storage: str, call: Call) -> None:
    lines = call("jobs", "list", "--storage", storage).stdout.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["tiny-1", "finished"], ["tiny-2", "failed"], ["tiny-3", "no"]]
    assert "scheduling efficiency: 1 finished / 3 submitted = 33.3%" in lines[-1]


def test_a_report_shows_ratios_workers_and_the_curve(storage: str, call: Call) -> None:
    text = call("jobs", "report", "tiny-1", "--storage", storage).stdout
    shown = {" ".join(line.split()) for line in text.splitlines()}
    assert "utilisation = used / total 50.0%" in shown
    assert "of it for work that was lost, setting up again 5 J, 1 J" in shown
    assert "scheduling efficiency = finished / submitted 50.0%" in shown
    assert "energy utilisation = work / total 75.0%" in shown
    assert "compression ratio = (before - after) / before -" in shown
    assert "SCI, operational alone per epoch 20 mgCO2e" in shown
    assert "1 50.000 6.0 2.0 1.000" in shown
    assert "2 1 20.000 10.000 0.9000" in shown


def test_embodied_carbon_goes_into_sci_when_it_is_given(storage: str, call: Call) -> None:
    # A day of four years of 1461 kg is a kilogram; and 40 mg, over two epochs.
    given = ("--hardware", "1461", "--lifetime-years", "4")
    result = json.loads(call("jobs", "report", "tiny-1", "--storage", storage, *given, "--json").stdout)
    assert result["sci_per_epoch_ugco2e"] == pytest.approx((1e9 + 40_000) / 2)
    assert result["sci_per_model_ugco2e"] == pytest.approx(1e9 + 40_000)


def test_a_long_curve_is_shown_by_its_ends(tmp_path: Path, call: Call) -> None:
    keep_report(str(tmp_path), report("tiny-1", epochs=100))
    text = call("jobs", "report", "tiny-1", "--storage", str(tmp_path)).stdout
    epochs = [line.split()[0] for line in text.split("energy to accuracy")[1].splitlines()[2:] if line]
    assert (epochs[0], epochs[9], epochs[10], epochs[11], epochs[-1]) == ("1", "10", "...", "91", "100")


def test_a_run_that_is_not_there_is_one_line(storage: str, call: Call) -> None:
    result = call("jobs", "report", "tiny-9", "--storage", storage)
    assert result.exit_code == 1
    assert "'tiny-9' has no report" in result.stderr


def test_lists_are_json_for_scripts(storage: str, call: Call) -> None:
    found = json.loads(call("jobs", "list", "--storage", storage, "--json").stdout)
    assert [one["run"] for one in found["runs"]] == ["tiny-1", "tiny-2", "tiny-3"]
    assert found["scheduling_efficiency"] == pytest.approx(1 / 3)
