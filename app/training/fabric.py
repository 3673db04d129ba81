"""What binds the workers of one job: ranks, sums, checkpoints, attempts. One process alone, or torchrun's.

Knows nothing of models, data or energy: the loop (worker.py) is written against `Fabric` and runs the same under Ray
Train (ray_fabric.py) and in a test without Ray.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed

from app.training.notices import Notices
from app.training.state import TrainState


class Group(Protocol):
    """Those who share something, as one of them sees it."""

    @property
    def rank(self) -> int:
        """Of this worker, from 0."""

    @property
    def world(self) -> int:
        """How many they are."""

    @property
    def device(self) -> torch.device:
        """Of this worker."""

    def gather(self, value: Any) -> list[Any]:
        """Every worker's `value`, by rank, on every worker. All workers must call it."""


class Fabric(Group, Protocol):
    """One worker's view of all workers of the job."""

    notices: Notices
    """What this worker is asked from outside; the loop looks between steps."""

    def report(self, metrics: dict[str, Any], directory: Path | None) -> None:
        """Publish metrics and, on the worker that has one, a checkpoint directory. All workers must call it."""

    def checkpoint(self) -> Any:
        """Context manager giving the directory of the latest checkpoint, or None."""

    def next_attempt(self) -> int:
        """Number of this attempt at the run, from 1. All workers must call it, once."""

    def follow(self, state: TrainState, epoch_steps: int) -> None:
        """Training begins: whoever asks is told how far `state` has come."""


class SoloFabric:
    """Workers without Ray: one process alone, or those of torch's process group where there is one (torchrun).

    Checkpoints lie below a directory: for tests, benchmarks and for trying a job without a cluster.
    """

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        self.directory = directory
        self.device = torch.device(device)
        grouped = torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if grouped else 0
        self.world = torch.distributed.get_world_size() if grouped else 1
        self.notices = Notices()
        self.reports: list[dict[str, Any]] = []
        self.attempts = 0

    def gather(self, value: Any) -> list[Any]:
        return gather(self.world, value)

    def report(self, metrics: dict[str, Any], directory: Path | None) -> None:
        self.reports.append(metrics)
        if self.rank == 0 and directory is not None:
            shutil.rmtree(self.directory / "latest", ignore_errors=True)
        self.gather(None)
        if directory is not None:
            shutil.copytree(directory, self.directory / "latest", dirs_exist_ok=True)
        self.gather(None)

    @contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        kept = self.directory / "latest"
        yield kept if kept.exists() else None

    def next_attempt(self) -> int:
        self.attempts += 1
        return self.attempts

    def follow(self, state: TrainState, epoch_steps: int) -> None: ...


def gather(world: int, value: Any) -> list[Any]:
    """Every worker's `value` through torch's process group, by rank."""
    if world == 1:
        return [value]
    values: list[Any] = [None] * world
    torch.distributed.all_gather_object(values, value)
    return values
