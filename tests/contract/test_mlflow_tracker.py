"""The MLflow logger against MLflow's own client and its file store."""

from pathlib import Path

import pytest

from app.training.history import EpochRow
from app.training.parts import Tracking
from app.training.tracking import open_trackers

ROW = EpochRow(
    attempt=1,
    epoch=1,
    metrics={"accuracy": 0.75},
    seconds=4.0,
    steps=10,
    samples=80,
    energy_uj=50_000_000,
    carbon_ugco2e=2_000_000.0,
    workers=(),
)


# MLflow 3.17 warns of its own parts.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_one_run_over_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A database takes MLflow seconds to lay out; it is the store that people would use, and answers the same calls.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = tmp_path.as_uri()
    settings, told = Tracking(mlflow=uri), []
    for attempt in (1, 2):
        trackers = open_trackers(
            settings, job="tiny", run="tiny-1", attempt=attempt, params={"epochs": "3"}, tell=told.append
        )
        trackers.epoch(ROW.model_copy(update={"epoch": attempt}), attempt * 10_000_000)
        trackers.close(finished=attempt == 2)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id])
    assert told == []
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3"}
    spent = client.get_metric_history(run.info.run_id, "energy/spent_j")
    assert [(metric.step, metric.value) for metric in spent] == [(1, 10.0), (2, 20.0)]
