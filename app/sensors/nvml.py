"""NVIDIA GPUs through NVML: the cumulative energy counter, or power where the counter is missing.

Knows nothing of Ray or CUDA_VISIBLE_DEVICES: it sees every GPU of the host, each by its UUID. pynvml (from
nvidia-ml-py) is imported when a sensor is opened. Raises SensorUnusable only; `_REASONS` translates NVML's errors.

    opened = open_nvml(clock, machine, boot)
    reading = opened.sensor.read(opened.sensor.devices[0].uuid)
    opened.sensor.close()
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from app.clock import Clock
from app.domain.reading import CounterReading, Device, DeviceKind, Grade, PowerReading, ProcessUse, Reading, Vitals
from app.errors import SensorUnusable
from app.sensors.base import Opened
from app.units import UJ_PER_MJ

_REASONS: Mapping[int, str] = {
    1: "NVML is not initialised (any more); open the sensor again",
    2: "NVML refuses an argument; driver and nvidia-ml-py may not fit together, update the older one",
    3: "this GPU or driver does not offer it",
    4: "no permission; run as a user that may open /dev/nvidiactl, or lift the driver's restriction on profiling",
    5: "NVML was initialised twice; restart the process",
    6: "NVML does not find it",
    7: "NVML's answer is larger than the room given; update nvidia-ml-py",
    8: "a GPU lacks external power; check its power cables",
    9: "the NVIDIA driver is not loaded; try `nvidia-smi`, then `modprobe nvidia`",
    10: "NVML did not answer in time; the GPU may hang, see `dmesg` for Xid errors",
    11: "the kernel has an interrupt problem with a GPU; see `dmesg`",
    12: "libnvidia-ml.so.1 is not found; install the NVIDIA driver, or in a container use the NVIDIA container runtime",
    13: "the installed driver is too old to know this function; update it",
    14: "the GPU's infoROM is corrupted; see `nvidia-smi -q`",
    15: "the GPU is lost: it fell off the bus; see `dmesg` for Xid errors, then reset it or reboot",
    16: "the GPU must be reset before it can be used: `nvidia-smi --gpu-reset`, or reboot",
    17: "the operating system (or a cgroup) blocks the call; give the process access to /dev/nvidia*",
    18: "driver and libnvidia-ml.so.1 have different versions; reboot or reload the driver after its update",
    19: "the GPU is in use by somebody who excludes others",
    20: "the host has too little memory for NVML",
    21: "NVML has no data for it yet",
    22: "a vGPU does not offer it while ECC is on",
    23: "NVML lacks resources for the call",
    24: "the GPU does not know this frequency",
    25: "nvidia-ml-py and the driver differ about a structure; update the older one",
    26: "the driver has withdrawn this function; update nvidia-ml-py",
    27: "the driver is not ready yet; try again in some seconds",
    28: "NVML finds no GPU; see `nvidia-smi`",
    29: "the GPU is in a state that forbids the call",
    30: "the GPU does not know this kind of reset",
    999: "NVML fails for an unknown reason; see `nvidia-smi` and `dmesg`",
}
"""Every error code of nvidia-ml-py 13 and what a person can do about it."""

# The driver refuses the call itself, not this attempt of it: look for another way to read.
_NEVER_OFFERED = frozenset({3, 13, 22, 26})
_NO_SAMPLES = 6
_SAMPLE_WINDOW_US = 1_000_000
_TEMPERATURE_GPU = 0


@dataclass(frozen=True, slots=True)
class _Gpu:
    device: Device
    handle: Any
    has_counter: bool


class NvmlSensor:
    """Opened NVML. One NVML call a reading; handles are looked up once."""

    name = "nvml"

    def __init__(self, vendor: Any, clock: Clock, gpus: Sequence[_Gpu]) -> None:
        self._vendor = vendor
        self._clock = clock
        self._gpus = {gpu.device.uuid: gpu for gpu in gpus}
        self._open = True

    @property
    def devices(self) -> Sequence[Device]:
        return tuple(gpu.device for gpu in self._gpus.values())

    def read(self, uuid: str) -> Reading:
        """The counter (mJ, exactly 1000 uJ each) or the power now, stamped with the middle of the call."""
        gpu = self._gpus.get(uuid)
        if gpu is None or not self._open:
            raise SensorUnusable(f"nvml: {uuid} is not open here; it has {', '.join(self._gpus)}")
        before_ns = self._clock.monotonic_ns()
        try:
            if gpu.has_counter:
                counter_uj = self._vendor.nvmlDeviceGetTotalEnergyConsumption(gpu.handle) * UJ_PER_MJ
                return CounterReading((before_ns + self._clock.monotonic_ns()) // 2, counter_uj)
            power_mw = self._vendor.nvmlDeviceGetPowerUsage(gpu.handle)
            return PowerReading((before_ns + self._clock.monotonic_ns()) // 2, power_mw)
        except self._vendor.NVMLError as error:
            raise _translated(error, f"reading {uuid}") from error

    def vitals(self, uuid: str) -> Vitals:
        gpu = self._gpus.get(uuid)
        if gpu is None:
            return Vitals()
        busy = self._asked(self._vendor.nvmlDeviceGetUtilizationRates, gpu.handle)
        memory = self._asked(self._vendor.nvmlDeviceGetMemoryInfo, gpu.handle)
        return Vitals(
            power_mw=self._asked(self._vendor.nvmlDeviceGetPowerUsage, gpu.handle),
            utilization=None if busy is None else busy.gpu / 100,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            temperature_c=self._asked(self._vendor.nvmlDeviceGetTemperature, gpu.handle, _TEMPERATURE_GPU),
        )

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        """Compute processes, and others that were busy; utilisation is the mean of the last second's samples."""
        gpu = self._gpus.get(uuid)
        if gpu is None:
            return ()
        listed = self._asked(self._vendor.nvmlDeviceGetComputeRunningProcesses, gpu.handle) or ()
        busy = self._busy_processes(gpu.handle)
        memory = {process.pid: process.usedGpuMemory for process in listed}
        # Without a sample a process was not busy; without any answer nobody can tell.
        return tuple(
            ProcessUse(pid, None if busy is None else busy.get(pid, 0.0), memory.get(pid))
            for pid in sorted(memory.keys() | (busy or {}).keys())
        )

    def close(self) -> None:
        if self._open:
            self._open = False
            self._asked(self._vendor.nvmlShutdown)

    def _busy_processes(self, handle: Any) -> dict[int, float] | None:
        """Mean utilisation 0..1 by pid over the last second; None where the driver does not tell."""
        since_us = self._clock.wall_ns() // 1000 - _SAMPLE_WINDOW_US
        try:
            samples = self._vendor.nvmlDeviceGetProcessUtilization(handle, since_us)
        except self._vendor.NVMLError as error:
            return {} if error.value == _NO_SAMPLES else None
        by_pid: dict[int, list[int]] = defaultdict(list)
        for sample in samples:
            if sample.timeStamp > since_us and sample.pid:
                by_pid[sample.pid].append(sample.smUtil)
        return {pid: min(fmean(percents) / 100, 1.0) for pid, percents in by_pid.items()}

    def _asked(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What `call` answers, None where NVML refuses."""
        try:
            return call(*arguments)
        except self._vendor.NVMLError:
            return None


def open_nvml(clock: Clock, machine: str, boot: str) -> Opened:
    """Open NVML and every GPU it can read. Raises SensorUnusable if there is none."""
    vendor = _load()
    try:
        vendor.nvmlInit()
    except vendor.NVMLError as error:
        raise _translated(error, "starting NVML") from error
    try:
        gpus, unusable = _find_gpus(vendor, machine, boot)
    except BaseException:
        vendor.nvmlShutdown()
        raise
    if not gpus:
        vendor.nvmlShutdown()
        raise SensorUnusable("; ".join(unusable.values()) or "nvml: the driver works and sees no GPU")
    return Opened(NvmlSensor(vendor, clock, gpus), unusable)


def _load() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise SensorUnusable("nvml: the module pynvml is missing; pip install nvidia-ml-py") from error
    return pynvml


def _find_gpus(vendor: Any, machine: str, boot: str) -> tuple[list[_Gpu], dict[str, str]]:
    try:
        count = vendor.nvmlDeviceGetCount()
    except vendor.NVMLError as error:
        raise _translated(error, "counting the GPUs") from error
    gpus: list[_Gpu] = []
    unusable: dict[str, str] = {}
    for index in range(count):
        try:
            gpus.append(_open_gpu(vendor, index, machine, boot))
        except vendor.NVMLError as error:
            unusable[f"nvml/{index}"] = str(_translated(error, f"opening GPU {index}"))
    return gpus, unusable


def _open_gpu(vendor: Any, index: int, machine: str, boot: str) -> _Gpu:
    handle = vendor.nvmlDeviceGetHandleByIndex(index)
    has_counter = _has_counter(vendor, handle)
    device = Device(
        machine=machine,
        boot=boot,
        uuid=vendor.nvmlDeviceGetUUID(handle),
        kind=DeviceKind.GPU,
        name=vendor.nvmlDeviceGetName(handle),
        grade=Grade.COUNTER if has_counter else Grade.INTEGRATED,
        vendor="nvidia",
    )
    return _Gpu(device, handle, has_counter)


def _has_counter(vendor: Any, handle: Any) -> bool:
    """True with an energy counter, False with power only; raises NVMLError with neither."""
    try:
        vendor.nvmlDeviceGetTotalEnergyConsumption(handle)
    except vendor.NVMLError as error:
        if error.value not in _NEVER_OFFERED:
            raise
        vendor.nvmlDeviceGetPowerUsage(handle)
        return False
    return True


def _translated(error: Any, doing: str) -> SensorUnusable:
    reason = _REASONS.get(error.value, "this driver answers with an error that nvidia-ml-py does not know; update it")
    return SensorUnusable(f"nvml: {doing}: {reason} (NVML error {error.value}: {error})")
