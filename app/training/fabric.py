"""What binds the workers of one job: ranks, sums, checkpoints, attempts. Ray Train's, or one process alone.

Knows nothing of models, data or energy: the loop (worker.py) is written against `Fabric` and runs the same
under Ray Train and in a test without Ray.
"""

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn


class Fabric(Protocol):
    """One worker's view of the group."""

    rank: int
    world: int
    device: torch.device

    def gather(self, value: Any) -> list[Any]:
        """Every worker's `value`, by rank, on every worker. All workers must call it."""

    def prepare(self, module: nn.Module) -> nn.Module:
        """`module` on this worker's device, its gradients averaged over the group."""

    def report(self, metrics: dict[str, Any], directory: Path | None) -> None:
        """Publish metrics and, on the worker that has one, a checkpoint directory. All workers must call it."""

    def checkpoint(self) -> Any:
        """Context manager giving the directory of the latest checkpoint, or None."""

    def next_attempt(self) -> int:
        """Number of this attempt at the run, from 1. All workers must call it, once."""


class RayFabric:
    """A worker of a ray.train.torch.TorchTrainer."""

    def __init__(self) -> None:
        from ray import train
        from ray.train.torch import get_device

        _quieten_ray()
        self._context = train.get_context()
        self.rank = self._context.get_world_rank()
        self.world = self._context.get_world_size()
        self.device = get_device()

    def gather(self, value: Any) -> list[Any]:
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def prepare(self, module: nn.Module) -> nn.Module:
        from ray.train.torch import prepare_model

        prepared: nn.Module = prepare_model(module)
        return prepared

    def report(self, metrics: dict[str, Any], directory: Path | None) -> None:
        from ray import train

        checkpoint = train.Checkpoint.from_directory(directory) if directory else None
        train.report(metrics, checkpoint=checkpoint)

    @contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        from ray import train

        latest = train.get_checkpoint()
        if latest is None:
            yield None
        else:
            with latest.as_directory() as directory:
                yield Path(directory)

    def next_attempt(self) -> int:
        storage = self._context.get_storage()
        mine = 0
        if self.rank == 0:
            mine = count_attempt(storage.storage_filesystem, f"{storage.experiment_fs_path}/{ATTEMPTS}")
        return int(self.gather(mine)[0])


def _quieten_ray() -> None:
    """Ray 2.60 announces every report() on a logger named after its file, which LoggingConfig does not reach."""
    module = sys.modules.get("ray.train.v2._internal.execution.context")
    if module is not None and module.__file__:
        logging.getLogger(module.__file__).setLevel(logging.WARNING)


ATTEMPTS = "attempts"


def count_attempt(filesystem: Any, directory: str) -> int:
    """Leave a mark for one more attempt in `directory` of a pyarrow filesystem; returns how many there are now.

    Marks lie beside the checkpoints and are written before any work, so that an attempt which died before its
    first checkpoint counts too.
    """
    filesystem.create_dir(directory, recursive=True)
    attempt = 1
    while filesystem.get_file_info(f"{directory}/{attempt:04d}").is_file:
        attempt += 1
    with filesystem.open_output_stream(f"{directory}/{attempt:04d}"):
        pass
    return attempt


class SoloFabric:
    """One process alone, checkpoints below a directory: for tests and for trying a job without a cluster."""

    rank, world = 0, 1

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        self._directory = directory
        self.device = torch.device(device)
        self.reports: list[dict[str, Any]] = []
        self.attempts = 0

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def prepare(self, module: nn.Module) -> nn.Module:
        return module.to(self.device)

    def report(self, metrics: dict[str, Any], directory: Path | None) -> None:
        self.reports.append(metrics)
        if directory is not None:
            shutil.rmtree(self._directory / "latest", ignore_errors=True)
            shutil.copytree(directory, self._directory / "latest")

    @contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        kept = self._directory / "latest"
        yield kept if kept.exists() else None

    def next_attempt(self) -> int:
        self.attempts += 1
        return self.attempts
