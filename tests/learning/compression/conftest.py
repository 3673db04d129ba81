"""A small digits classifier as a version of the repository, and phases that nobody meters."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from app.domain.account import Account, job_account
from app.domain.tensor import Datatype, TensorSpec
from app.models.architectures import build
from app.models.blueprint import Cnn
from app.models.card import ModelCard
from app.models.weights import save_weights
from app.training.data import Dataset, load_data
from app.training.phases import Phases

BLUEPRINT = Cnn(image_size=8, channels=(8, 16), hidden=32, classes=10, input_scale=16)
Version = tuple[ModelCard, Path]


class _Slice:
    def end(self) -> None: ...

    def energy(self) -> None:
        return None


class _Client:
    def begin(self, account: Account, weight: float = 1.0, part: int = 0) -> _Slice:
        return _Slice()


@pytest.fixture
def phases() -> Phases:
    return Phases(_Client(), job_account("default", "compress-1", 1, "compress"))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_data("builtin:digits", test_share=0.25, seed=7)


def card_for(blueprint: Cnn, data: Dataset) -> ModelCard:
    return ModelCard(
        name="digits",
        version="1",
        created="2026-11-22T00:00:00+00:00",
        runner="builtin",
        architecture=blueprint,
        inputs=(TensorSpec("image", Datatype.FP32, (-1, blueprint.image_size**2)),),
        outputs=(TensorSpec("logits", Datatype.FP32, (-1, 10)), TensorSpec("class", Datatype.INT64, (-1,))),
        data=(data.card,),
        files={"model.safetensors": "0" * 64},
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Version:
    """A classifier that is right of nineteen digits in twenty, after a second of training."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    module = build(BLUEPRINT)
    x = torch.from_numpy(digits.train_x).reshape(-1, 1, 8, 8)
    y = torch.from_numpy(digits.train_y)
    optimiser = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(6):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
            optimiser.step()
    directory = tmp_path_factory.mktemp("digits")
    save_weights(directory / "model.safetensors", module)
    return card_for(BLUEPRINT, digits), directory


@pytest.fixture
def said() -> Callable[[str], None]:
    return lambda _: None
