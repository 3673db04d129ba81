"""Where a run keeps its checkpoints and attempts: a directory on any filesystem that pyarrow or fsspec opens.

Knows nothing of tensors, and of Ray Train the one file in which it notes the checkpoints it knows. A checkpoint counts
from the moment that its manifest and all files named there lie in it, whoever died meanwhile: there is no rename to
build on in an object store. What is cut off, or was altered since, is passed over for the one before.

    files = RunFiles.open("s3://bucket/jobs", "digits-1")
    files.checkpoints()                               # names of those that are complete, newest first
    files.manifest(name).facts["epoch"]

Raises InvalidInput for a URL that cannot be meant, Unavailable where a storage does not answer.
"""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from app.errors import InvalidInput
from app.training.manifest import MANIFEST_FILE, Manifest, parse_manifest
from app.training.parquet_files import open_url, reaching
from app.training.position import Position

_NAME = re.compile(r"checkpoint-a(\d{4,})-e(\d{6,})-s(\d{9,})")
_ATTEMPTS = "attempts"
_RAY_NOTES = "checkpoint_manager_snapshot.json"
_KNOWN_TO_PYARROW = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "fsspec+")


def open_storage(url: str) -> tuple[Any, str]:
    """The filesystem of `url`, a path or a URL, and the path there."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return pafs.LocalFileSystem(), str(Path(url).absolute())
    return open_url(url if scheme.startswith(_KNOWN_TO_PYARROW) else f"fsspec+{url}")


def checkpoint_name(attempt: int, position: Position) -> str:
    """Names sort as their checkpoints were written."""
    return f"checkpoint-a{attempt:04d}-e{position.epoch:06d}-s{position.step:09d}"


class RunFiles:
    """What lies in the directory of one run."""

    def __init__(self, files: Any, root: str) -> None:
        """`files` is a pyarrow filesystem, `root` the run's directory there."""
        self.files, self.root = files, root.rstrip("/")

    @classmethod
    def open(cls, url: str, run: str) -> "RunFiles":
        """The files of `run` below the storage `url`."""
        files, path = open_storage(url)
        return cls(files, f"{path.rstrip('/')}/{run}")

    def path(self, name: str) -> str:
        """Of a file or directory of the run, on its filesystem."""
        return f"{self.root}/{name}"

    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that are complete, newest first."""
        with reaching(self.root):
            return [name for name in self._directories() if self._is_complete(name)]

    def manifest(self, name: str) -> Manifest:
        """What the checkpoint `name` says of itself."""
        with reaching(self.root):
            return self._manifest(name)

    def sweep(self, keep: int) -> None:
        """Remove what was cut off, and complete checkpoints before the newest `keep` that Ray Train has forgotten.

        For the time between two attempts, when nobody writes. What Ray Train knows it removes itself.
        """
        with reaching(self.root):
            complete = [name for name in self._directories() if self._is_complete(name)]
            needed = set(complete[:keep]) | set(self._known_to_ray())
            for name in self._directories():
                if name not in needed:
                    self.files.delete_dir(self.path(name))

    def forget_broken_notes(self) -> None:
        """Remove Ray Train's notes where it could not begin with them: cut off, another Ray's, or of what is gone."""
        import ray

        with reaching(self.root):
            if self.files.get_file_info(self.path(_RAY_NOTES)).type == pafs.FileType.NotFound:
                return
            try:
                notes = self._ray_notes()
                known = [each["checkpoint_dir_name"] for each in notes["checkpoint_results"]]
                sound = notes["ray_version"] == ray.__version__ and set(known) <= set(self._directories())
            except (ValueError, LookupError, TypeError):
                sound = False
            if not sound:
                self.files.delete_file(self.path(_RAY_NOTES))

    def claim_attempt(self) -> int:
        """The number of one more attempt, from 1.

        It is left before any work, so that an attempt which died before its first checkpoint counts too.
        """
        with reaching(self.root):
            self.files.create_dir(self.path(_ATTEMPTS), recursive=True)
            number = 1
            while self.files.get_file_info(self._attempt(number)).type != pafs.FileType.NotFound:
                number += 1
            with self.files.open_output_stream(self._attempt(number)):
                pass
        return number

    def write_attempt(self, number: int, content: str) -> None:
        """What is known of an attempt, instead of what was."""
        with reaching(self.root), self.files.open_output_stream(self._attempt(number)) as stream:
            stream.write(content.encode())

    def attempts(self) -> dict[int, str]:
        """What `write_attempt` wrote, by number; empty texts for attempts that died before."""
        return self.texts(_ATTEMPTS)

    def texts(self, directory: str) -> dict[int, str]:
        """What lies in a directory of the run in files whose names are numbers, by number."""
        found = {}
        with reaching(self.root):
            selector = pafs.FileSelector(self.path(directory), allow_not_found=True)
            for info in self.files.get_file_info(selector):
                if info.type == pafs.FileType.File and info.base_name.isdecimal():
                    with self.files.open_input_stream(info.path) as stream:
                        found[int(info.base_name)] = stream.read().decode()
        return dict(sorted(found.items()))

    def write(self, name: str, content: str) -> None:
        """Leave a file, instead of what was there."""
        with reaching(self.root):
            self.files.create_dir(self.path(name).rpartition("/")[0], recursive=True)
            with self.files.open_output_stream(self.path(name)) as stream:
                stream.write(content.encode())

    def read(self, name: str) -> str:
        """What `write` left; empty: nothing."""
        with reaching(self.root):
            if self.files.get_file_info(self.path(name)).type != pafs.FileType.File:
                return ""
            with self.files.open_input_stream(self.path(name)) as stream:
                text: str = stream.read().decode()
        return text

    def _attempt(self, number: int) -> str:
        return self.path(f"{_ATTEMPTS}/{number:04d}")

    def _directories(self) -> list[str]:
        """Of checkpoints, complete or not, newest first."""
        infos = self.files.get_file_info(pafs.FileSelector(self.root, allow_not_found=True))
        names = [info.base_name for info in infos if info.type == pafs.FileType.Directory]
        numbers = {name: tuple(map(int, found.groups())) for name in names if (found := _NAME.fullmatch(name))}
        return sorted(numbers, key=lambda name: numbers[name], reverse=True)

    def _is_complete(self, name: str) -> bool:
        """Whether every file that the manifest names lies there with as many bytes."""
        try:
            manifest = self._manifest(name)
        except (FileNotFoundError, InvalidInput):
            return False
        infos = self.files.get_file_info([self.path(f"{name}/{file}") for file in manifest.files])
        sizes = [each.bytes for each in manifest.files.values()]
        return [info.size for info in infos] == sizes

    def _manifest(self, name: str) -> Manifest:
        with self.files.open_input_stream(self.path(f"{name}/{MANIFEST_FILE}")) as stream:
            return parse_manifest(stream.read(), name)

    def _ray_notes(self) -> dict[str, Any]:
        with self.files.open_input_stream(self.path(_RAY_NOTES)) as stream:
            notes: dict[str, Any] = json.loads(stream.read())
        return notes

    def _known_to_ray(self) -> list[str]:
        try:
            return [each["checkpoint_dir_name"] for each in self._ray_notes()["checkpoint_results"]]
        except (OSError, ValueError, LookupError, TypeError):
            return []
