"""Checkpoints of a group of processes: exact for a group as large, and good for one process and back.

Divided (fsdp) and whole (ddp) state keep one contract. The groups are real: two processes, torch's gloo.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.training.checkpoint import copy_weights
from app.training.manifest import faults_of, read_manifest
from tests.fixtures.small_training import AskedAt, job, run, train_in_group

WORLD = 2
# Without dropout, which every worker draws for itself: one process must then come to what two come to.
SAME = {
    "workers": {"min": 1, "max": WORLD},
    "batch_size": 32,
    "epochs": 1,
    "model": {"architecture": "mlp", "sizes": [64, 48, 32, 10], "input_scale": 16},
}


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a group of two, and those that it shares with one process."""
    directory = tmp_path_factory.mktemp(request.param)
    patch = pytest.MonkeyPatch()
    patch.setattr("app.training.stops._LOOK_EVERY_S", 0.0)
    changes = {**SAME, "strategy": request.param}
    run(job(**changes), directory / "alone", AskedAt(9, "stop"))
    torch.multiprocessing.spawn(train_in_group, (WORLD, directory, changes, 9), nprocs=WORLD)
    run(job(**changes), directory / "left")
    patch.undo()
    return directory


def weights(directory: Path, run_name: str) -> dict[str, torch.Tensor]:
    copy = directory / f"{run_name}.safetensors"
    copy_weights(directory / run_name / "latest", copy)
    return load_file(copy)


def test_paused_and_gone_on_with_by_the_same_group_it_is_exact(trained: Path) -> None:
    whole, paused = weights(trained, "whole"), weights(trained, "paused")
    assert whole.keys() == paused.keys()
    assert [name for name in whole if not torch.equal(whole[name], paused[name])] == []
    metrics = torch.load(trained / "metrics.pt")
    assert metrics["whole"] == metrics["paused"]


@pytest.mark.parametrize("other", ["left", "alone"])  # begun by two and ended by one, and the other way round
def test_another_number_of_processes_comes_to_the_same_within_rounding(other: str, trained: Path) -> None:
    whole, found = weights(trained, "whole"), weights(trained, other)
    assert whole.keys() == found.keys()
    for name in whole:
        torch.testing.assert_close(found[name], whole[name], rtol=1e-3, atol=1e-4)


def test_every_worker_wrote_its_part_and_the_manifest_names_them_all(trained: Path) -> None:
    latest = trained / "whole" / "latest"
    manifest = read_manifest(latest)
    assert manifest.world == WORLD
    assert faults_of(latest, manifest) == []
    expected = {
        "whole": {"model.safetensors", "rest.pt"},
        "shards": {".metadata", "__0_0.distcp", "__1_0.distcp"},
    }
    assert manifest.files.keys() >= expected[manifest.layout]
    assert manifest.layout == ("shards" if trained.name.startswith("fsdp") else "whole")
