"""The training loop in one process: it learns, resumes exactly, and tells energy beside the work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.domain.account import Account, job_account
from app.training import stops
from app.training.fabric import SoloFabric
from app.training.job import TrainJob, parse_job
from app.training.phases import Phases
from app.training.worker import _finish_queued, train


@dataclass
class Figures:
    energy_uj: int = 2_000_000
    carbon_ugco2e: int = 500
    grade: str = "modelled"
    provisional: bool = True


class Slice:
    def __init__(self, figures: Figures | None) -> None:
        self.figures = figures

    def end(self) -> None: ...

    @property
    def booked_uj(self) -> int:
        return self.figures.energy_uj if self.figures else 0

    def energy(self) -> Figures | None:
        return self.figures


class Client:
    def __init__(self, figures: Figures | None) -> None:
        self.figures = figures
        self.weights: list[float] = []
        self.parts: list[int] = []

    def begin(self, account: Account, weight: float = 1.0, part: int = 0) -> Slice:
        self.weights.append(weight)
        self.parts.append(part)
        return Slice(self.figures)


def job(**changes: Any) -> TrainJob:
    return parse_job(
        {
            "name": "tiny",
            "model": {"architecture": "mlp", "sizes": [64, 32, 10], "input_scale": 16},
            "data": {"source": "builtin:digits", "test_share": 0.25, "seed": 3},
            "optimiser": {"name": "adam", "lr": 0.01, "schedule": "cosine"},
            "loss": "cross_entropy",
            "epochs": 4,
            "batch_size": 64,
            "seed": 5,
            **changes,
        },
        "test",
    )


def run(training: TrainJob, fabric: SoloFabric, client: Client | None = None) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    torch.set_num_threads(1)
    phases = Phases(client or Client(None), job_account("default", "tiny-1", 1))
    return train(training, fabric, phases, attempt=fabric.next_attempt(), tell=lines.append), lines


def test_digits_are_learned_and_every_epoch_is_reported(tmp_path: Path) -> None:
    fabric = SoloFabric(tmp_path)
    outcome, lines = run(job(), fabric)
    assert outcome["metrics"]["accuracy"] > 0.9
    assert [report["epoch"] for report in fabric.reports] == [1, 2, 3, 4]
    assert lines[0] == "tiny: attempt 1, from the beginning, 4 epochs, 1 worker"
    assert lines[-1].startswith("epoch 4/4  loss ")
    assert lines[-1].endswith("energy unknown: no meter has told anything yet")


def test_a_resumed_job_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    whole, halves = SoloFabric(tmp_path / "whole"), SoloFabric(tmp_path / "halves")
    for fabric in (whole, halves):
        (tmp_path / ("whole" if fabric is whole else "halves")).mkdir()
    run(job(), whole)

    class Died(Exception):
        pass

    def die_after_two(metrics: dict[str, Any], directory: Path | None) -> None:
        SoloFabric.report(halves, metrics, directory)
        if metrics["epoch"] == 2:
            raise Died

    halves.report = die_after_two  # type: ignore[method-assign]
    with pytest.raises(Died):
        run(job(), halves)
    del halves.report
    outcome, lines = run(job(), halves)
    assert (outcome["attempt"], outcome["resumed_after"]) == (2, 2)
    assert lines[0] == "tiny: attempt 2, resumed after epoch 2, 4 epochs, 1 worker"
    expected = load_file(tmp_path / "whole" / "latest" / "model.safetensors")
    found = load_file(tmp_path / "halves" / "latest" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_checkpoints_come_as_often_as_asked_and_at_the_end(tmp_path: Path) -> None:
    fabric = SoloFabric(tmp_path)
    saved: list[int] = []

    def note(metrics: dict[str, Any], directory: Path | None) -> None:
        if directory is not None:
            saved.append(metrics["epoch"])

    fabric.report = note  # type: ignore[method-assign]
    run(job(checkpoint_epochs=3), fabric)
    assert saved == [3, 4]


def test_every_step_is_a_slice_weighing_its_samples_and_joules_are_told(tmp_path: Path) -> None:
    client = Client(Figures())
    _, lines = run(job(epochs=1), SoloFabric(tmp_path), client)
    # 1347 rows to learn from: 21 batches of 64 and one of 3; setup, evaluate, checkpoint and progress weigh 1.
    assert client.weights == [1.0, *[64.0] * 21, 3.0, 1.0, 1.0, 1.0]
    assert client.parts == [0, *[1] * 23, 0, 1]  # setting up and telling belong to no epoch
    # 22 steps of 2 J; 44 J over 1347 samples are 32.7 mJ; with setup and evaluate 48 J and 12 mg.
    assert "2 J/step  32.7 mJ/sample  48 J/epoch  12 mgCO2e  (modelled, provisional)" in lines[1]


def test_a_finished_run_started_again_only_measures(tmp_path: Path) -> None:
    fabric = SoloFabric(tmp_path)
    first, _ = run(job(epochs=1), fabric)
    again, lines = run(job(epochs=1), fabric)
    assert again["metrics"] == first["metrics"]
    assert len(lines) == 1


def test_a_target_that_stops_ends_the_job_with_the_first_epoch_that_reaches_it(tmp_path: Path) -> None:
    fabric = SoloFabric(tmp_path)
    target = {"metric": "accuracy", "at_least": 0.8, "stop": True}
    outcome, lines = run(job(epochs=50, target=target, checkpoint_epochs=50), fabric)
    reached = [report["epoch"] for report in fabric.reports if report["accuracy"] >= 0.8]
    assert reached == [fabric.reports[-1]["epoch"]]
    assert outcome["stopped"] == ""  # nothing is left to do
    assert lines[-1] == f"tiny: ends after {reached[0]} epochs and 0 steps: the target accuracy >= 0.8 is reached"
    assert (tmp_path / "latest" / "model.safetensors").exists()


def test_checkpoints_come_within_an_epoch_when_asked_for(tmp_path: Path) -> None:
    fabric = SoloFabric(tmp_path)
    saved: list[tuple[int, int]] = []

    def note(metrics: dict[str, Any], directory: Path | None) -> None:
        if directory is not None:
            saved.append((metrics["epoch"], metrics["step"]))

    fabric.report = note  # type: ignore[method-assign]
    run(job(epochs=2, checkpoint_steps=10), fabric)
    assert saved == [(0, 10), (0, 20), (1, 0), (1, 10), (1, 20), (2, 0)]


def test_a_budget_of_joules_ends_the_run_with_a_checkpoint_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every slice tells 2 J: an epoch has 25 of them, so 150 J are used up in the third.
    monkeypatch.setattr(stops, "_LOOK_EVERY_S", 0.0)
    fabric = SoloFabric(tmp_path)
    outcome, lines = run(job(epochs=50, budget={"kwh": 150 / 3.6e6}), fabric, Client(Figures(provisional=False)))
    assert outcome["stopped"].startswith("the budget of 4.16667e-05 kWh (150 J) is used up")
    assert outcome["position"]["epoch"] == 2
    assert set(outcome["metrics"]) == {"loss", "accuracy"}
    assert lines[-1].endswith(outcome["stopped"])
    assert (tmp_path / "latest" / "model.safetensors").exists()


@pytest.mark.parametrize(("device", "waits"), [("cpu", False), ("cuda:1", True)])
def test_queued_work_is_awaited_on_a_gpu_only(device: str, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", awaited.append)
    _finish_queued(torch.device(device))
    assert awaited == ([torch.device(device)] if waits else [])
