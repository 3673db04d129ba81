"""What lies in a checkpoint and how one knows that it is whole: a digest of every file, written by the first worker.

Knows nothing of tensors, Ray or where a checkpoint lies. A directory without a manifest, or with a file that is
missing, shorter or other than the manifest says, is no checkpoint: so the files may arrive in any order, and one that
was cut off at any moment is passed over.

    digests = digests_of(directory)                   # of the part that this worker wrote
    write_manifest(directory, Manifest(layout="whole", world=2, facts={...}, files=digests))
    faults_of(directory, read_manifest(directory))    # [] or what is wrong, in sentences

`read_manifest` raises InvalidInput for what is none of ours.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import InvalidInput

MANIFEST_FILE = "manifest.json"
_CHUNK_BYTES = 1024 * 1024


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileDigest(_Part):
    """One file, by its place below the checkpoint's directory."""

    bytes: int = Field(ge=0)
    sha256: str


class Manifest(_Part):
    """What a checkpoint says of itself."""

    format: Literal[1] = 1
    layout: Literal["whole", "shards"]
    """`whole`: weights and optimiser in one file each. `shards`: of every worker its part."""
    world: int = Field(ge=1)
    """Workers that wrote it; as many or others may read it."""
    facts: Mapping[str, Any]
    """Of the training state all that is no tensor: `epoch` and `step` above all."""
    files: Mapping[str, FileDigest]


def digests_of(directory: Path) -> dict[str, FileDigest]:
    """All files below `directory` but a manifest, by their place there."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != MANIFEST_FILE]
    return {path.relative_to(directory).as_posix(): _digest(path) for path in paths}


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write it beside the files."""
    (directory / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def read_manifest(directory: Path) -> Manifest:
    """The manifest in `directory`."""
    try:
        content = (directory / MANIFEST_FILE).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{directory} has no {MANIFEST_FILE}, so it is no checkpoint: {error.strerror}") from error
    return parse_manifest(content, str(directory))


def parse_manifest(content: bytes, where: str) -> Manifest:
    """The manifest in `content`, which lies at `where`."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise InvalidInput(f"the {MANIFEST_FILE} of {where} is not one of ours: {error}") from error


def faults_of(directory: Path, manifest: Manifest, names: Iterable[str] | None = None) -> list[str]:
    """What is wrong with the files `names`, by default all: one sentence each, nothing where all are as written."""
    return [
        fault
        for name in (manifest.files if names is None else names)
        if (fault := _fault(directory / name, name, manifest.files[name]))
    ]


def _fault(path: Path, name: str, expected: FileDigest) -> str:
    if not path.is_file():
        return f"{name} is missing"
    found = _digest(path)
    if found.bytes != expected.bytes:
        return f"{name} has {found.bytes} bytes, {expected.bytes} were written"
    return "" if found.sha256 == expected.sha256 else f"{name} is not what was written: its sha256 differs"


def _digest(path: Path) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileDigest(bytes=size, sha256=digest.hexdigest())
