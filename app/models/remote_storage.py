"""Versions on any file system that fsspec speaks, read through a cache of this machine.

Knows nothing of what is in a version. There is no rename to build on, so a number is claimed first: a publisher writes
a claim of its own into the version's directory and gives the number up if it finds anything else there; where a listing
shows what was written before it (S3, GCS, Azure and every file system do), two never keep one number. The card is
written last, and a directory without a card is no version.

`s3://` is spoken by pyarrow, which Ray needs anyway (credentials, region and endpoint by AWS_* variables, also in the
URL: `s3://bucket/models?endpoint_override=...`); others by the package that fsspec names. What cannot be reached
raises Unavailable.
"""

import functools
import hashlib
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

import fsspec

from app.clock import Clock, SystemClock
from app.errors import InvalidInput, Unavailable
from app.models.formats import CARD_FILE
from app.models.storage import Stamp, numbers_of, variants_of
from app.units import NS_PER_S

Given = ParamSpec("Given")
Result = TypeVar("Result")

_CLAIM = ".claim-"
_IN_USE_S = 600
"""A cached version that was opened within this time is not evicted: somebody may still be reading it."""
_MAX_AHEAD = 8


def _translated(call: Callable[Given, Result]) -> Callable[Given, Result]:
    """What a file system raises, as Unavailable; what says that a file is, or is not, there stays as it is."""

    @functools.wraps(call)
    def guarded(*arguments: Given.args, **named: Given.kwargs) -> Result:
        try:
            return call(*arguments, **named)
        except (FileNotFoundError, FileExistsError):
            raise
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"the model repository cannot be reached: {type(error).__name__}: {error}; check its URL, its "
                "credentials and the network"
            ) from error

    return guarded


class RemoteStorage:
    """`Storage` below an fsspec URL; local copies below `cache`, `max_cache_bytes` of them."""

    def __init__(self, url: str, cache: Path, max_cache_bytes: int, clock: Clock | None = None) -> None:
        self.where = url.partition("?")[0].rstrip("/")
        self._files, self._root = _open(url)
        self._cache = cache / hashlib.sha256(self.where.encode()).hexdigest()[:16]
        self._max_cache_bytes = max_cache_bytes
        self._clock = clock or SystemClock()

    @_translated
    def names(self) -> list[str]:
        return sorted(self._listed(self._root))

    @_translated
    def numbers(self, name: str) -> list[int]:
        return [number for number in self._taken(name) if self._files.exists(self._at(name, str(number), CARD_FILE))]

    @_translated
    def variants(self, name: str) -> list[str]:
        found = variants_of(iter(self._listed(self._at(name))))
        return [variant for variant in found if self._files.exists(self._at(name, variant, CARD_FILE))]

    @_translated
    def card_text(self, name: str, version: str) -> str:
        return bytes(self._files.cat_file(self._at(name, version, CARD_FILE))).decode("utf-8")

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="joulekeeper-publish-") as directory:
            yield Path(directory)

    @_translated
    def place(self, name: str, staged: Path, stamp: Stamp, variant: str = "") -> str:
        version, claim = self._claim_variant(name, variant) if variant else self._claim(name)
        try:
            for path in sorted(staged.rglob("*")):
                if path.is_file():
                    self._put(path, self._at(name, version, path.relative_to(staged).as_posix()))
            self._write(self._at(name, version, CARD_FILE), stamp(version).encode())
        except BaseException:
            with suppress(OSError):
                self._files.rm(self._at(name, version), recursive=True)
            raise
        self._files.rm_file(claim)
        return version

    def directory(self, name: str, version: str, card_text: str, files: dict[str, str]) -> Path:
        place = self._copy(name, version, card_text)
        if not place.is_dir():
            self._fetch(name, version, files, place)
        os.utime(place)
        return place

    def forget(self, name: str, version: str, card_text: str) -> bool:
        shutil.rmtree(self._copy(name, version, card_text), ignore_errors=True)
        return True

    @_translated
    def remove(self, name: str, version: str) -> None:
        self._files.rm_file(self._at(name, version, CARD_FILE))
        self._files.rm(self._at(name, version), recursive=True)

    def _copy(self, name: str, version: str, card_text: str) -> Path:
        """By the card too: a number that was deleted may come again."""
        return self._cache / name / f"{version}-{hashlib.sha256(card_text.encode()).hexdigest()[:12]}"

    def _claim(self, name: str) -> tuple[str, str]:
        ahead = 1
        while True:
            number = str(max(self._taken(name), default=0) + ahead)
            claim = self._claimed(name, number)
            if claim:
                return number, claim
            # Two that met at one number must not meet at the next one too; numbers need not be dense.
            ahead = random.randint(1, _MAX_AHEAD)

    def _claim_variant(self, name: str, variant: str) -> tuple[str, str]:
        claim = self._claimed(name, variant)
        if not claim:
            raise FileExistsError(variant)
        return variant, claim

    def _claimed(self, name: str, version: str) -> str:
        """Path of a claim that stands alone in the place of `version`, which is ours then; empty where it is not."""
        mine = f"{_CLAIM}{uuid.uuid4().hex}"
        path = self._at(name, version, mine)
        self._write(path, b"joulekeeper")
        if self._listed(self._at(name, version)) == {mine}:
            return path
        self._files.rm_file(path)
        return ""

    @_translated
    def _fetch(self, name: str, version: str, files: dict[str, str], place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".fetching-", dir=place.parent))
        try:
            for relative in files:
                target = partial / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._files.open(self._at(name, version, relative), "rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 8 * 1024 * 1024)
            try:
                partial.rename(place)
            except OSError:
                if not place.is_dir():  # else somebody else fetched it meanwhile
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._evict(place)

    def _evict(self, newest: Path) -> None:
        """Delete the versions that were opened longest ago until the cache is within its bound."""
        places = [place for place in self._cache.glob("*/*-*") if place != newest and not place.name.startswith(".")]
        sizes = {place: _size(place) for place in (*places, newest)}
        excess, now_s = sum(sizes.values()) - self._max_cache_bytes, self._clock.wall_ns() / NS_PER_S
        for place in sorted(places, key=lambda each: each.stat().st_mtime):
            if excess <= 0:
                return
            if now_s - place.stat().st_mtime > _IN_USE_S:
                shutil.rmtree(place, ignore_errors=True)
                excess -= sizes[place]

    def _taken(self, name: str) -> list[int]:
        return numbers_of(iter(self._listed(self._at(name))))

    def _listed(self, path: str) -> set[str]:
        self._files.invalidate_cache()
        try:
            return {PurePosixPath(entry).name for entry in self._files.ls(path, detail=False)} - {""}
        except FileNotFoundError:
            return set()

    def _put(self, path: Path, target: str) -> None:
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        with path.open("rb") as source, self._files.open(target, "wb") as sink:
            shutil.copyfileobj(source, sink, 8 * 1024 * 1024)

    def _write(self, target: str, content: bytes) -> None:
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        with self._files.open(target, "wb") as sink:
            sink.write(content)

    def _at(self, *parts: str) -> str:
        return "/".join((self._root, *parts))


def _open(url: str) -> tuple[Any, str]:
    """The file system of `url` and the path of its root there. Raises InvalidInput."""
    try:
        if url.startswith("s3://"):
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow.fs import FileSystem

            files, path = FileSystem.from_uri(url)
            return ArrowFSWrapper(files), path.rstrip("/")
        files, path = fsspec.url_to_fs(url)
        return files, path.rstrip("/")
    except (ValueError, ImportError, OSError) as error:
        raise InvalidInput(f"model repository {url.partition('?')[0]!r} cannot be opened: {error}") from error


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
