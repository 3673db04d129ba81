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

from ray.train import Checkpoint, CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from app.clock import Clock, SystemClock
from app.config import settings
from app.engine.job_report import JobReport
from app.errors import JoulekeeperError, NotFound
from app.metering.node_zones import rooms_by_zone
from app.models.card import DataCard, ModelCard
from app.models.repository import open_repository
from app.training import board
from app.training.attempts import read_attempts
from app.training.callback import METERS_ITSELF
from app.training.cluster import join_cluster, open_books
from app.training.elastic import ElasticTrainer
from app.training.energy import attempt_energy, energy_by_epoch, hours_of, job_energy
from app.training.fitted import Fitted
from app.training.history import History
from app.training.interrupt import interruptible
from app.training.job import TrainJob, load_job, run_name
from app.training.parquet_files import shown
from app.training.parquet_fit import check_data
from app.training.parts import Publication
from app.training.placing import Placed, place_run, reporting
from app.training.planned import Way, planned
from app.training.power import PowerWatch, servers
from app.training.publish import card_of, publish
from app.training.ray_worker import train_worker
from app.training.reports import Booked, RunFacts, energy_utilisation_of, job_report, keep_report
from app.training.restarts import restart_costs
from app.training.run_files import RunFiles, open_storage
from app.training.start import TERMS_FILE
from app.training.summary import TrainResult, summary
from app.training.tracking import check_tracking
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.metering.accountant import BooksClient
    from app.training.token_cost import Measure


def main(path: Path, measure: "Measure | None" = None, run: str = "") -> int:
    """Run the job file at `path`, or go on with its `run`. Prints what went wrong.

    Exit status 0: finished and, if it asks for it, published; 1: not, or not yet.
    """
    try:
        job = load_job(path)
        files = RunFiles.open(_storage(job), run)
        if run and not (files.attempts() or files.read(TERMS_FILE)):
            raise NotFound(
                f"there is no run {run!r} below {shown(_storage(job))} to go on with; leave out --run for a new one"
            )
        result = run_job(job, run=run, tell=_print, measure=measure)
    except (JoulekeeperError, TrainingFailedError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    for text in summary(result, formulas=job.report.formulas):
        _print(text)
    if not result.reached and job.target and job.target.metric in result.metrics:
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
    check_tracking(job.tracking)
    check_data(job)
    clock = clock or SystemClock()
    run = run or run_name(job.name, clock.wall_ns())
    join_cluster()
    tell(f"{run}: {job.workers}, results below {shown(_storage(job))}/{run}")
    books, files = open_books(tell), RunFiles.open(_storage(job), run)
    files.forget_broken_notes()
    placed = _placed(job, run, clock, tell)
    board.begin(run)
    with planned(job, _storage(job), run, clock, tell, lambda: attempt_energy(books, run), placed) as way:
        with _watching(books, clock) as watch:
            started_ns, started_s = clock.monotonic_ns(), clock.wall_ns() / NS_PER_S
            fitted = _conducted(way, job, run, placed)
            ended_ns = clock.monotonic_ns()
            if fitted.return_value["stopped"]:
                tell(f"{run} left a checkpoint and can go on: joulekeeper train JOB.yaml --run {run}")
            board.end(run)
            _wait_for_the_books(books)
        result = _settled(job, files, run, fitted.return_value, books, watch, (started_ns, ended_ns))
        result = replace(result, report=_report(job, result, fitted.return_value, books, started_s, way.waited_s))
        way.ended(attempt_energy(books, run), result.energy.energy_uj, result.energy.carbon_ugco2e)
        reporting(placed, lambda: hours_of(books, run), clock, tell)
    if not result.reached or job.publish is None:
        return result
    data = DataCard.model_validate(fitted.return_value["data"])
    return replace(result, published=_publish(job, job.publish, result, data, files, clock, measure))


def _settled(
    job: TrainJob,
    files: RunFiles,
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
        restarts=restart_costs(read_attempts(files.attempts()), energy_by_epoch(books, run)),
    )


def _report(
    job: TrainJob,
    result: TrainResult,
    outcome: dict[str, Any],
    books: "BooksClient | None",
    started_s: float,
    waited_s: float,
) -> JobReport:
    """The report of a run that ended, left beside its checkpoints."""
    facts = RunFacts(
        run=result.run,
        job=job.name,
        tenant=job.tenant,
        kind=job.kind,
        finished=result.reached and not outcome["stopped"],
        started_s=started_s,
        seconds=result.seconds,
        waited_s=waited_s,
        attempts=result.attempts,
        metrics=result.metrics,
    )
    booked = Booked(
        attempts_uj=result.attempts_uj,
        epochs_uj=energy_by_epoch(books, result.run),
        energy_utilisation=energy_utilisation_of(books, started_s, started_s + result.seconds),
        restarts=result.restarts,
        hours=hours_of(books, result.run),
    )
    report = job_report(facts, result.energy, History.of_json(outcome["history"]).rows, booked)
    keep_report(_storage(job), report)
    return report


def _conducted(way: Way, job: TrainJob, run: str, placed: Placed | None) -> Fitted:
    """The run, to its end or until somebody asks it to stop."""
    return interruptible(
        lambda: way.conduct(lambda: _trainer(job, run, placed).fit()),
        ask=lambda name: board.ask_to_stop(run, f"{name} came"),
    )


def _placed(job: TrainJob, run: str, clock: Clock, tell: Callable[[str], None]) -> Placed | None:
    """Where the run is to be; None: anywhere."""
    rooms = rooms_by_zone(_resources(job)) if job.place else {}
    return place_run(job, _storage(job), run, clock, rooms, tell)


def _resources(job: TrainJob) -> dict[str, float]:
    """Of one worker, as Ray names them."""
    return {"CPU": job.resources.cpu} | ({"GPU": job.resources.gpu} if job.resources.gpu else {})


def _trainer(job: TrainJob, run: str, placed: Placed | None = None) -> ElasticTrainer:
    # Workers wait in report() until the controller looks: every 2 s, unless told otherwise.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    workers = job.workers
    files, path = open_storage(_storage(job))
    return ElasticTrainer(
        train_worker,
        train_loop_config={
            "job": job.model_dump(mode="json"),
            "run": run,
            "bar": sys.stderr.isatty(),
            METERS_ITSELF: True,
        },
        scaling_config=ScalingConfig(
            num_workers=(workers.min, workers.max) if workers.elastic else workers.max,
            use_gpu=job.resources.gpu > 0,
            resources_per_worker=_resources(job),
            label_selector=dict(placed.selector) if placed else None,
            elastic_resize_monitor_interval_s=workers.resize_every_s,
        ),
        run_config=RunConfig(
            name=run,
            storage_path=path,
            storage_filesystem=files,
            failure_config=FailureConfig(max_failures=job.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=job.keep_checkpoints),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _storage(job: TrainJob) -> str:
    return job.storage or str(settings().state_dir / "jobs")


def _reached(job: TrainJob, metrics: dict[str, float]) -> bool:
    return bool(metrics) and (job.target is None or job.target.reached(metrics))


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
    data: DataCard,
    files: RunFiles,
    clock: Clock,
    measure: "Measure | None",
) -> str:
    """Publish the last checkpoint; returns `name@version`."""

    def measured(directory: Path, card: ModelCard) -> ModelCard:
        if measure is None or card.runner != "generator":
            return card
        from app.training.text_task import open_texts_of
        from app.training.token_cost import cost_line, prompts_of, token_costs

        costs = token_costs([(directory, card)], prompts_of(open_texts_of(job.data).held_out), measure=measure)
        cost = costs[0] if costs else None
        _print(cost_line(cost))
        return card.model_copy(update={"token_cost": cost})

    newest = Checkpoint(files.path(files.checkpoints()[0]), filesystem=files.files)
    with newest.as_directory() as directory:
        card = card_of(
            job,
            publication,
            checkpoint=Path(directory),
            run=result.run,
            metrics=result.metrics,
            data=data,
            energy=result.energy,
            clock=clock,
        )
        version = publish(open_repository(settings().repository), publication, job, Path(directory), card, measured)
    return f"{publication.name}@{version}"
