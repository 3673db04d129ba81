"""Exported programs: loaded as published, refused when unsafe."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.models.architectures import build
from app.models.blueprint import Mlp
from app.models.card import ModelCard
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.exported import inspect_archive
from app.models.runners.load import load_runner


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
    open_repository(RepositorySettings(str(root))).publish(
        "mlp", lambda directory: (directory / "model.pt2").write_bytes(program), card
    )


def test_an_exported_program_takes_any_number_of_rows(tmp_path: Path, program: bytes) -> None:
    publish_program(tmp_path, program)
    runner = load_runner("repository:mlp", repository=RepositorySettings(str(tmp_path)))
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    together = runner.run({"features": x})["prediction"]
    alone = np.concatenate([runner.run({"features": row[None]})["prediction"] for row in x])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert runner.run({"features": x[:0]})["prediction"].shape == (0, 1)
    # 3 x 4 + 4, 4 x 1 + 1 numbers of four bytes.
    assert (runner.batch, runner.memory_bytes) == (True, 4 * 21)


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
