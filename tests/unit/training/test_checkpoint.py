"""Training state goes into files and comes back as it was, whole and in shards; nothing foreign is run."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.amp import GradScaler

from app.errors import InvalidInput
from app.training import checkpoint
from app.training.fabric import SoloFabric
from app.training.manifest import faults_of, read_manifest
from app.training.position import Position, Spent
from app.training.shards import read_shards, whole_tensors, write_shards
from app.training.state import TrainState


class Tied(nn.Module):
    """Two layers with one weight, as embeddings often have."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


def trained(steps: int = 3, width: int = 4) -> TrainState:
    torch.manual_seed(1)
    module = Tied(width)
    optimiser = torch.optim.AdamW(
        [{"params": [module.first.weight]}, {"params": [module.first.bias, module.second.bias], "weight_decay": 0.0}],
        lr=0.1,
    )
    for _ in range(steps):
        optimiser.zero_grad()
        module(torch.randn(8, width)).square().mean().backward()
        optimiser.step()
    scaler = GradScaler("cpu", init_scale=2.0 ** (10 + steps))
    scaler.scale(torch.ones(()))  # its scale becomes part of its state with the first use
    return TrainState(module, optimiser, scaler)


def flat(state: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(state, dict):
        return {name: leaf for key, each in state.items() for name, leaf in flat(each, f"{prefix}{key}.").items()}
    if isinstance(state, list):
        return flat(dict(enumerate(state)), prefix)
    return {prefix: state}


def same(one: TrainState, other: TrainState) -> bool:
    here, there = flat(one.state_dict()), flat(other.state_dict())
    return here.keys() == there.keys() and all(
        torch.equal(here[name], there[name]) if isinstance(here[name], torch.Tensor) else here[name] == there[name]
        for name in here
    )


@pytest.fixture(params=["whole", "shards"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One process cannot divide its state, but it can write it as if."""
    monkeypatch.setattr(checkpoint, "_is_divided", lambda state: request.param == "shards")
    return str(request.param)


def test_what_was_saved_is_restored_bit_for_bit(layout: str, tmp_path: Path) -> None:
    state = trained(steps=3)
    state.position, state.spent, state.metrics = Position(2, 7), Spent(5, 1.5, 3.0), {"loss": 0.25}
    checkpoint.save(tmp_path, state, {"tokenizer.json": "{}", "1_Pooling/config.json": "{}"}, SoloFabric(tmp_path))

    found = trained(steps=1)
    assert not same(found, state)
    checkpoint.restore(tmp_path, found, SoloFabric(tmp_path))

    assert same(found, state)
    assert found.module.second.weight is found.module.first.weight
    assert (found.position, found.spent, found.metrics) == (state.position, state.spent, state.metrics)
    manifest = read_manifest(tmp_path)
    assert (manifest.layout, manifest.world) == (layout, 1)
    assert faults_of(tmp_path, manifest) == []
    assert {"tokenizer.json", "1_Pooling/config.json"} <= manifest.files.keys()


def test_it_is_trained_on_as_if_nothing_had_been(layout: str, tmp_path: Path) -> None:
    state, found = trained(steps=3), trained(steps=1)
    checkpoint.save(tmp_path, state, {}, SoloFabric(tmp_path))
    checkpoint.restore(tmp_path, found, SoloFabric(tmp_path))
    for each in (state, found):
        each.optimiser.zero_grad()
        each.module(torch.ones(2, 4)).square().mean().backward()
        each.optimiser.step()
    assert same(found, state)


def test_before_the_first_step_there_is_something_to_save_too(layout: str, tmp_path: Path) -> None:
    state, found = trained(steps=0), trained(steps=2)
    checkpoint.save(tmp_path, state, {}, SoloFabric(tmp_path))
    checkpoint.restore(tmp_path, found, SoloFabric(tmp_path))
    assert same(found, state)


def test_the_weights_come_out_as_safetensors_either_way(layout: str, tmp_path: Path) -> None:
    state = trained()
    checkpoint.save(tmp_path, state, {}, SoloFabric(tmp_path))
    checkpoint.copy_weights(tmp_path, tmp_path / "copy.safetensors")
    weights = load_file(tmp_path / "copy.safetensors")
    for name, tensor in weights.items():
        assert torch.equal(tensor, state.module.state_dict()[name])
    assert weights.keys() >= {"first.weight", "first.bias", "second.bias"}


def test_the_state_of_another_model_is_refused(layout: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, trained(width=4), {}, SoloFabric(tmp_path))
    wider = trained(width=5)
    with pytest.raises(RuntimeError, match=r"size|Size"):
        checkpoint.restore(tmp_path, wider, SoloFabric(tmp_path))
    other = nn.Linear(4, 4)
    plain = TrainState(other, torch.optim.SGD(other.parameters()))
    with pytest.raises(RuntimeError):
        checkpoint.restore(tmp_path, plain, SoloFabric(tmp_path))


def test_without_a_checkpoint_nothing_changes_and_without_a_manifest_it_is_none(tmp_path: Path) -> None:
    state = trained()
    checkpoint.restore(None, state, SoloFabric(tmp_path))
    assert same(state, trained())
    with pytest.raises(InvalidInput, match="so it is no checkpoint"):
        checkpoint.restore(tmp_path, state, SoloFabric(tmp_path))


class _Planted:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("was run",))


def test_a_description_that_would_run_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(tmp_path, {"a": torch.ones(2), "b": 3}, alone=True)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(_Planted()))
    with pytest.raises(RuntimeError, match=r"names builtins\.print, which has no place in one"):
        read_shards(tmp_path, {"a": torch.zeros(2), "b": 0}, alone=True)
    with pytest.raises(pickle.UnpicklingError):
        whole_tensors(tmp_path, "a")
    assert "was run" not in capsys.readouterr().out


def test_a_value_that_would_run_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(tmp_path, {"a": torch.ones(2), "b": _Planted()}, alone=True)
    with pytest.raises(RuntimeError, match=r"weights_only|Unsupported|WeightsUnpickler"):
        read_shards(tmp_path, {"a": torch.zeros(2), "b": 0}, alone=True)
    assert "was run" not in capsys.readouterr().out
