"""Divided training state in files: every worker writes its part, any number of workers reads what is its own.

torch.distributed.checkpoint does the work, and knows nothing of where a checkpoint goes in the end: workers write to
directories of their own, whose files belong into one. What it would unpickle freely it unpickles here by a list: its
own description of the tensors, and plain values. Importing this file imports torch.

    write_shards(directory, state.state_dict(), alone=False)          # all workers, each its own directory
    read_shards(directory, found := state.state_dict(), alone=False)  # all workers, the files of all
    whole_tensors(directory, "module.")                               # one process: the weights by name

Raises RuntimeError, as torch.distributed.checkpoint does, for files that do not fit the state.
"""

import io
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

_SAFE = {
    ("torch.distributed.checkpoint.metadata", "Metadata"),
    ("torch.distributed.checkpoint.metadata", "MetadataIndex"),
    ("torch.distributed.checkpoint.metadata", "TensorStorageMetadata"),
    ("torch.distributed.checkpoint.metadata", "BytesStorageMetadata"),
    ("torch.distributed.checkpoint.metadata", "ChunkStorageMetadata"),
    ("torch.distributed.checkpoint.metadata", "TensorProperties"),
    ("torch.distributed.checkpoint.metadata", "StorageMeta"),
    ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}


def write_shards(directory: Path, state: dict[str, Any], *, alone: bool) -> None:
    """Write this worker's part of `state`; unless it is `alone`, all workers must call it."""
    with _plainly():
        save(state, storage_writer=FileSystemWriter(directory), no_dist=alone)


def read_shards(directory: Path, state: dict[str, Any], *, alone: bool) -> None:
    """Fill the tensors and values of `state`; unless it is `alone`, all workers must call it."""
    with _plainly():
        load(state, storage_reader=_Reader(directory), planner=_Planner(), no_dist=alone)


def whole_tensors(directory: Path, prefix: str) -> dict[str, Tensor]:
    """Every tensor whose name begins with `prefix`, put together and named without it, on the CPU."""
    known = _Reader(directory).read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(each.size, dtype=each.properties.dtype)
        for name, each in known.items()
        if name.startswith(prefix) and isinstance(each, TensorStorageMetadata)
    }
    read_shards(directory, tensors, alone=True)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


@contextmanager
def _plainly() -> Iterator[None]:
    """Failures as what they are; one process alone is meant, and no accident that a warning should point at."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        try:
            yield
        except CheckpointException as error:
            rank, (reason, _) = next(iter(error.failures.items()))
            raise RuntimeError(f"shards of worker {rank}: {type(reason).__name__}: {reason}") from error


class _Reader(FileSystemReader):
    """Reads the description of the tensors without running what somebody may have put there."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with Path(self._get_metadata_path(kwargs.get("rank"))).open("rb") as stream:
            metadata: Metadata = _Unpickler(stream).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _Planner(DefaultLoadPlanner):
    """Reads values that are no tensors by torch's list of safe ones."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        checked = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), checked)
        checked.seek(0)
        super().load_bytes(read_item, checked)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a checkpoint's description names {module}.{name}, which has no place in one")
