"""NVIDIA GPUs through NVML: the cumulative energy counter, or power where the counter is missing.

Knows nothing of Ray or CUDA_VISIBLE_DEVICES: it sees every GPU of the host, each by its UUID, and below a partitioned
one its MIG instances. pynvml (from nvidia-ml-py) is imported when a sensor is opened. Raises SensorUnusable only;
nvml_errors translates. When NVML or a device goes away it is opened anew, ever more seldom until that helps.

    opened = open_nvml(clock, machine, boot, time.sleep)
    reading = opened.sensor.read(opened.sensor.devices[0].uuid)
    opened.sensor.close()
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.clock import Clock
from app.domain.reading import Condition, Device, DeviceKind, Grade, PowerReading, ProcessUse, Reading, Vitals
from app.errors import SensorUnusable
from app.sensors.base import Opened
from app.sensors.energy_counter import EnergyCounter, Pause, seek
from app.sensors.nvml_errors import HANDLE_IS_STALE, NEVER_OFFERED, UNINITIALIZED, translated
from app.sensors.nvml_mig import instances_of
from app.sensors.nvml_power import instant_power, usage
from app.sensors.nvml_processes import busy_processes, residents
from app.sensors.watched_counter import WatchedCounter
from app.units import NS_PER_S, UJ_PER_MJ

_TEMPERATURE_GPU = 0
_FIRST_RETRY_NS = 5 * NS_PER_S
_LAST_RETRY_NS = 60 * NS_PER_S


@dataclass(slots=True)
class _Gpu:
    """A GPU or an instance; the handle is another one after NVML was opened anew."""

    device: Device
    handle: Any
    counter: WatchedCounter | None = None
    """None: it tells power only, or is an instance."""
    instances: tuple[str, ...] = ()


@dataclass(slots=True)
class _Retry:
    """When to open NVML anew: at once, then ever more seldom."""

    not_before_ns: int = 0
    wait_ns: int = _FIRST_RETRY_NS

    def allowed(self, now_ns: int) -> bool:
        if now_ns < self.not_before_ns:
            return False
        self.not_before_ns = now_ns + self.wait_ns
        self.wait_ns = min(2 * self.wait_ns, _LAST_RETRY_NS)
        return True

    def helped(self) -> None:
        self.not_before_ns, self.wait_ns = 0, _FIRST_RETRY_NS


class NvmlSensor:
    """Opened NVML. One NVML call a reading, rarely more; handles are looked up once."""

    name = "nvml"

    def __init__(self, vendor: Any, clock: Clock, pause: Pause | None = None) -> None:
        self._vendor, self._clock, self._pause = vendor, clock, pause
        self._gpus: dict[str, _Gpu] = {}
        self._retry = _Retry()
        self._open = True

    @property
    def devices(self) -> Sequence[Device]:
        return tuple(gpu.device for gpu in self._gpus.values())

    def read(self, uuid: str) -> Reading:
        """The counter (mJ, exactly 1000 uJ each) at its last update, or the power now."""
        gpu = self._gpus.get(uuid)
        if gpu is None or not self._open:
            raise SensorUnusable(f"nvml: {uuid} is not open here; it has {', '.join(self._gpus)}")
        if gpu.device.parent:
            raise SensorUnusable(f"nvml: {uuid} is an instance without a counter; read its parent {gpu.device.parent}")
        try:
            return self._read(gpu)
        except SensorUnusable as failure:
            code = getattr(failure.__cause__, "value", 0)
            if code not in HANDLE_IS_STALE or not self._opened_anew(code):
                raise
            reading = self._read(gpu)
            self._retry.helped()
            return reading

    def vitals(self, uuid: str) -> Vitals:
        gpu = self._gpus.get(uuid)
        if gpu is None:
            return Vitals()
        busy = self._asked(self._vendor.nvmlDeviceGetUtilizationRates, gpu.handle)
        memory = self._asked(self._vendor.nvmlDeviceGetMemoryInfo, gpu.handle)
        return Vitals(
            power_mw=usage(self._vendor, gpu.handle),
            utilization=None if busy is None else busy.gpu / 100,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            temperature_c=self._asked(self._vendor.nvmlDeviceGetTemperature, gpu.handle, _TEMPERATURE_GPU),
        )

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        """Compute processes, and others that were busy; utilisation is the mean of the last second's samples.

        Of a partitioned GPU: those of all its instances, where NVML tells no utilisation.
        """
        gpu = self._gpus.get(uuid)
        if gpu is None:
            return ()
        if gpu.instances or gpu.device.parent:
            handles = [gpu.handle, *(self._gpus[instance].handle for instance in gpu.instances)]
            return residents(self._vendor, handles)
        return busy_processes(self._vendor, gpu.handle, self._clock.wall_ns() // 1000)

    def condition(self, uuid: str) -> Condition:
        gpu = self._gpus.get(uuid)
        return Condition() if gpu is None or gpu.counter is None else gpu.counter.condition()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._asked(self._vendor.nvmlShutdown)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, gpu: _Gpu) -> Reading:
        if gpu.counter is None:
            before_ns = self._clock.monotonic_ns()
            power_mw = self._called(gpu, self._vendor.nvmlDeviceGetPowerUsage)
            return PowerReading((before_ns + self._clock.monotonic_ns()) // 2, power_mw)
        counter = gpu.counter.counter
        if self._pause is not None and not counter.ticks.known and counter.seek_due(self._clock.monotonic_ns()):
            self._seek(self._pause)
        return gpu.counter.read()

    def _called(self, gpu: _Gpu, call: Callable[[Any], int]) -> int:
        try:
            return call(gpu.handle)
        except self._vendor.NVMLError as error:
            raise translated(error, f"reading {gpu.device.uuid}") from error

    def _seek(self, pause: Pause) -> None:
        """Find the update periods of all counters that have none, together."""
        counters = [gpu.counter.counter for gpu in self._gpus.values() if gpu.counter is not None]
        seek([counter for counter in counters if not counter.ticks.known], self._clock, pause)

    def _opened_anew(self, code: int) -> bool:
        """Shut NVML down and open it again, with new handles; False if that failed or is not due yet."""
        if not self._retry.allowed(self._clock.monotonic_ns()):
            return False
        if code != UNINITIALIZED:
            self._asked(self._vendor.nvmlShutdown)
        try:
            self._vendor.nvmlInit()
        except self._vendor.NVMLError:
            return False
        for gpu in self._gpus.values():
            gpu.handle = self._asked(self._vendor.nvmlDeviceGetHandleByUUID, gpu.device.uuid) or gpu.handle
        return True

    # -- opening ---------------------------------------------------------------------------------------------------

    def add_gpu(self, index: int, machine: str, boot: str) -> None:
        """Open one GPU and its instances. Raises NVMLError."""
        vendor = self._vendor
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
        gpu = self._gpus[device.uuid] = _Gpu(device, handle)
        if has_counter:
            gpu.counter = self._watched(gpu)
        instances = instances_of(vendor, device, handle)
        gpu.instances = tuple(instance.uuid for instance, _ in instances)
        self._gpus |= {instance.uuid: _Gpu(instance, own) for instance, own in instances}

    def _watched(self, gpu: _Gpu) -> WatchedCounter:
        energy_mj = self._vendor.nvmlDeviceGetTotalEnergyConsumption
        power_mw, note = instant_power(self._vendor, gpu.handle)

        def look_uj() -> int:
            return self._called(gpu, energy_mj) * UJ_PER_MJ

        counter = EnergyCounter(f"nvml: {gpu.device.uuid}", look_uj, self._clock, self._pause)
        return WatchedCounter(counter, lambda: power_mw(gpu.handle), self._clock, note)

    # -- asking ----------------------------------------------------------------------------------------------------

    def _asked(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What `call` answers, None where NVML refuses."""
        try:
            return call(*arguments)
        except self._vendor.NVMLError:
            return None


def open_nvml(clock: Clock, machine: str, boot: str, pause: Pause | None = None) -> Opened:
    """Open NVML and every GPU it can read. Raises SensorUnusable if there is none.

    Without a `pause` (time.sleep, say) update periods are not sought, and readings are stamped with the call.
    """
    vendor = _load()
    try:
        vendor.nvmlInit()
    except vendor.NVMLError as error:
        raise translated(error, "starting NVML") from error
    sensor = NvmlSensor(vendor, clock, pause)
    try:
        unusable = _add_gpus(vendor, sensor, machine, boot)
        if not sensor.devices:
            raise SensorUnusable("; ".join(unusable.values()) or "nvml: the driver works and sees no GPU")
    except BaseException:
        sensor.close()
        raise
    return Opened(sensor, unusable)


def _load() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise SensorUnusable("nvml: the module pynvml is missing; pip install nvidia-ml-py") from error
    return pynvml


def _add_gpus(vendor: Any, sensor: NvmlSensor, machine: str, boot: str) -> Mapping[str, str]:
    """Open every GPU; those that do not open, with the reason."""
    try:
        count = vendor.nvmlDeviceGetCount()
    except vendor.NVMLError as error:
        raise translated(error, "counting the GPUs") from error
    unusable: dict[str, str] = {}
    for index in range(count):
        try:
            sensor.add_gpu(index, machine, boot)
        except vendor.NVMLError as error:
            unusable[f"nvml/{index}"] = str(translated(error, f"opening GPU {index}"))
    return unusable


def _has_counter(vendor: Any, handle: Any) -> bool:
    """True with an energy counter, False with power only; raises NVMLError with neither."""
    try:
        vendor.nvmlDeviceGetTotalEnergyConsumption(handle)
    except vendor.NVMLError as error:
        if error.value not in NEVER_OFFERED:
            raise
        vendor.nvmlDeviceGetPowerUsage(handle)
        return False
    return True
