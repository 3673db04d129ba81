"""The driver of a training job: joins Ray, runs the workers, closes the books on it, publishes, reports.

A worker that dies costs at most what lies after the last checkpoint: Ray Train starts the group again, and
the new attempt is an account of its own. Metering that is down costs figures, never the job.

    python -m app train deployments/jobs/digits.yaml

`run_job` raises InvalidInput for a result that cannot be published, and Ray's TrainingFailedError when
workers fail more often than the job allows.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from app.clock import Clock, SystemClock
from app.config import settings
from app.errors import JoulekeeperError
from app.models.card import ModelCard
from app.models.repository import open_repository
from app.training.callback import METERS_ITSELF
from app.training.cluster import join_cluster, open_books
from app.training.data import Dataset, load_data
from app.training.energy import job_energy
from app.training.job import Publication, TrainJob, load_job, run_name
from app.training.power import PowerWatch, servers
from app.training.publish import card_of, publish
from app.training.summary import TrainResult, summary
from app.training.texts import TEXT_SOURCES, Texts, load_texts
from app.training.worker import train_worker
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.metering.accountant import BooksClient
    from app.training.token_cost import Measure


def main(path: Path, measure: "Measure | None" = None) -> int:
    """Run the job file at `path`; exit status 0: finished and, if it asks for it, published. Prints what went wrong."""
    try:
        job = load_job(path)
        result = run_job(job, tell=_print, measure=measure)
    except (JoulekeeperError, TrainingFailedError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    for text in summary(result, formulas=job.report.formulas):
        _print(text)
    if not result.reached and job.target:
        value = result.metrics[job.target.metric]
        _print(f"{job.target.metric} {value:.4f} misses the target {job.target}; nothing was published")
    return 0 if result.reached else 1


def _print(text: str) -> None:
    print(text, flush=True)


def run_job(
    job: TrainJob,
    *,
    run: str = "",
    clock: Clock | None = None,
    tell: Callable[[str], None] = _print,
    measure: "Measure | None" = None,
) -> TrainResult:
    """Run `job` to its end, settle its energy and publish its result. `run` given again resumes that run.

    With `measure`, `app.energy.measure`, the card of a language model says what its tokens cost.
    """
    clock = clock or SystemClock()
    run = run or run_name(job.name, clock.wall_ns())
    join_cluster()
    tell(f"{run}: {job.workers} workers, results below {_storage(job)}/{run}")
    books = open_books(tell)
    with _watching(books, clock) as watch:
        started_ns = clock.monotonic_ns()
        fitted = _trainer(job, run).fit()
        ended_ns = clock.monotonic_ns()
        _wait_for_the_books(books)
    result = _settled(job, run, fitted.return_value, books, watch, (started_ns, ended_ns))
    if not result.reached or job.publish is None:
        return result
    return replace(result, published=_publish(job, job.publish, result, fitted.checkpoint, clock, measure))


def _settled(
    job: TrainJob,
    run: str,
    outcome: dict[str, Any],
    books: "BooksClient | None",
    watch: PowerWatch | None,
    span_ns: tuple[int, int],
) -> TrainResult:
    """What the run was and cost; nothing is published yet."""
    lag_ns = round(settings().settle_lag_s * NS_PER_S)
    energy, attempts_uj = job_energy(books, run, outcome["usage"])
    return TrainResult(
        name=job.name,
        run=run,
        seconds=(span_ns[1] - span_ns[0]) / NS_PER_S,
        metrics=outcome["metrics"],
        attempts=outcome["attempt"],
        resumed_after=outcome["resumed_after"],
        energy=energy,
        attempts_uj=attempts_uj,
        servers=servers(watch.samples, *span_ns, lag_ns) if watch else (),
        power_trouble=watch.trouble if watch else "there is no ledger",
        reached=_reached(job, outcome["metrics"]),
        published="",
    )


def _trainer(job: TrainJob, run: str) -> TorchTrainer:
    # Workers wait in report() until the controller looks: every 2 s, unless told otherwise.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    resources = {"CPU": job.resources.cpu} | ({"GPU": job.resources.gpu} if job.resources.gpu else {})
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": job.model_dump(mode="json"), "run": run, METERS_ITSELF: True},
        scaling_config=ScalingConfig(
            num_workers=job.workers, use_gpu=job.resources.gpu > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=run,
            storage_path=_storage(job),
            failure_config=FailureConfig(max_failures=job.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _storage(job: TrainJob) -> str:
    return job.storage or str(settings().state_dir / "jobs")


def _reached(job: TrainJob, metrics: dict[str, float]) -> bool:
    return job.target is None or job.target.reached(metrics)


@contextlib.contextmanager
def _watching(books: "BooksClient | None", clock: Clock) -> Iterator[PowerWatch | None]:
    if books is None:
        yield None
        return
    with PowerWatch(books.status, clock) as watch:
        yield watch


def _wait_for_the_books(books: "BooksClient | None") -> None:
    """Give the meters the time they take to settle, and to deliver twice."""
    if books is not None:
        time.sleep(settings().settle_lag_s + 2 * settings().flush_s + 0.5)


def _publish(
    job: TrainJob,
    publication: Publication,
    result: TrainResult,
    checkpoint: Any,
    clock: Clock,
    measure: "Measure | None",
) -> str:
    """Publish the last checkpoint; returns `name@version`."""
    read = load_texts if job.data.source in TEXT_SOURCES else load_data
    data: Dataset | Texts = read(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
    card = card_of(
        job, publication, run=result.run, metrics=result.metrics, data=data.card, energy=result.energy, clock=clock
    )

    def measured(directory: Path, card: ModelCard) -> ModelCard:
        if measure is None or not isinstance(data, Texts):
            return card
        from app.training.token_cost import cost_line, prompts_of, token_costs

        costs = token_costs([(directory, card)], prompts_of(data.held_out), measure=measure)
        cost = costs[0] if costs else None
        _print(cost_line(cost))
        return card.model_copy(update={"token_cost": cost})

    with checkpoint.as_directory() as directory:
        version = publish(open_repository(settings().repository), publication, job, Path(directory), card, measured)
    return f"{publication.name}@{version}"
