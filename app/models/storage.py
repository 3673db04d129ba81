"""Where versions are kept: the protocol, and a directory of this machine's file systems.

Knows nothing of what is in a version beyond its card's name. A version is complete or not there: in a directory it is
written beside its place, synced to disk and renamed. remote_storage.py does the same where there is no rename.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from app.models.formats import CARD_FILE

Stamp = Callable[[str], str]
"""From the number that a version was given to the text of its card."""

VARIANT = re.compile(r"([1-9][0-9]{0,17}|0)-([a-z][a-z0-9]{0,31})")
"""The same model otherwise, as a quantised one is: of which version, and how."""


class Storage(Protocol):
    """Homes of models, each with numbered versions. Several processes may publish to it at once."""

    where: str
    """For people."""

    def names(self) -> list[str]:
        """Everything that could be a model, sorted."""

    def numbers(self, name: str) -> list[int]:
        """Complete versions, in order; empty for a model that is not there."""

    def variants(self, name: str) -> list[str]:
        """Complete variants of versions, `2-int8`, in no order."""

    def card_text(self, name: str, version: str) -> str:
        """The card of a complete version."""

    def staging(self, name: str) -> AbstractContextManager[Path]:
        """An empty local directory to write a version in, gone afterwards."""

    def place(self, name: str, staged: Path, stamp: Stamp, variant: str = "") -> str:
        """Make what was staged the next version, whole or not at all; returns its number.

        With `variant`, `2-int8`, make it that one. Raises FileExistsError when it is there already.
        """

    def directory(self, name: str, version: str, card_text: str, files: dict[str, str]) -> Path:
        """A local directory with the files of a version; their digests are the caller's to check."""

    def forget(self, name: str, version: str, card_text: str) -> bool:
        """Drop a copy that `directory` made; False: it makes none, what it gives is the version itself."""

    def remove(self, name: str, version: str) -> None:
        """Take a version away, its card first."""


class DirectoryStorage:
    """`Storage` in a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.where = str(root)

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self._root.iterdir()) if self._root.is_dir() else []

    def numbers(self, name: str) -> list[int]:
        return numbers_of(self._complete(name))

    def variants(self, name: str) -> list[str]:
        return variants_of(self._complete(name))

    def _complete(self, name: str) -> Iterator[str]:
        home = self._root / name
        if home.is_dir():
            yield from (entry.name for entry in home.iterdir() if (entry / CARD_FILE).is_file())

    def card_text(self, name: str, version: str) -> str:
        return (self._root / name / version / CARD_FILE).read_text(encoding="utf-8")

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        directory = self._root / name / f".publishing-{uuid.uuid4().hex}"
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def place(self, name: str, staged: Path, stamp: Stamp, variant: str = "") -> str:
        home = self._root / name
        number = max(self.numbers(name), default=0) + 1
        while True:
            version = variant or str(number)
            (staged / CARD_FILE).write_text(stamp(version), encoding="utf-8")
            _sync_tree(staged)
            try:
                staged.rename(home / version)
            except OSError as error:
                # Somebody else published it meanwhile: rename never replaces a full directory.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                if variant:
                    raise FileExistsError(variant) from error
                number += 1
                continue
            _sync(home)
            return version

    def directory(self, name: str, version: str, card_text: str, files: dict[str, str]) -> Path:
        return self._root / name / version

    def forget(self, name: str, version: str, card_text: str) -> bool:
        return False

    def remove(self, name: str, version: str) -> None:
        place = self._root / name / version
        (place / CARD_FILE).unlink()
        shutil.rmtree(place)
        if not any(self._root.joinpath(name).iterdir()):
            self._root.joinpath(name).rmdir()


def numbers_of(names: Iterator[str]) -> list[int]:
    """The directory names that are numbers as we write them, in order."""
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name)


def variants_of(names: Iterator[str]) -> list[str]:
    """The directory names that are variants of a version: its number, a dash, and what it is."""
    return [name for name in names if VARIANT.fullmatch(name)]


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
