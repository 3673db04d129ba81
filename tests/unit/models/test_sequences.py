"""Networks that read sequences: shapes, which steps count, and that a version of one answers as it was trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.models.architectures import build
from app.models.blueprint import Blueprint, Cnn, Recurrent, Transformer, UserModule
from app.models.card import ModelCard
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.load import load_runner

SEQUENCES = [
    Recurrent(architecture="rnn", steps=8, features=8, hidden=16, outputs=10),
    Recurrent(architecture="gru", steps=8, features=8, hidden=16, layers=2, outputs=10, dropout=0.2),
    Recurrent(architecture="lstm", steps=4, features=16, hidden=16, outputs=10),
    Transformer(steps=8, features=8, hidden=16, heads=4, layers=2, outputs=10),
]


@pytest.mark.parametrize("blueprint", SEQUENCES, ids=lambda each: each.architecture)
def test_every_step_of_a_sequence_counts(blueprint: Any) -> None:
    torch.manual_seed(0)
    module = build(blueprint).eval()
    x = torch.randn(3, *blueprint.input_shape, requires_grad=True)
    result = module(x)
    assert result.shape == (3, 10)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert bool((gradient.abs().sum(2) > 0).all())


@pytest.mark.parametrize("blueprint", SEQUENCES, ids=lambda each: each.architecture)
def test_a_published_sequence_network_answers_as_it_was_built(tmp_path: Path, blueprint: Any) -> None:
    torch.manual_seed(1)
    module = build(blueprint).eval()
    card = ModelCard(
        name="sequence",
        created="2026-01-01T00:00:00+00:00",
        runner="builtin",
        architecture=TypeAdapter(Blueprint).validate_python(blueprint.model_dump()),
        inputs=(TensorSpec("image", Datatype.FP32, (-1, 64)),),
        outputs=(TensorSpec("logits", Datatype.FP32, (-1, 10)),),
    )
    repository = open_repository(RepositorySettings(str(tmp_path)))
    repository.publish("sequence", lambda target: save_file(module.state_dict(), target / "model.safetensors"), card)
    runner = load_runner("repository:sequence", repository=RepositorySettings(str(tmp_path)))
    x = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).reshape(5, *blueprint.input_shape)).numpy()
    np.testing.assert_allclose(runner.run({"image": x})["logits"], expected, atol=1e-6)


def test_a_cnn_may_go_without_a_hidden_layer() -> None:
    module = build(Cnn(image_size=28, channels=(32,), hidden=0))
    assert sum(each.numel() for each in module.parameters()) == 3 * 3 * 32 + 32 + 14 * 14 * 32 * 10 + 10
    assert module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_code_of_the_users_is_called_with_its_arguments() -> None:
    blueprint = UserModule(
        code="torch.nn:Linear", arguments={"in_features": 6, "out_features": 3}, shape=(6,), outputs=3
    )
    assert build(blueprint)(torch.zeros(4, 6)).shape == (4, 3)


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        ("no.such.package:Model", {}, "No module named 'no'"),
        ("torch.nn:NoSuchLayer", {}, "has no attribute 'NoSuchLayer'"),
        ("torch.nn:Linear", {"width": 3}, "unexpected keyword argument 'width'"),
        ("builtins:dict", {}, "gave a dict, not a torch.nn.Module"),
    ],
)
def test_code_that_gives_no_module_says_why(code: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build(UserModule(code=code, arguments=arguments, shape=(6,), outputs=3))


def test_code_that_a_card_names_is_never_run(tmp_path: Path) -> None:
    card = ModelCard(
        name="sly",
        created="2026-01-01T00:00:00+00:00",
        runner="builtin",
        architecture=UserModule(code="builtins:exit", shape=(6,), outputs=3),
        inputs=(TensorSpec("x", Datatype.FP32, (-1, 6)),),
        outputs=(TensorSpec("y", Datatype.FP32, (-1, 3)),),
    )
    repository = open_repository(RepositorySettings(str(tmp_path)))
    weights = {"weight": torch.zeros(1)}
    repository.publish("sly", lambda target: save_file(weights, target / "model.safetensors"), card)
    with pytest.raises(InvalidInput, match="lacks a built-in network's architecture"):
        load_runner("repository:sly", repository=RepositorySettings(str(tmp_path)))
