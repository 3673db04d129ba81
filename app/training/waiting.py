"""How long workers of one job wait for the slowest of them in each step, and what that costs.

A step of data-parallel training ends for all when the last worker has its gradients. `StepWatch` notes when a worker
has its own: at the end of its backward pass, before the group's gradients are waited for. Of all workers' steps side by
side

    waiting(worker) = sum over steps of (largest own time of any worker - own time of this worker)

so clocks of different hosts are never compared. Its energy is the part of the worker's steps that waiting is: on a GPU
of their time, since a GPU that waits for its peers spins; on CPUs of their CPU time, since a worker that sleeps is not
charged for the host. Where parameters are sharded (FSDP) workers wait within the backward pass, too: that is not seen
here. Knows nothing of Ray or models.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.variable import Variable

from app.training.phases import Phase, Usage
from app.training.progress import WorkerFigures
from app.units import NS_PER_MS

Durations = npt.NDArray[np.int64]
_CPU_EVERY_NS = 50 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The steps of one worker in an epoch."""

    own_ns: Durations
    """Of each step: from the end of the one before until the worker's own gradients were there."""
    total_ns: int
    """Of all steps."""
    spare_ns: int
    """Of that what lay between a worker's own gradients and its next step: waiting, averaging, the optimiser."""
    spare_share: float
    """Of the energy of the steps that goes to `spare_ns`, 0..1: CPU time, or on a GPU time."""


class StepWatch:
    """Notes when this worker's own gradients are there: begin(), of_loss(loss), loss.backward(), end() for each step.

    A step that follows another begins where that ended, so that reading its rows is the worker's own time.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._steps: list[tuple[int, int]] = []
        """Of each step own and whole time."""
        self._events: list[tuple[Any, Any]] = []
        """On a GPU, of each step: where it began and where its own gradients were there."""
        self._began = self._marked = self._last_end = 0
        self._began_event: Any = None
        self._marked_event: Any = None
        self._cpu_read_ns, self._reads_cpu = -_CPU_EVERY_NS, False
        self._began_cpu = self._marked_cpu = 0
        self._spare_share = 0.0
        self._own_cpu = self._whole_cpu = 0
        """Of the steps whose CPU time was read."""

    def begin(self) -> None:
        """A step begins."""
        now_ns = time.monotonic_ns()
        if not self._last_end:
            self._last_end = now_ns
            self._began_event = _event() if self._on_gpu else None
        self._began, self._marked = self._last_end, 0
        # Reading a process's CPU clock walks its threads: of many small steps it is read in a few.
        self._reads_cpu = not self._on_gpu and now_ns - self._cpu_read_ns >= _CPU_EVERY_NS
        if self._reads_cpu:
            self._cpu_read_ns, self._began_cpu = now_ns, time.process_time_ns()

    def of_loss(self, loss: Tensor) -> None:
        """`loss` is about to be differentiated; with accumulated gradients the last one of a step counts."""
        # Called back in order once the graph is through: before the reducer of the group, which is queued later.
        engine: Any = Variable._execution_engine
        loss.register_hook(lambda _: engine.queue_callback(self._mark))

    def end(self) -> None:
        """The step has ended; on a GPU it may still be queued."""
        if not self._marked:
            self._mark()
        now_ns = time.monotonic_ns()
        self._steps.append((self._marked - self._began, now_ns - self._began))
        self._last_end = now_ns
        if self._reads_cpu:
            self._own_cpu += self._marked_cpu - self._began_cpu
            self._whole_cpu += time.process_time_ns() - self._began_cpu
        if self._on_gpu:
            self._events.append((self._began_event, self._marked_event))
            self._began_event = _event()

    def interrupt(self) -> None:
        """Something else was done: the next step does not begin where the last one ended."""
        self._last_end = 0

    def take(self) -> StepTimes:
        """The steps that ended since the last call. On a GPU what is queued must have run."""
        self.interrupt()
        steps, self._steps = self._steps, []
        events, self._events = self._events, []
        own_cpu, whole_cpu, self._own_cpu, self._whole_cpu = self._own_cpu, self._whole_cpu, 0, 0
        whole_ns = sum(whole for _, whole in steps)
        if self._on_gpu:
            own = [round(began.elapsed_time(marked) * 1e6) for began, marked in events]
            spare_ns = max(0, whole_ns - sum(own))
            return StepTimes(np.array(own, dtype=np.int64), whole_ns, spare_ns, spare_ns / max(1, whole_ns))
        own = [mine for mine, _ in steps]
        if whole_cpu:  # else an epoch shorter than the pause between two readings: as in the one before
            self._spare_share = (whole_cpu - own_cpu) / whole_cpu
        return StepTimes(np.array(own, dtype=np.int64), whole_ns, whole_ns - sum(own), self._spare_share)

    def _mark(self) -> None:
        self._marked = time.monotonic_ns()
        if self._reads_cpu:
            self._marked_cpu = time.process_time_ns()
        if self._on_gpu:
            self._marked_event = _event()


def worker_figures(shares: Sequence[tuple[dict[Phase, Usage], StepTimes]]) -> tuple[WorkerFigures, ...]:
    """The workers of an epoch by rank, from what each of them used and how long its steps took."""
    waits_ns = waiting_ns([times.own_ns for _, times in shares])
    return tuple(_figures(usage, times, wait) for (usage, times), wait in zip(shares, waits_ns, strict=True))


def waiting_ns(own: Sequence[Durations]) -> list[int]:
    """By worker: how long it waited for slower ones, over the steps that all of them made."""
    steps = min((len(one) for one in own), default=0)
    if not steps:
        return [0] * len(own)
    together = np.stack([one[:steps] for one in own])
    return [int(wait) for wait in (together.max(axis=0) - together).sum(axis=1)]


def _figures(usage: dict[Phase, Usage], times: StepTimes, wait_ns: int) -> WorkerFigures:
    step_uj = usage.get("step", Usage()).energy_uj
    share = times.spare_share * min(1.0, wait_ns / times.spare_ns) if times.spare_ns else 0.0
    return WorkerFigures(
        energy_uj=sum(part.energy_uj for part in usage.values()),
        step_uj=step_uj,
        step_ns=times.total_ns,
        waiting_ns=wait_ns,
        waiting_uj=round(step_uj * share),
    )


def _event() -> Any:
    """A mark in the GPU's queue."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
