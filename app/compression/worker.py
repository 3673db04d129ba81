"""What runs on the cluster: a version comes as bytes, its compressed versions go back as bytes, all of it on the books.

Knows nothing of repositories, so that a node needs no access to one. A plain function; run.py wraps it.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.compression.job import CompressJob
from app.compression.search import explore, families_for, losses_of, pareto
from app.compression.workshop import Made, Workshop
from app.config import settings
from app.domain.account import job_account
from app.models.card import ModelCard
from app.training.phases import Phases

Files = Mapping[str, bytes]
"""By path below the version's directory."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A version on its way."""

    card: ModelCard
    files: Files


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    made: Sequence[Parcel]
    """To be published, each with its variant's name on its card; of a search the best compromises."""
    tried: Sequence[ModelCard]
    """All of them."""
    metric: str
    usage: Mapping[str, Mapping[str, Any]]
    """By phase what the books know of it by now."""


def compress(job: CompressJob, run: str, parcel: Parcel, *, device: str = "") -> Outcome:
    """Make, score and price what `job` asks for. Raises InvalidInput for a version that cannot be compressed so."""
    from app.energy import measure
    from app.metering.client import WorkClient
    from app.metering.devices import visible_accelerators

    accelerators = visible_accelerators()
    client = WorkClient.open(job_account(job.tenant, run, 1, job.kind), devices=accelerators, worker=0)
    phases = Phases(client, job_account(job.tenant, run, 1, job.kind))
    try:
        with tempfile.TemporaryDirectory(prefix="joulekeeper-compress-") as scratch:
            directory = unpack(parcel.files, Path(scratch) / "base")
            on = device or ("cuda" if accelerators else "cpu")
            shop = Workshop(parcel.card, directory, Path(scratch), phases, tell=_print, device=on, seed=job.seed)
            made = _made(job, shop, parcel.card)
            if job.measure:
                shop.price(made, measure if settings().metering else None)
            tried = [each.card for each in made]
            if job.search:
                made = pareto(made, lambda each: losses_of(each.card, shop.material.metric))
            phases.close()
            parcels = [pack(each) for each in made]
            return Outcome(parcels, tried, shop.material.metric, _plain(phases))
    finally:
        phases.close()
        client.close()


def _made(job: CompressJob, shop: Workshop, card: ModelCard) -> list[Made]:
    metric = shop.material.metric
    if job.search is None:
        return [shop.make(job.steps, job.word)]
    least = job.search.min_accuracy
    tuning: dict[str, Any] = {"epoch_steps": 60, "epochs": 2, "batch_size": 16} if card.runner == "encoder" else {}
    return explore(families_for(card, tuning), shop.make, lambda made: made.card.metrics[metric] >= least)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _plain(phases: Phases) -> dict[str, dict[str, Any]]:
    return {
        phase: {"energy_uj": part.energy_uj, "carbon_ugco2e": part.carbon_ugco2e, "grade": part.grade}
        for phase, part in phases.usage().items()
    }


def pack(made: Made) -> Parcel:
    """The files of a result in memory."""
    files = {path.relative_to(made.directory).as_posix(): path for path in made.directory.rglob("*") if path.is_file()}
    return Parcel(made.card, {name: path.read_bytes() for name, path in files.items()})


def unpack(files: Files, directory: Path) -> Path:
    """Write files below `directory`, which need not exist; returns it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory
