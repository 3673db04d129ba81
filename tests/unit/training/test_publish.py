"""From a checkpoint to a version that answers like the network that was trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.clock import ManualClock
from app.engine.views import Report, ReportKey, ReportRow
from app.models.architectures import build
from app.models.card import EnergyCard
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.load import load_runner
from app.training.data import load_data
from app.training.energy import job_energy
from app.training.job import TrainJob, load_job, run_name
from app.training.publish import card_of, code_version, publish

JOBS = Path(__file__).parents[3] / "deployments" / "jobs"
ENERGY = EnergyCard(energy_uj=7, carbon_ugco2e=1, grade="counter", source="ledger")


def published(job: TrainJob, root: Path) -> torch.nn.Module:
    """Publish fresh weights of `job` below `root`."""
    assert job.publish is not None
    torch.manual_seed(0)
    module = build(job.model).eval()
    checkpoint = root / "checkpoint"
    checkpoint.mkdir()
    save_file(module.state_dict(), checkpoint / "model.safetensors")
    data = load_data(job.data.source, test_share=job.data.test_share, seed=job.data.seed).card
    card = card_of(
        job,
        job.publish,
        checkpoint=checkpoint,
        run="x-1",
        metrics={"a": 1.0},
        data=data,
        energy=ENERGY,
        clock=ManualClock(),
    )
    assert publish(open_repository(RepositorySettings(str(root / "models"))), job.publish, job, checkpoint, card) == "1"
    return module


@pytest.mark.parametrize("name", ["digits", "seed"])
def test_a_published_version_answers_like_the_trained_network(tmp_path: Path, name: str) -> None:
    job = load_job(JOBS / f"{name}.yaml")
    module = published(job, tmp_path)
    runner = load_runner(f"repository:{name}", repository=RepositorySettings(str(tmp_path / "models")))
    columns = runner.inputs[0].shape[1]
    x = np.random.default_rng(0).standard_normal((5, columns)).astype(np.float32)
    answer = runner.run({runner.inputs[0].name: x})[runner.outputs[0].name]
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).reshape(5, *job.model.input_shape)).numpy()
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_the_card_says_where_the_version_comes_from_and_what_it_cost(tmp_path: Path) -> None:
    published(load_job(JOBS / "digits.yaml"), tmp_path)
    card = open_repository(RepositorySettings(str(tmp_path / "models"))).card("digits", "1")
    assert card.created == "2023-11-14T22:13:20+00:00"
    assert (card.job, card.runner, card.energy) == ("x-1", "builtin", ENERGY)
    assert card.data[0].licence == "CC BY 4.0"
    assert card.data[0].digest.startswith("sha256:")
    assert card.code_version == code_version()
    assert set(card.framework) == {"torch", "ray", "safetensors", "numpy"}
    assert [spec.name for spec in card.outputs] == ["logits", "class"]


def test_runs_are_named_by_job_and_utc_time() -> None:
    assert run_name("seed", ManualClock().wall_ns()) == "seed-20231114-221320"


class Books:
    """A ledger with two attempts of one run on two nodes, and another run."""

    def report(self, by: ReportKey) -> Report:
        def row(job: str, attempt: str, node: str, energy_uj: int, grade: str) -> ReportRow:
            group = {"job": job, "attempt": attempt, "node": node}
            return ReportRow(
                group=group,
                energy_uj=energy_uj,
                carbon_ugco2e=energy_uj // 10,
                share=0.0,
                by_grade_uj={grade: energy_uj, "integrated": 0},
                uncertainty_uj=0,
            )

        rows = (
            row("x-1", "1", "a", 100, "counter"),
            row("x-1", "2", "a", 200, "counter"),
            row("x-1", "2", "b", 50, "modelled"),
            row("y-1", "1", "a", 999, "counter"),
        )
        return Report(
            by=by,
            since_s=None,
            until_s=0,
            zone="world",
            intensity_g_per_kwh=0,
            intensity_source="",
            pue=1,
            energy_uj=0,
            carbon_ugco2e=0,
            rows=rows,
            energy_utilisation=0,
        )


def test_the_ledger_knows_every_attempt_on_every_node() -> None:
    usage: dict[str, dict[str, Any]] = {"step": {"energy_uj": 30, "carbon_ugco2e": 3, "grade": "counter"}}
    energy, attempts = job_energy(Books(), "x-1", usage)
    assert attempts == {1: 100, 2: 250}
    assert energy == EnergyCard(
        energy_uj=350, carbon_ugco2e=35, grade="counter+modelled", source="ledger", by_phase_uj={"step": 30}
    )


def test_without_a_ledger_the_slices_of_the_workers_are_summed() -> None:
    usage: dict[str, dict[str, Any]] = {
        "step": {"energy_uj": 5, "carbon_ugco2e": 2, "grade": "counter"},
        "setup": {"energy_uj": 2, "carbon_ugco2e": 1, "grade": "none"},
    }
    energy, attempts = job_energy(None, "x-1", usage)
    assert attempts == {}
    assert energy == EnergyCard(
        energy_uj=7, carbon_ugco2e=3, grade="counter", source="slices", by_phase_uj={"step": 5, "setup": 2}
    )


def test_without_any_figure_the_card_says_that_nothing_is_known() -> None:
    energy, _ = job_energy(None, "x-1", {"step": {"energy_uj": 0, "carbon_ugco2e": 0, "grade": "none"}})
    assert (energy.source, energy.grade, energy.energy_uj) == ("none", "none", 0)
