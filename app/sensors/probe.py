"""What `joulekeeper probe` tells: every backend, its devices and whether their counters move, or the reason why not.

Knows nothing of printing. The pause between the two readings of a device is an argument.

    result = probe(SensorSettings(), found, pause=lambda: time.sleep(0.5))
"""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from app.domain.reading import CounterReading, Device, PowerReading, Reading
from app.errors import SensorUnusable
from app.sensors.base import Sensor
from app.sensors.discovery import Discovery, SensorSettings
from app.units import power_of_energy

# An update period is sought at the second reading and confirmed at a later one.
_READINGS_TO_KNOW = 3

_Result = Reading | SensorUnusable
_Readings = dict[str, _Result]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeviceProbe(_View):
    """One device that opened."""

    uuid: str
    kind: str
    name: str
    grade: str
    vendor: str
    wraps_at_uj: int | None
    counter_uj: int | None
    """The second reading of a counter; None for a device that tells power only, or fails."""
    moved_uj: int | None
    """How far the counter moved in the pause; None without two readings, or when it wrapped in between."""
    interval_ns: int | None
    """Time between the two readings; None without two."""
    power_mw: int | None
    """As the device tells it, else from the movement of its counter."""
    utilization: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_c: float | None
    processes: int
    failure: str
    """Why it could not be read; empty when it could."""
    parent: str = ""
    """Of an instance: the device whose counter it shares, and which is read for it; empty of others."""
    compute_share: float = 1.0
    update_period_ns: int | None = None
    """Of its energy counter, as measured between the readings; None: not known."""
    counter_to_power: float | None = None
    disputed: bool = False
    notes: tuple[str, ...] = ()
    """What its sensor says of it, a sentence each."""


class BackendProbe(_View):
    """One backend of the settings, in their order."""

    name: str
    usable: bool
    reason: str
    """Why it is not usable; empty when it is."""
    devices: tuple[DeviceProbe, ...]
    unusable_devices: dict[str, str]
    """Devices that it found and cannot read, with the reason."""


class ProbeResult(_View):
    """The whole host."""

    backends: tuple[BackendProbe, ...]

    @property
    def usable(self) -> bool:
        """True if any device can be read."""
        return any(backend.usable for backend in self.backends)


def probe(settings: SensorSettings, found: Discovery, pause: Callable[[], None]) -> ProbeResult:
    """Read every device of `found` twice with one `pause` in between, and then until sensors know their devices."""
    first = _read_all(found)
    pause()
    second = _read_all(found)
    for _ in range(_READINGS_TO_KNOW):
        _read_all(found)
    sensors = {sensor.name: sensor for sensor in found.sensors}
    return ProbeResult(
        backends=tuple(_backend(name, sensors.get(name), found, first, second) for name in settings.backends)
    )


def _read_all(found: Discovery) -> _Readings:
    """A reading of every device; instances have none of their own."""
    return {
        device.uuid: _read(sensor, device.uuid)
        for sensor in found.sensors
        for device in sensor.devices
        if not device.parent
    }


def _read(sensor: Sensor, uuid: str) -> _Result:
    try:
        return sensor.read(uuid)
    except SensorUnusable as error:
        return error


def _backend(name: str, sensor: Sensor | None, found: Discovery, first: _Readings, second: _Readings) -> BackendProbe:
    devices = (
        [_device(each, sensor, first.get(each.uuid), second.get(each.uuid)) for each in sensor.devices]
        if sensor
        else ()
    )
    return BackendProbe(
        name=name,
        usable=sensor is not None,
        reason=found.unusable.get(name, ""),
        devices=tuple(devices),
        unusable_devices={
            key.removeprefix(f"{name}/"): reason for key, reason in found.unusable.items() if key.startswith(f"{name}/")
        },
    )


def _device(device: Device, sensor: Sensor, first: _Result | None, second: _Result | None) -> DeviceProbe:
    vitals, condition = sensor.vitals(device.uuid), sensor.condition(device.uuid)
    moved_uj, interval_ns = _movement(first, second)
    power_mw = vitals.power_mw
    if power_mw is None and isinstance(second, PowerReading):
        power_mw = second.power_mw
    if power_mw is None and moved_uj is not None and interval_ns:
        power_mw = round(power_of_energy(moved_uj, interval_ns))
    return DeviceProbe(
        uuid=device.uuid,
        kind=device.kind,
        name=device.name,
        grade=device.grade,
        vendor=device.vendor,
        wraps_at_uj=device.wraps_at_uj,
        counter_uj=second.counter_uj if isinstance(second, CounterReading) else None,
        moved_uj=moved_uj,
        interval_ns=interval_ns,
        power_mw=power_mw,
        utilization=vitals.utilization,
        memory_used_bytes=vitals.memory_used_bytes,
        memory_total_bytes=vitals.memory_total_bytes,
        temperature_c=vitals.temperature_c,
        processes=len(sensor.processes(device.uuid)),
        parent=device.parent,
        compute_share=device.compute_share,
        update_period_ns=condition.update_period_ns,
        counter_to_power=condition.counter_to_power,
        disputed=condition.disputed,
        notes=condition.notes,
        failure=str(second) if isinstance(second, SensorUnusable) else "",
    )


def _movement(first: _Result | None, second: _Result | None) -> tuple[int | None, int | None]:
    """Microjoules and nanoseconds between two readings, each None where there is none."""
    if first is None or second is None:
        return None, None
    if isinstance(first, SensorUnusable) or isinstance(second, SensorUnusable):
        return None, None
    interval_ns = second.at_ns - first.at_ns
    if isinstance(first, CounterReading) and isinstance(second, CounterReading):
        moved_uj = second.counter_uj - first.counter_uj
        return (moved_uj if moved_uj >= 0 else None), interval_ns
    return None, interval_ns
