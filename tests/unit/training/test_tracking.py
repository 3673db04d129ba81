"""Loggers: what is logged, what a failing one costs, and TensorBoard's files as they can be read again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidInput
from app.training.history import EpochRow, WorkerRow
from app.training.parts import Tracking
from app.training.tracking import Trackers, check_tracking, figures_of, open_trackers

ROW = EpochRow(
    attempt=1,
    epoch=2,
    metrics={"accuracy": 0.75},
    seconds=4.0,
    steps=10,
    samples=80,
    energy_uj=50_000_000,
    carbon_ugco2e=2_000_000.0,
    workers=(
        WorkerRow(energy_uj=30_000_000, step_uj=25_000_000, step_s=3.0, waiting_s=0.0, waiting_uj=0),
        WorkerRow(energy_uj=20_000_000, step_uj=15_000_000, step_s=3.0, waiting_s=1.5, waiting_uj=4_000_000),
    ),
)


class Broken:
    def log(self, figures: Mapping[str, float], epoch: int, spent_j: float) -> None:
        raise OSError("disk full")

    def close(self, finished: bool) -> None:
        raise AssertionError("closed though it was left out")


class Kept:
    def __init__(self) -> None:
        self.logged: list[Any] = []
        self.closed: list[bool] = []

    def log(self, figures: Mapping[str, float], epoch: int, spent_j: float) -> None:
        self.logged.append((dict(figures), epoch, spent_j))

    def close(self, finished: bool) -> None:
        self.closed.append(finished)


def test_the_figures_of_an_epoch_are_joules_per_step_sample_epoch_and_worker() -> None:
    # Steps of both workers: 40 J in 10 steps and 80 samples.
    assert figures_of(ROW, 90_000_000) == {
        "metric/accuracy": 0.75,
        "energy/j_per_step": 4.0,
        "energy/j_per_sample": 0.5,
        "energy/j_per_epoch": 50.0,
        "energy/spent_j": 90.0,
        "energy/waiting_j": 4.0,
        "carbon/g_per_epoch": 2.0,
        "time/s_per_epoch": 4.0,
        "worker_0/j_per_epoch": 30.0,
        "worker_0/waiting_s": 0.0,
        "worker_1/j_per_epoch": 20.0,
        "worker_1/waiting_s": 1.5,
    }


def test_a_logger_that_fails_says_so_once_and_the_others_go_on() -> None:
    told: list[str] = []
    kept = Kept()

    def unopened() -> Kept:
        raise ConnectionError("no server")

    trackers = Trackers({"MLflow": unopened, "broken": Broken, "kept": lambda: kept}, told.append)
    trackers.epoch(ROW, 90_000_000)
    trackers.epoch(ROW, 95_000_000)
    trackers.close(finished=True)
    trackers.close(finished=False)
    assert told == [
        "MLflow gets no figures of this run: no server",
        "broken gets no more figures of this run: disk full",
    ]
    assert [(epoch, spent_j) for _, epoch, spent_j in kept.logged] == [(2, 90.0), (2, 95.0)]
    assert kept.closed == [True]


def test_tensorboard_gets_scalars_by_epoch_and_metrics_by_joule(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    told: list[str] = []
    settings = Tracking(tensorboard=str(tmp_path))
    trackers = open_trackers(settings, job="tiny", run="tiny-1", attempt=2, params={}, tell=told.append)
    trackers.epoch(ROW, 90_000_000)
    trackers.close(finished=True)
    (file,) = (tmp_path / "tiny-1" / "attempt-2").iterdir()
    scalars = {
        value.tag: (event.step, value.simple_value)
        for event in _events(file.read_bytes(), Event)
        for value in event.summary.value
    }
    assert scalars["metric/accuracy"] == (2, 0.75)
    assert scalars["by_joule/accuracy"] == (90, 0.75)
    assert scalars["energy/j_per_sample"] == (2, 0.5)
    assert told == []


def _events(content: bytes, event: Any) -> list[Any]:
    """The records of an event file: length (8 bytes), its CRC (4), the message, its CRC (4)."""
    found, place = [], 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        found.append(event.FromString(content[place + 12 : place + 12 + length]))
        place += 16 + length
    return found


def test_a_job_without_loggers_opens_none() -> None:
    told: list[str] = []
    trackers = open_trackers(Tracking(), job="tiny", run="tiny-1", attempt=1, params={}, tell=told.append)
    trackers.epoch(ROW, 0)
    trackers.close(finished=True)
    assert told == []


def test_mlflow_that_is_not_installed_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidInput, match=r"pip install 'joulekeeper\[mlflow\]'"):
        check_tracking(Tracking(mlflow="http://127.0.0.1:5000"), installed=lambda name: None)
    check_tracking(Tracking(mlflow="http://127.0.0.1:5000"), installed=lambda name: object())
    check_tracking(Tracking(tensorboard="/tmp"), installed=lambda name: None)
