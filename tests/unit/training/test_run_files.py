"""Which checkpoints of a run count, on any filesystem, and what is left of those that do not."""

import json
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import ray
from fsspec.implementations.memory import MemoryFileSystem

from app.errors import InvalidInput
from app.training.manifest import MANIFEST_FILE, FileDigest, Manifest
from app.training.position import Position
from app.training.run_files import RunFiles, checkpoint_name, open_storage

RAY_NOTES = "checkpoint_manager_snapshot.json"


@pytest.fixture(params=["local", "fsspec"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> RunFiles:
    if request.param == "local":
        return RunFiles.open(str(tmp_path), "digits-1")
    MemoryFileSystem.store.clear()
    return RunFiles.open("memory://jobs", "digits-1")


def put(files: RunFiles, place: str, content: bytes) -> None:
    files.files.create_dir(files.path(place.rpartition("/")[0]), recursive=True)
    with files.files.open_output_stream(files.path(place)) as stream:
        stream.write(content)


def put_checkpoint(files: RunFiles, attempt: int, epoch: int, step: int = 0) -> str:
    name = checkpoint_name(attempt, Position(epoch, step))
    manifest = Manifest(
        layout="whole",
        world=1,
        facts={"epoch": epoch, "step": step},
        files={"weights": FileDigest(bytes=5, sha256="")},
    )
    put(files, f"{name}/weights", b"hello")
    put(files, f"{name}/{MANIFEST_FILE}", manifest.model_dump_json().encode())
    return name


def directories(files: RunFiles) -> set[str]:
    infos = files.files.get_file_info(pafs.FileSelector(files.root))
    return {info.base_name for info in infos if info.base_name.startswith("checkpoint-")}


def test_a_run_without_files_has_no_checkpoints_and_no_attempts(files: RunFiles) -> None:
    assert files.checkpoints() == []
    assert files.attempts() == {}
    files.sweep(keep=1)
    files.forget_broken_notes()


def test_newest_first_a_later_attempt_before_a_farther_position(files: RunFiles) -> None:
    written = [put_checkpoint(files, *place) for place in ((1, 2), (1, 10), (1, 10, 3), (2, 4), (10, 1))]
    assert files.checkpoints() == written[::-1]
    assert files.manifest(written[0]).facts == {"epoch": 2, "step": 0}


def test_what_was_cut_off_does_not_count(files: RunFiles) -> None:
    whole = put_checkpoint(files, 1, 1)
    put(files, f"{put_checkpoint(files, 1, 2)}/weights", b"hell")
    put(files, f"{checkpoint_name(1, Position(3))}/weights", b"hello")
    put(files, f"{put_checkpoint(files, 1, 4)}/{MANIFEST_FILE}", b'{"layout"')
    files.files.delete_file(files.path(f"{put_checkpoint(files, 1, 5)}/weights"))
    assert files.checkpoints() == [whole]


def test_a_sweep_leaves_the_newest_and_what_ray_will_remove_itself(files: RunFiles) -> None:
    names = [put_checkpoint(files, 1, epoch) for epoch in range(1, 6)]
    put(files, f"{checkpoint_name(2, Position(9))}/weights", b"cut off")
    put(files, RAY_NOTES, json.dumps({"checkpoint_results": [{"checkpoint_dir_name": names[1]}]}).encode())
    files.sweep(keep=2)
    assert directories(files) == {names[1], names[3], names[4]}


def test_notes_of_ray_stay_where_it_can_begin_with_them(files: RunFiles) -> None:
    name = put_checkpoint(files, 1, 1)
    notes = {"ray_version": ray.__version__, "checkpoint_results": [{"checkpoint_dir_name": name}]}
    put(files, RAY_NOTES, json.dumps(notes).encode())
    files.forget_broken_notes()
    assert files.files.get_file_info(files.path(RAY_NOTES)).type == pafs.FileType.File


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        b'{"ray_version": "2.6',
        b"[]",
        json.dumps({"ray_version": "1.0", "checkpoint_results": []}).encode(),
        json.dumps({"ray_version": ray.__version__, "checkpoint_results": [{"checkpoint_dir_name": "gone"}]}).encode(),
    ],
)
def test_notes_that_ray_would_fail_on_are_removed(notes: bytes, files: RunFiles) -> None:
    put(files, RAY_NOTES, notes)
    files.forget_broken_notes()
    assert files.files.get_file_info(files.path(RAY_NOTES)).type == pafs.FileType.NotFound


def test_attempts_count_up_and_keep_what_was_written_of_them(files: RunFiles) -> None:
    assert [files.claim_attempt() for _ in range(3)] == [1, 2, 3]
    files.write_attempt(2, "two")
    assert files.attempts() == {1: "", 2: "two", 3: ""}


@pytest.mark.parametrize(
    ("url", "path"), [("/jobs/", "/jobs"), ("file:///jobs", "/jobs"), ("memory://jobs/a", "jobs/a")]
)
def test_paths_and_urls_of_pyarrow_and_of_fsspec_are_opened(url: str, path: str) -> None:
    assert open_storage(url)[1].strip("/") == path.strip("/")


def test_a_url_that_nobody_opens_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nowhere://"):
        open_storage("nowhere://jobs")
