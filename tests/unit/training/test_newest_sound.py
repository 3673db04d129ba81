"""What a group resumes from: the newest checkpoint whose every file is what was written."""

from pathlib import Path

import pytest

from app.training.fabric import SoloFabric
from app.training.manifest import Manifest, digests_of, write_manifest
from app.training.position import Position
from app.training.ray_fabric import newest_sound
from app.training.run_files import RunFiles, checkpoint_name


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    for epoch in (1, 2, 3):
        directory = tmp_path / "run" / checkpoint_name(1, Position(epoch))
        directory.mkdir(parents=True)
        (directory / "weights").write_text(f"epoch {epoch}")
        write_manifest(directory, Manifest(layout="whole", world=1, facts={}, files=digests_of(directory)))
    return RunFiles.open(str(tmp_path), "run")


def resumed_from(files: RunFiles) -> str:
    with newest_sound(files, SoloFabric(Path(files.root))) as directory:
        return directory.name if directory else ""


def test_the_newest(files: RunFiles) -> None:
    assert resumed_from(files) == checkpoint_name(1, Position(3))


def test_one_that_was_altered_is_passed_over_and_said_so(files: RunFiles, caplog: pytest.LogCaptureFixture) -> None:
    altered = Path(files.path(checkpoint_name(1, Position(3)))) / "weights"
    altered.write_text("epoch 4")
    assert resumed_from(files) == checkpoint_name(1, Position(2))
    assert "passed over: weights is not what was written: its sha256 differs" in caplog.text


def test_none_where_none_is_sound(files: RunFiles) -> None:
    for epoch in (1, 2, 3):
        (Path(files.path(checkpoint_name(1, Position(epoch)))) / "weights").write_text("altered")
    assert resumed_from(files) == ""


def test_what_the_caller_raises_is_raised(files: RunFiles) -> None:
    with pytest.raises(KeyError), newest_sound(files, SoloFabric(Path(files.root))):
        raise KeyError
