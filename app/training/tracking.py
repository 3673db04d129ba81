"""Experiment loggers of a job: TensorBoard files and an MLflow server, fed by worker 0 after every epoch.

What is logged is what the worker knows when an epoch ends, so energy is provisional; the settled figures are in the
ledger. A logger that fails costs its figures, never the job. `check_tracking` refuses a job whose logger is not
installed before anything starts; it raises InvalidInput naming the extra to install.

    trackers = open_trackers(job.tracking, job.name, run, attempt, print)
    trackers.epoch(row, spent_uj)
    trackers.close(finished=True)
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from app.clock import Clock, SystemClock
from app.errors import InvalidInput
from app.training.history import EpochRow
from app.training.parts import Tracking
from app.units import NS_PER_MS, joules

_TAG = "joulekeeper.run"


class Tracker(Protocol):
    """One logger. Its errors are its own kind; `Trackers` deals with them."""

    def log(self, figures: Mapping[str, float], epoch: int, spent_j: float) -> None:
        """Figures by name after `epoch`; `spent_j` so far by the run."""

    def close(self, finished: bool) -> None:
        """The run ends; not `finished`: this attempt of it."""


class TensorBoard:
    """Event files, written by tensorboardX."""

    def __init__(self, directory: str) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(directory)

    def log(self, figures: Mapping[str, float], epoch: int, spent_j: float) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)
            if name.startswith("metric/"):
                # The curve of energy to accuracy: joules where other scalars have the epoch.
                self._writer.add_scalar(name.replace("metric/", "by_joule/"), value, round(spent_j))
        self._writer.flush()

    def close(self, finished: bool) -> None:
        self._writer.close()


class MlFlow:
    """A run of MLflow for the whole run of the job: a later attempt goes on with it."""

    def __init__(self, uri: str, experiment: str, run: str, params: Mapping[str, str], clock: Clock) -> None:
        from mlflow.tracking import MlflowClient

        self._clock = clock
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        known = self._client.search_runs([number], f"tags.`{_TAG}` = '{run}'", max_results=1)
        self._run: str = known[0].info.run_id if known else self._create(number, run, params)
        self._client.set_terminated(self._run, "RUNNING")

    def _create(self, experiment: str, run: str, params: Mapping[str, str]) -> str:
        created = self._client.create_run(experiment, run_name=run, tags={_TAG: run})
        for name, value in params.items():
            self._client.log_param(created.info.run_id, name, value)
        return str(created.info.run_id)

    def log(self, figures: Mapping[str, float], epoch: int, spent_j: float) -> None:
        from mlflow.entities import Metric

        now_ms = self._clock.wall_ns() // NS_PER_MS
        metrics = [Metric(name, value, now_ms, epoch) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, finished: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")


class Trackers:
    """All loggers of a run. Never raises: one that fails says so once and is left out from then on."""

    def __init__(self, openers: Mapping[str, Callable[[], Tracker]], tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._open: dict[str, Tracker] = {}
        for name, opener in openers.items():
            try:
                self._open[name] = opener()
            except Exception as error:
                tell(f"{name} gets no figures of this run: {error}")

    def epoch(self, row: EpochRow, spent_uj: int) -> None:
        """The figures of an epoch that has ended."""
        figures, spent_j = figures_of(row, spent_uj), joules(spent_uj)
        self._each(lambda tracker: tracker.log(figures, row.epoch, spent_j))

    def close(self, finished: bool) -> None:
        """End them all. A second call does nothing."""
        self._each(lambda tracker: tracker.close(finished))
        self._open.clear()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                call(tracker)
            except Exception as error:
                del self._open[name]
                self._tell(f"{name} gets no more figures of this run: {error}")


def figures_of(row: EpochRow, spent_uj: int) -> dict[str, float]:
    """The scalars of an epoch by name: joules, seconds, gCO2e."""
    step_uj = sum(worker.step_uj for worker in row.workers)
    figures = {f"metric/{name}": value for name, value in row.metrics.items()}
    figures |= {
        "energy/j_per_step": joules(step_uj) / max(1, row.steps),
        "energy/j_per_sample": joules(step_uj) / max(1, row.samples),
        "energy/j_per_epoch": joules(row.energy_uj),
        "energy/spent_j": joules(spent_uj),
        "energy/waiting_j": joules(sum(worker.waiting_uj for worker in row.workers)),
        "carbon/g_per_epoch": row.carbon_ugco2e / 1e6,
        "time/s_per_epoch": row.seconds,
    }
    for rank, worker in enumerate(row.workers):
        figures[f"worker_{rank}/j_per_epoch"] = joules(worker.energy_uj)
        figures[f"worker_{rank}/waiting_s"] = worker.waiting_s
    return figures


def open_trackers(
    settings: Tracking,
    *,
    job: str,
    run: str,
    attempt: int,
    params: Mapping[str, str],
    tell: Callable[[str], None],
) -> Trackers:
    """The loggers that the job names."""
    openers: dict[str, Callable[[], Tracker]] = {}
    if settings.tensorboard:
        directory = f"{settings.tensorboard.rstrip('/')}/{run}/attempt-{attempt}"
        openers["TensorBoard"] = lambda: TensorBoard(directory)
    if settings.mlflow:
        openers["MLflow"] = lambda: MlFlow(settings.mlflow, settings.experiment or job, run, params, SystemClock())
    return Trackers(openers, tell)


def check_tracking(settings: Tracking, installed: Callable[[str], Any] = importlib.util.find_spec) -> None:
    """Refuse what cannot work before a cluster is asked for anything. Raises InvalidInput."""
    if settings.mlflow and installed("mlflow") is None:
        raise InvalidInput(
            f"tracking.mlflow: {settings.mlflow} needs MLflow's client, which is not installed; "
            "pip install 'joulekeeper[mlflow]', on the workers' nodes too, or remove the line"
        )
