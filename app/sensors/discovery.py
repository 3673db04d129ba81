"""Finds what can be read on this host: tries the backends in order and keeps every reason for a failure.

Knows nothing of accounts or Ray. Energy is never offered twice: the host's CPUs and DRAM are read by the first backend
that can, and a device already offered is refused to a later backend.

    found = discover(SensorSettings(), SystemClock(), machine_id(), boot_id())
    found.unusable["rapl"]        # why not, in a sentence
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.clock import Clock
from app.errors import InvalidInput, SensorUnusable
from app.sensors.base import Opened, Sensor
from app.sensors.cpu_model import CPU_POWER, PROC_ROOT, TYPICAL_CPU, CpuPower, open_cpu_model
from app.sensors.nvml import open_nvml
from app.sensors.rapl import POWERCAP_ROOT, open_rapl
from app.sensors.replay import open_replay


class SensorSettings(BaseModel):
    """Which backends are tried, in this order, and what they need. All faults are reported at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    backends: tuple[str, ...] = ("nvml", "rapl", "cpu_model")
    """Backends in order of preference; `rapl` before `cpu_model` because a counter beats a model."""
    powercap_root: Path = POWERCAP_ROOT
    """Where the kernel shows RAPL; another place when the host's /sys is mounted into a container."""
    proc_root: Path = PROC_ROOT
    """Where the modelled CPU finds `stat` and `cpuinfo`."""
    cpu_architecture: str = ""
    """Microarchitecture of the modelled CPU, e.g. `Ice Lake`. Empty: the median of the table in cpu_model.py."""
    idle_watts_per_cpu: float | None = Field(default=None, ge=0, le=1000)
    """Watts of one idle logical CPU; None: from the table."""
    max_watts_per_cpu: float | None = Field(default=None, gt=0, le=1000)
    """Watts of one fully busy logical CPU; None: from the table."""
    replay_file: Path | None = None
    """Recording of the `replay` backend (format in replay.py)."""

    @field_validator("backends")
    @classmethod
    def _known_backends(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        faults = [_unknown("backend", name, BACKENDS) for name in names if name not in BACKENDS]
        faults += [f"backend {name!r} is named twice" for name in sorted(set(names)) if names.count(name) > 1]
        if faults:
            raise ValueError("; ".join(faults))
        return names

    @field_validator("cpu_architecture")
    @classmethod
    def _known_architecture(cls, name: str) -> str:
        if name and name not in CPU_POWER:
            raise ValueError(_unknown("cpu_architecture", name, CPU_POWER))
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> "SensorSettings":
        faults = []
        power = self.cpu_power()
        if power.max_mw < power.idle_mw:
            faults.append(
                f"max_watts_per_cpu must be >= idle_watts_per_cpu, got {power.max_mw / 1000} < {power.idle_mw / 1000}; "
                "set both"
            )
        if "replay" in self.backends and self.replay_file is None:
            faults.append("backend 'replay' needs replay_file; name a recording or remove the backend")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def cpu_power(self) -> CpuPower:
        """Coefficients of the modelled CPU with defaults resolved."""
        row = CPU_POWER.get(self.cpu_architecture, TYPICAL_CPU)
        idle, most = self.idle_watts_per_cpu, self.max_watts_per_cpu
        return CpuPower(
            row.idle_mw if idle is None else round(idle * 1000), row.max_mw if most is None else round(most * 1000)
        )


def sensor_settings(**values: object) -> SensorSettings:
    """Validated SensorSettings. Raises InvalidInput naming every fault."""
    try:
        return SensorSettings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise InvalidInput(f"sensor settings: {faults}") from error


@dataclass(frozen=True, slots=True)
class Discovery:
    """What opened, and for everything else the reason."""

    sensors: tuple[Sensor, ...]
    unusable: dict[str, str]
    """Backend, or `backend/device` where only one of its devices fails, to the reason."""

    def close(self) -> None:
        """Close every sensor."""
        for sensor in self.sensors:
            sensor.close()


Opener = Callable[[SensorSettings, Clock, str, str], Opened]

BACKENDS: Mapping[str, Opener] = {
    "nvml": lambda settings, clock, machine, boot: open_nvml(clock, machine, boot, time.sleep),
    "rapl": lambda settings, clock, machine, boot: open_rapl(clock, machine, boot, settings.powercap_root),
    "cpu_model": lambda settings, clock, machine, boot: open_cpu_model(
        clock, machine, boot, settings.cpu_power(), settings.proc_root
    ),
    "replay": lambda settings, clock, machine, boot: open_replay(
        clock, machine, boot, settings.replay_file or Path("no replay_file")
    ),
}
"""The registry: the only list of backend names."""


def discover(
    settings: SensorSettings, clock: Clock, machine: str, boot: str, backends: Mapping[str, Opener] = BACKENDS
) -> Discovery:
    """Open every usable backend of `settings`. Never raises for a backend: its reason is in `unusable`."""
    sensors: list[Sensor] = []
    unusable: dict[str, str] = {}
    for name in settings.backends:
        try:
            opened = backends[name](settings, clock, machine, boot)
        except SensorUnusable as error:
            unusable[name] = str(error)
            continue
        conflict = _conflict(name, opened.sensor, sensors)
        if conflict:
            opened.sensor.close()
            unusable[name] = conflict
            continue
        sensors.append(opened.sensor)
        unusable.update(opened.unusable)
    return Discovery(tuple(sensors), unusable)


def _conflict(name: str, sensor: Sensor, earlier: Sequence[Sensor]) -> str:
    """Why `sensor` would have energy booked twice beside `earlier` ones; empty if it would not."""
    uuids = {device.uuid for device in sensor.devices}
    reads_host = any(device.kind.is_host for device in sensor.devices)
    for other in earlier:
        if reads_host and any(device.kind.is_host for device in other.devices):
            return f"{name}: not used, {other.name} already reads the energy of this host's CPUs"
        same = uuids & {device.uuid for device in other.devices}
        if same:
            return f"{name}: not used, {other.name} already reads {', '.join(sorted(same))}"
    return ""


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it must be one of {', '.join(known)}"
    return f"{what} {name!r} is unknown; {hint}"
