"""The driver of a compression job: fetches the version, has the work done on the cluster, publishes what came of it.

The work is one task with the job's resources; a node needs no access to the model repository. Its energy is the job's,
kind `compress`; what is metered beside it, a row's energy, is on blocks of its own.

    python -m app train deployments/jobs/digits-small.yaml

`run_job` raises InvalidInput and NotFound for a version that is not there or cannot be compressed so.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray

from app.clock import Clock, SystemClock
from app.compression import table
from app.compression.job import CompressJob, load_job
from app.compression.worker import Outcome, Parcel, compress, unpack
from app.config import settings
from app.errors import InvalidInput, JoulekeeperError
from app.models.card import EnergyCard, ModelCard
from app.models.repository import ModelRepository, open_repository
from app.product import version_of
from app.training.cluster import join_cluster, open_books
from app.training.energy import job_energy
from app.training.job import run_name
from app.training.publish import code_version
from app.units import NS_PER_S, format_energy


@dataclass(frozen=True, slots=True)
class CompressResult:
    """What a finished job made and cost."""

    run: str
    """As the ledger knows it."""
    published: tuple[str, ...]
    """`name@version`."""
    tried: tuple[ModelCard, ...]
    metric: str
    energy: EnergyCard


def main(path: Path) -> int:
    """Run the job file at `path`; exit status 0: finished, and something was published. Prints what went wrong."""
    try:
        return report(run_job(load_job(path)))
    except JoulekeeperError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1


def report(result: CompressResult) -> int:
    """Print what came of a job; the exit status."""
    for line in table.lines(result.tried, result.metric):
        _print(line)
    energy = result.energy
    told = f"{format_energy(energy.energy_uj)}, grade {energy.grade}" if energy.source != "none" else "unknown"
    _print(f"{result.run}: energy {told}; " + (f"published {', '.join(result.published)}" if result.published else ""))
    if not result.published:
        _print("nothing is good enough; nothing was published")
    return 0 if result.published else 1


def _print(text: str) -> None:
    print(text, flush=True)


def run_job(
    job: CompressJob, *, run: str = "", clock: Clock | None = None, tell: Callable[[str], None] = _print
) -> CompressResult:
    """Run `job` to its end, settle its energy and publish what it made."""
    clock = clock or SystemClock()
    run = run or run_name(job.name, clock.wall_ns())
    repository = open_repository(settings().repository)
    name, _, version = job.model.partition("@")
    version = repository.resolve(name, version)
    with repository.open(name, version) as (card, directory):
        files = {relative: (directory / relative).read_bytes() for relative in card.files}
    _check_place(repository, name, version, job)
    join_cluster()
    books = open_books(tell)
    outcome: Outcome = _on_the_cluster(job, run, Parcel(card, files))
    if books is not None:
        time.sleep(settings().settle_lag_s + 2 * settings().flush_s + 0.5)  # meters settle, and deliver twice
    energy, _ = job_energy(books, run, {phase: dict(part) for phase, part in outcome.usage.items()})
    published = [
        _publish(repository, version, parcel, run, energy, clock)
        for parcel in outcome.made
        if job.at_least is None or parcel.card.metrics[outcome.metric] >= job.at_least
    ]
    return CompressResult(run, tuple(published), tuple(outcome.tried), outcome.metric, energy)


def _check_place(repository: ModelRepository, name: str, version: str, job: CompressJob) -> None:
    """Refuse before the work what could not be published after it."""
    if not job.search and f"{version}-{job.word}" in repository.variants(name):
        raise InvalidInput(
            f"{name}@{version}-{job.word} is there already; delete it first, or give this one another name: variant"
        )


def _on_the_cluster(job: CompressJob, run: str, parcel: Parcel) -> Outcome:
    options: dict[str, Any] = {"num_cpus": job.resources.cpu, "num_gpus": job.resources.gpu, "max_retries": 0}
    try:
        outcome: Outcome = ray.get(_compress.options(**options).remote(job, run, ray.put(parcel)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, JoulekeeperError):
            raise error.cause from error
        raise
    return outcome


def _publish(
    repository: ModelRepository, version: str, parcel: Parcel, run: str, energy: EnergyCard, clock: Clock
) -> str:
    """Publish one result; returns `name@version`."""
    card = parcel.card.model_copy(
        update={
            "created": datetime.fromtimestamp(clock.wall_ns() / NS_PER_S, UTC).isoformat(timespec="seconds"),
            "energy": energy,
            "job": run,
            "code_version": code_version(),
            "framework": {package: version_of(package) for package in ("torch", "safetensors", "numpy")},
        }
    )
    variant = f"{version}-{card.variant}"
    published = repository.publish(card.name, lambda target: _unpacked(parcel, target), card, variant=variant)
    return f"{card.name}@{published}"


def _unpacked(parcel: Parcel, target: Path) -> None:
    unpack(parcel.files, target)


_compress = ray.remote(compress)
