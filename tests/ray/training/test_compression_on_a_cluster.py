"""A compression job on a real cluster: what it publishes is served as it was scored, and its energy is on the books."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.compression.job import parse_job
from app.compression.run import run_job
from app.config import settings
from app.errors import InvalidInput
from app.models.architectures import build
from app.models.repository import open_repository
from app.models.runners.load import load_runner
from app.models.weights import save_weights
from app.training.data import load_data
from tests.learning.compression.conftest import BLUEPRINT, card_for

pytestmark = pytest.mark.ray


def test_a_version_is_made_smaller_measured_beside_its_original_and_served(state: Path) -> None:
    data = load_data("builtin:digits", test_share=0.25, seed=7)
    torch.manual_seed(0)
    module = build(BLUEPRINT)  # knows nothing yet: the job's own training teaches it
    repository = open_repository(settings().repository)
    card = card_for(BLUEPRINT, data)
    repository.publish("raw-digits", lambda target: save_weights(target / "model.safetensors", module), card)
    steps = [{"method": "prune-channels", "rate": 0.25, "epochs": 4, "lr": 0.005}, {"method": "int8"}]
    job = parse_job({"name": "small", "model": "raw-digits", "steps": steps, "resources": {"cpu": 1}}, "test")

    result = run_job(job, run="small-test")

    assert result.published == ("raw-digits@1-prunechannelsint8",)
    made = repository.card("raw-digits", repository.resolve("raw-digits", "prunechannelsint8"))
    assert made.compression is not None
    assert made.compression.base_weights_bytes > 4 * made.compression.weights_bytes
    assert made.metrics["accuracy"] > 0.7 > made.compression.base_metrics["accuracy"]
    runner = load_runner("repository:raw-digits@prunechannelsint8", repository=settings().repository)
    answers = runner.run({"image": data.test_x})["class"]
    assert float(np.mean(answers == data.test_y)) == made.metrics["accuracy"]
    assert made.energy == result.energy
    assert (result.energy.source, result.energy.energy_uj > 0) == ("ledger", True)
    for cost in made.compression.costs:
        assert cost.uj_per_row
        assert cost.base_uj_per_row
        assert cost.p50_ms > 0
    with pytest.raises(InvalidInput, match="raw-digits@1-prunechannelsint8 is there already"):
        run_job(job)


def test_what_the_cluster_refuses_is_told_as_it_was_meant(state: Path) -> None:
    repository = open_repository(settings().repository)
    data = load_data("builtin:digits", test_share=0.25, seed=7)
    card = card_for(BLUEPRINT, data).model_copy(update={"data": ()})
    module = build(BLUEPRINT)
    repository.publish("no-data", lambda target: save_weights(target / "model.safetensors", module), card)
    with pytest.raises(InvalidInput, match="names no data that could be read again"):
        run_job(parse_job({"name": "small", "model": "no-data", "steps": [{"method": "int8"}]}, "test"))
