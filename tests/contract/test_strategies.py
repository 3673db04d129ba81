"""However a job is divided among workers it learns the same: copies, shards, divided layers, passes, compiled steps."""

from typing import Any

import pytest

from app.training.job import parse_job
from tests.fixtures.gang import run_gang

STEPS = 20
CNN = {"architecture": "cnn", "channels": [8, 16], "hidden": 32, "input_scale": 16}
MLP = {"architecture": "mlp", "sizes": [64, 48, 32, 10], "input_scale": 16}
GRU = {"architecture": "gru", "steps": 8, "features": 8, "hidden": 24, "layers": 2, "input_scale": 16}
TRANSFORMER = {
    "architecture": "transformer",
    "steps": 8,
    "features": 8,
    "hidden": 32,
    "layers": 2,
    "heads": 4,
    "input_scale": 16,
}
DIVIDED = {"tensor_parallel": 2}
SHARDED = {"strategy": "fsdp"}


def job(model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """As plain values; two workers of 24 rows each, so that the last steps of an epoch are uneven."""
    raw = {
        "name": "divided",
        "model": model,
        "data": {"source": "builtin:digits", "test_share": 0.25, "seed": 3},
        "optimiser": {"name": "adamw", "lr": 0.003, "weight_decay": 0.1, "clip_norm": 1.0, "schedule": "cosine"},
        "loss": "cross_entropy",
        "epochs": 4,
        "batch_size": 24,
        "workers": 2,
        "seed": 5,
        **changes,
    }
    return parse_job(raw, "test").model_dump(mode="json")


def alone(model: dict[str, Any]) -> dict[str, Any]:
    """One worker that takes the rows of both."""
    return job(model, workers=1, batch_size=48)


@pytest.fixture(scope="module")
def losses() -> dict[str, list[float]]:
    """Of all jobs, from one gang of one worker and one of two."""
    singles = {"cnn": alone(CNN), "mlp": alone(MLP), "gru": alone(GRU), "transformer": alone(TRANSFORMER)}
    pairs = {
        "cnn ddp": job(CNN),
        "cnn fsdp": job(CNN, **SHARDED),
        "cnn ddp in passes": job(CNN, accumulation=3),
        "cnn fsdp in passes": job(CNN, accumulation=3, **SHARDED),
        "cnn ddp compiled": job(CNN, compile="dynamic"),
        "mlp ddp": job(MLP),
        "mlp fsdp": job(MLP, **SHARDED),
        "mlp divided": job(MLP, batch_size=48, **DIVIDED),
        "gru ddp": job(GRU),
        "gru fsdp": job(GRU, **SHARDED),
        "transformer ddp": job(TRANSFORMER),
        "transformer fsdp": job(TRANSFORMER, **SHARDED),
        "transformer divided": job(TRANSFORMER, batch_size=48, **DIVIDED),
    }
    return run_gang(1, singles, STEPS) | run_gang(2, pairs, STEPS)


def apart(one: list[float], other: list[float]) -> float:
    """The most that two runs differ by in any step."""
    assert len(one) == len(other) == STEPS
    return max(abs(mine - theirs) for mine, theirs in zip(one, other, strict=True))


@pytest.mark.parametrize("model", ["cnn", "mlp", "gru", "transformer"])
def test_two_copies_learn_what_one_worker_learns_from_the_same_rows(losses: dict[str, Any], model: str) -> None:
    assert losses[model][-1] < losses[model][0] - 0.01
    assert apart(losses[f"{model} ddp"], losses[model]) <= 1e-5


@pytest.mark.parametrize("model", ["cnn", "mlp", "gru", "transformer"])
def test_shards_learn_what_copies_learn(losses: dict[str, Any], model: str) -> None:
    assert apart(losses[f"{model} fsdp"], losses[f"{model} ddp"]) <= 1e-4


@pytest.mark.parametrize("model", ["mlp", "transformer"])
def test_divided_layers_learn_what_whole_ones_learn(losses: dict[str, Any], model: str) -> None:
    assert apart(losses[f"{model} divided"], losses[model]) <= 1e-4


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_passes_change_nothing(losses: dict[str, Any], strategy: str) -> None:
    assert apart(losses[f"cnn {strategy} in passes"], losses["cnn ddp"]) <= 1e-4


def test_compiled_steps_change_nothing(losses: dict[str, Any]) -> None:
    assert apart(losses["cnn ddp compiled"], losses["cnn ddp"]) <= 1e-4
