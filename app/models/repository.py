"""The model repository: `<root>/<name>/<integer version>/`, published atomically, verified at load.

Knows nothing of torch, jobs or servers. A version is complete or not there: it is written beside its place,
synced to disk, and renamed. Only weight formats that cannot run code when read (safetensors), torch.export
programs (`.pt2`, whose archive the runner inspects first) and text are accepted: pickles are not.

    repository = ModelRepository("~/.local/state/joulekeeper/models")
    version = repository.publish("digits", write=lambda directory: ..., card=card)       # "1"
    card, directory = repository.open("digits", version)                                  # digests verified

Raises NotFound for unknown names and versions, InvalidInput for names and files that are refused,
BooksDamaged when a file is not the one that was published.
"""

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from app.errors import BooksDamaged, InvalidInput, NotFound
from app.models.card import ModelCard, from_yaml, to_yaml

CARD_FILE = "card.yaml"
WEIGHT_SUFFIXES = frozenset({".safetensors", ".pt2"})
TEXT_SUFFIXES = frozenset({".json", ".txt", ".md", ".yaml"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelRepository:
    """One repository on a file system. Several processes may publish to it at once."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).expanduser()

    def names(self) -> list[str]:
        """Models that have at least one version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name for entry in self.root.iterdir() if _NAME.fullmatch(entry.name) and self._numbers(entry)
        )

    def versions(self, name: str) -> list[str]:
        """Versions of `name`, oldest first. Raises NotFound when there is none, offering near names."""
        numbers = self._numbers(self._home(name))
        if not numbers:
            near = get_close_matches(name, self.names(), n=3, cutoff=0.5) or self.names()[:5]
            hint = f"; did you mean {', '.join(near)}?" if near else "; it is empty: train and publish a model first"
            raise NotFound(f"model {name!r} is not in the repository {self.root}{hint}")
        return [str(number) for number in numbers]

    def latest(self, name: str) -> str:
        """The highest version of `name`. Raises NotFound."""
        return self.versions(name)[-1]

    def directory(self, name: str, version: str) -> Path:
        """Where a version lies. Raises NotFound, saying which versions there are."""
        versions = self.versions(name)
        if version not in versions:
            raise NotFound(f"model {name!r} has no version {version!r}; there are {', '.join(versions[-10:])}")
        return self._home(name) / version

    def card(self, name: str, version: str) -> ModelCard:
        """The card of a version, its files unchecked. Raises NotFound, InvalidInput."""
        path = self.directory(name, version) / CARD_FILE
        return from_yaml(path.read_text(encoding="utf-8"), str(path))

    def open(self, name: str, version: str) -> tuple[ModelCard, Path]:
        """Card and directory of a version after every file's digest was checked.

        Raises NotFound, InvalidInput, BooksDamaged.
        """
        card, directory = self.card(name, version), self.directory(name, version)
        for relative, expected in card.files.items():
            _check_file(directory, relative, expected)
        return card, directory

    def publish(self, name: str, write: Callable[[Path], None], card: ModelCard) -> str:
        """Publish what `write` puts into the directory it is given; returns the new version.

        Raises InvalidInput for a refused name or file. Nothing is left behind when anything fails.
        """
        home = self._home(name)
        staging = home / f".publishing-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            write(staging)
            files = {str(path): _sha256(staging / path) for path in _acceptable_files(staging)}
            return self._place(home, staging, card.model_copy(update={"name": name, "files": files}))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _place(self, home: Path, staging: Path, card: ModelCard) -> str:
        number = max(self._numbers(home), default=0) + 1
        while True:
            version = str(number)
            numbered = card.model_copy(update={"version": version})
            (staging / CARD_FILE).write_text(to_yaml(numbered), encoding="utf-8")
            _sync_tree(staging)
            try:
                staging.rename(home / version)
            except OSError as error:
                # Somebody else published this number meanwhile: rename never replaces a full directory.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                number += 1
                continue
            _sync(home)
            return version

    def _home(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"model name {name!r} is refused: 1 to 64 letters, digits, dots, dashes or underscores, "
                "starting with a letter or digit"
            )
        return self.root / name

    @staticmethod
    def _numbers(home: Path) -> list[int]:
        if not home.is_dir():
            return []
        names = [entry.name for entry in home.iterdir() if (entry / CARD_FILE).is_file()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name)


def _acceptable_files(staging: Path) -> list[PurePosixPath]:
    found = sorted(path for path in staging.rglob("*") if not path.is_dir())
    weights, text = " or ".join(sorted(WEIGHT_SUFFIXES)), ", ".join(sorted(TEXT_SUFFIXES))
    for path in found:
        if path.is_symlink() or path.suffix not in WEIGHT_SUFFIXES | TEXT_SUFFIXES or path.name == CARD_FILE:
            raise InvalidInput(
                f"{path.name} is refused in a model repository: weights must be {weights}, the rest {text}; "
                "no links; pickle-based formats can run code when read, convert them to safetensors"
            )
    return [PurePosixPath(path.relative_to(staging).as_posix()) for path in found]


def _check_file(directory: Path, relative: str, expected: str) -> None:
    path = directory / relative
    if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
        raise InvalidInput(
            f"{directory / CARD_FILE} lists {relative!r}, which lies outside the version; publish it again"
        )
    if not path.is_file():
        raise BooksDamaged(f"{path} is listed in its card but missing; publish the version again")
    found = _sha256(path)
    if found != expected:
        raise BooksDamaged(
            f"{path} was altered: sha256 {found[:12]}..., its card says {expected[:12]}...; publish it again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
