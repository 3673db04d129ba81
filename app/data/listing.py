"""Which files a source has, and how they are dealt out to tasks.

Knows nothing of what is in them. The order is that of their paths, so that the same source is dealt out the same.
"""

import importlib.util
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow.fs as pafs

from app.data.spec import Source
from app.errors import InvalidInput, TooLarge
from app.training.parquet_files import open_url, reaching, shown

MAX_FILE_BYTES = 1 << 30
"""One task reads a source file whole."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a source."""

    path: str
    """Below the source's root; empty: the source is this file."""
    name: str
    bytes: int


def root_of(url: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem and the path there that `url` names on this node. Raises InvalidInput or Unavailable."""
    if url == "stdlib:":
        return pafs.LocalFileSystem(), sysconfig.get_path("stdlib")
    if url.startswith("package:"):
        return pafs.LocalFileSystem(), str(_in_package(url.removeprefix("package:")))
    return open_url(url)


def _in_package(place: str) -> Path:
    package, _, inner = place.partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise InvalidInput(f"package:{place}: there is no package {package!r} here; install it, or give a path")
    return Path(next(iter(found.submodule_search_locations)), inner)


def pieces_of(source: Source) -> list[Piece]:
    """The files of `source`, by path. Raises InvalidInput where there is none, TooLarge for one beyond the bound."""
    files, root = root_of(source.url)
    with reaching(source.url):
        kind = files.get_file_info(root).type
        if kind == pafs.FileType.NotFound:
            raise InvalidInput(f"source.url {shown(source.url)}: nothing is there; give a file or a directory")
        infos = files.get_file_info(root if kind == pafs.FileType.File else pafs.FileSelector(root, recursive=True))
    if kind == pafs.FileType.File:
        pieces = [Piece("", infos.base_name, infos.size or 0)]
    else:
        relative = ((info, info.path[len(root) :].lstrip("/")) for info in infos if info.is_file)
        pieces = [Piece(path, path, info.size or 0) for info, path in relative if _is_wanted(path, source)]
    if not pieces:
        raise InvalidInput(
            f"source {shown(source.url)} has no file that matches include={list(source.include)} and not "
            f"exclude={list(source.exclude)}; `*` stands for slashes, too"
        )
    for piece in pieces:
        if piece.bytes > MAX_FILE_BYTES:
            raise TooLarge(f"{piece.name} has {piece.bytes} bytes, more than {MAX_FILE_BYTES}: divide it")
    return sorted(pieces, key=lambda piece: piece.path)


def _is_wanted(path: str, source: Source) -> bool:
    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in patterns)

    return matches(source.include) and not matches(source.exclude)


def chunks(pieces: Iterable[Piece], at_most_bytes: int) -> Iterator[list[Piece]]:
    """Files one after the other, together up to `at_most_bytes`; a larger one alone."""
    chunk: list[Piece] = []
    for piece in pieces:
        if chunk and sum(each.bytes for each in chunk) + piece.bytes > at_most_bytes:
            yield chunk
            chunk = []
        chunk.append(piece)
    if chunk:
        yield chunk
