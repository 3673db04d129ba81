"""Who is on a GPU, as NVML tells it: compute processes, and others that were busy within the last second.

Of an instance, and of a GPU that has instances, NVML tells who is there and not how busy they are.
"""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from app.domain.reading import ProcessUse
from app.sensors.nvml_errors import NO_SAMPLES

_WINDOW_US = 1_000_000


def residents(vendor: Any, handles: Iterable[Any]) -> tuple[ProcessUse, ...]:
    """Processes on any of `handles`, with their memory and without utilisation. Never raises."""
    memory: dict[int, int | None] = {}
    for handle in handles:
        memory |= _memory(vendor, handle)
    return tuple(ProcessUse(pid, None, memory[pid]) for pid in sorted(memory))


def busy_processes(vendor: Any, handle: Any, now_us: int) -> tuple[ProcessUse, ...]:
    """Processes with the mean utilisation of the last second's samples; `now_us` since the Unix epoch. Never raises."""
    memory, busy = _memory(vendor, handle), _utilization(vendor, handle, now_us - _WINDOW_US)
    # Without a sample a process was not busy; without any answer nobody can tell.
    return tuple(
        ProcessUse(pid, None if busy is None else busy.get(pid, 0.0), memory.get(pid))
        for pid in sorted(memory.keys() | (busy or {}).keys())
    )


def _memory(vendor: Any, handle: Any) -> dict[int, int | None]:
    try:
        listed = vendor.nvmlDeviceGetComputeRunningProcesses(handle)
    except vendor.NVMLError:
        return {}
    return {process.pid: process.usedGpuMemory for process in listed}


def _utilization(vendor: Any, handle: Any, since_us: int) -> dict[int, float] | None:
    """0..1 by pid; None where the driver does not tell."""
    try:
        samples = vendor.nvmlDeviceGetProcessUtilization(handle, since_us)
    except vendor.NVMLError as error:
        return {} if error.value == NO_SAMPLES else None
    by_pid: dict[int, list[int]] = defaultdict(list)
    for sample in samples:
        if sample.timeStamp > since_us and sample.pid:
            by_pid[sample.pid].append(sample.smUtil)
    return {pid: min(fmean(percents) / 100, 1.0) for pid, percents in by_pid.items()}
