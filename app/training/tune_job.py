"""The search of tuning.py on a job file: its model and data in this process, its devices by this host's sensors.

One worker, no cluster: what a worker's share of a step costs, without the others. The job is not changed; what was
found is told as the lines to put into its file.

    found = tune_job(load_job(path), [16, 32, 64], SearchGoal(), window_s=5.0, tell=print)
    advice(found, job)

Raises what tune() raises.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from app.clock import SystemClock
from app.config import Settings, settings
from app.domain.reading import CounterReading
from app.errors import SensorUnusable
from app.metering.devices import visible_accelerators
from app.policy.power_search import PowerSetting, SearchGoal
from app.sensors.base import Sensor
from app.sensors.discovery import discover, sensor_settings
from app.sensors.host import boot_id, machine_id
from app.sensors.nvml_limits import PowerLimits, open_power_limits
from app.training.fabric import SoloFabric
from app.training.job import TrainJob
from app.training.optimiser import build_optimiser
from app.training.parts import Workers
from app.training.step import Stepper
from app.training.strategy import divide
from app.training.task import RowNumbers, Task, open_task
from app.training.tuning import Tuning, settings_of, tune


class JobWork:
    """Steps of a job with any batch size, each start from the same weights."""

    def __init__(self, job: TrainJob, directory: Path, device: str) -> None:
        self._job = job.model_copy(update={"workers": Workers(min=1, max=1), "strategy": "ddp", "tensor_parallel": 1})
        self._fabric = SoloFabric(directory, device)
        self._tasks: dict[int, Task] = {}
        self._stepper: Stepper | None = None
        self._rows: Iterator[tuple[int, int, RowNumbers]] = iter(())

    def begin(self, batch_size: int) -> None:
        """See `Work`."""
        job = self._job.model_copy(update={"batch_size": batch_size})
        self._stepper = None  # its weights go before the next ones come
        with _memory_errors():
            if batch_size not in self._tasks:
                self._tasks[batch_size] = open_task(job, self._fabric, None)
            task = self._tasks[batch_size]
            torch.manual_seed(job.seed)
            divided = divide(job, task.build(), self._fabric)
            divided.trained.train()
            self._stepper = Stepper(job, task, divided, build_optimiser(job.optimiser, divided.plain))
        self._rows = _endless(task)

    def step(self) -> int:
        """See `Work`."""
        stepper, (epoch, step, rows) = self._stepper, next(self._rows)
        if stepper is None:
            raise RuntimeError("begin() comes first")
        with _memory_errors():
            stepper.step(rows, epoch, step)
        return len(rows)

    def finish(self) -> None:
        """See `Work`."""
        if self._fabric.device.type == "cuda":
            torch.cuda.synchronize(self._fabric.device)


def _endless(task: Task) -> Iterator[tuple[int, int, RowNumbers]]:
    epoch = 0
    while True:
        for step, rows in enumerate(task.batches(epoch, 0)):
            yield epoch, step, rows
        epoch += 1


@contextmanager
def _memory_errors() -> Iterator[None]:
    """torch's own error for a full device becomes Python's."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error


class CounterMeter:
    """The host's CPUs and some GPUs, by their cumulative counters."""

    def __init__(self, sensors: Sequence[Sensor], gpus: Sequence[str]) -> None:
        """`gpus`: UUIDs of those that count; the host always does. Raises SensorUnusable if nothing is left."""
        self._read = [
            (sensor, device.uuid)
            for sensor in sensors
            for device in sensor.devices
            if not device.parent and (device.kind.is_host or device.uuid in gpus)
        ]
        if not self._read:
            raise SensorUnusable("no device of this host tells its energy; `joulekeeper probe` says why")

    def energy_uj(self) -> int:
        """Sum of all counters. Raises SensorUnusable, also for a device that tells power alone."""
        return sum(self._counter_uj(sensor, uuid) for sensor, uuid in self._read)

    def _counter_uj(self, sensor: Sensor, uuid: str) -> int:
        reading = sensor.read(uuid)
        if not isinstance(reading, CounterReading):
            raise SensorUnusable(f"{uuid} tells power and no energy, which is too coarse for windows of seconds")
        return reading.counter_uj


def tune_job(
    job: TrainJob, batch_sizes: Sequence[int], goal: SearchGoal, *, window_s: float, tell: Callable[[str], None]
) -> Tuning:
    """Search `batch_sizes`, the job's own first, and the power limits of the GPUs that this process may use."""
    config, clock = settings(), SystemClock()
    gpus = visible_accelerators() if job.resources.gpu and torch.cuda.is_available() else []
    sizes = list(dict.fromkeys([job.batch_size, *batch_sizes]))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="joulekeeper-tune-")))
        found = discover(sensor_settings(backends=config.sensors), clock, machine_id(), boot_id())
        stack.callback(found.close)
        meter = CounterMeter(found.sensors, gpus)
        limits = _limits(gpus, config, stack, tell)
        work = JobWork(job, directory, "cuda" if gpus else "cpu")
        return tune(settings_of(sizes, limits), goal, work, meter, limits, clock, window_s=window_s, tell=tell)


def advice(found: Tuning, limited: bool) -> list[str]:
    """What was found, and the lines of a job file that have it; `limited`: power limits were searched, too."""
    best: PowerSetting = found.best.setting
    lines = [
        f"measured {len(found.windows)} of {found.settings} settings; the best costs {found.saving:.1%} less than the "
        "job as it is",
        f"batch_size: {best.batch_size}",
    ]
    if limited:
        lines.append(f"resources: {{power_limit_w: {best.limit_mw / 1000:g}}}   # beside cpu and gpu")
    return lines


def _limits(gpus: Sequence[str], config: Settings, stack: ExitStack, tell: Callable[[str], None]) -> PowerLimits | None:
    """The limits of the GPUs, put back when `stack` closes; None where there are none to be had."""
    try:
        return stack.enter_context(open_power_limits(gpus, config.state_dir)) if gpus else None
    except SensorUnusable as error:
        tell(str(error))
        return None
