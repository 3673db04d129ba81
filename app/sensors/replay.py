"""Recorded readings, replayed against a clock: a sensor that needs no hardware.

Knows nothing of how the readings came to be. A recording is a file of JSON lines. The first describes the devices,
every other one is an entry; `at_ns` are nanoseconds since the recording began and never fall within a device:

    {"devices": [{"uuid": "GPU-1", "kind": "gpu", "name": "H100", "grade": "counter"}]}
    {"uuid": "GPU-1", "at_ns": 0, "counter_uj": 5000}
    {"uuid": "GPU-1", "at_ns": 100000000, "counter_uj": 9000}
    {"uuid": "GPU-1", "at_ns": 200000000, "failure": "the GPU is lost"}

A device has `counter_uj` or `power_mw` entries, not both; optional keys of a device are `wraps_at_uj` and `vendor`.
The recording begins at the clock's time of opening. Between entries the last one holds; outside the first and the
last there is nothing to read. Raises SensorUnusable only.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.clock import Clock
from app.domain.reading import (
    Condition,
    CounterReading,
    Device,
    DeviceKind,
    Grade,
    PowerReading,
    ProcessUse,
    Reading,
    Vitals,
)
from app.errors import SensorUnusable
from app.sensors.base import Opened


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_LineT = TypeVar("_LineT", bound=_Line)


class RecordedDevice(_Line):
    """A device as the header names it; machine and boot are those of the replaying host."""

    uuid: str = Field(min_length=1)
    kind: DeviceKind
    name: str
    grade: Grade
    wraps_at_uj: int | None = Field(default=None, gt=0)
    vendor: str = ""


class _Header(_Line):
    devices: tuple[RecordedDevice, ...] = Field(min_length=1)


class Entry(_Line):
    """One recorded reading or failure; exactly one of the last three is given."""

    uuid: str
    at_ns: int = Field(ge=0)
    counter_uj: int | None = Field(default=None, ge=0)
    power_mw: int | None = Field(default=None, ge=0)
    failure: str | None = None

    @model_validator(mode="after")
    def _one_content(self) -> "Entry":
        given = [name for name in ("counter_uj", "power_mw", "failure") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of counter_uj, power_mw and failure must be given, got {given or 'none'}")
        return self


class ReplaySensor:
    """An opened recording."""

    name = "replay"

    def __init__(self, clock: Clock, devices: Sequence[Device], entries: Sequence[Entry]) -> None:
        self._clock = clock
        self._devices = tuple(devices)
        self._began_ns = clock.monotonic_ns()
        self._entries = {
            device.uuid: [entry for entry in entries if entry.uuid == device.uuid] for device in self._devices
        }

    @property
    def devices(self) -> Sequence[Device]:
        return self._devices

    def read(self, uuid: str) -> Reading:
        """The entry in force now, stamped with the present."""
        now_ns = self._clock.monotonic_ns()
        entry = self._entry_at(uuid, now_ns - self._began_ns)
        if entry.counter_uj is not None:
            return CounterReading(now_ns, entry.counter_uj)
        if entry.power_mw is not None:
            return PowerReading(now_ns, entry.power_mw)
        raise SensorUnusable(f"replay: {uuid}: {entry.failure}")

    def vitals(self, uuid: str) -> Vitals:
        try:
            reading = self.read(uuid)
        except SensorUnusable:
            return Vitals()
        return Vitals(power_mw=reading.power_mw) if isinstance(reading, PowerReading) else Vitals()

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        return ()

    def condition(self, uuid: str) -> Condition:
        return Condition()

    def close(self) -> None:
        return None

    def _entry_at(self, uuid: str, position_ns: int) -> Entry:
        entries = self._entries.get(uuid)
        if not entries:
            raise SensorUnusable(f"replay: {uuid} is not in the recording; it has {', '.join(self._entries)}")
        first_ns, last_ns = entries[0].at_ns, entries[-1].at_ns
        if not first_ns <= position_ns <= last_ns:
            raise SensorUnusable(
                f"replay: {uuid} is recorded from {first_ns} to {last_ns} ns, the replay is at {position_ns} ns"
            )
        return entries[bisect_right(entries, position_ns, key=lambda entry: entry.at_ns) - 1]


def open_replay(clock: Clock, machine: str, boot: str, path: Path) -> Opened:
    """Open the recording in `path`; it begins now. Raises SensorUnusable naming the line at fault."""
    try:
        lines = [(number, line) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SensorUnusable(f"replay: {path} cannot be read: {error}") from error
    if not lines:
        raise SensorUnusable(f"replay: {path} is empty; its first line must describe the devices")
    header = _parse(_Header, path, *lines[0])
    devices = [Device(machine=machine, boot=boot, **recorded.model_dump()) for recorded in header.devices]
    entries = [_parse(Entry, path, number, line) for number, line in lines[1:]]
    _check(path, devices, entries)
    return Opened(ReplaySensor(clock, devices, entries))


def write_recording(path: Path, devices: Iterable[Device], entries: Iterable[Entry]) -> None:
    """Write a recording that `open_replay` reads."""
    recorded = tuple(
        RecordedDevice(uuid=d.uuid, kind=d.kind, name=d.name, grade=d.grade, wraps_at_uj=d.wraps_at_uj, vendor=d.vendor)
        for d in devices
    )
    with path.open("w") as file:
        for line in (_Header(devices=recorded), *entries):
            file.write(line.model_dump_json(exclude_none=True) + "\n")


def _parse(kind: type[_LineT], path: Path, number: int, line: str) -> _LineT:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc'])) or 'line'}: {f['msg']}" for f in error.errors())
        raise SensorUnusable(f"replay: {path} line {number}: {faults}") from error


def _check(path: Path, devices: Sequence[Device], entries: Sequence[Entry]) -> None:
    """Raise SensorUnusable unless every entry has a device, times rise and no device mixes counter and power."""
    last_ns = {device.uuid: 0 for device in devices}
    content: dict[str, str] = {}
    for entry in entries:
        if entry.uuid not in last_ns:
            raise SensorUnusable(f"replay: {path}: {entry.uuid} has readings and is not among the devices")
        if entry.at_ns < last_ns[entry.uuid]:
            raise SensorUnusable(
                f"replay: {path}: {entry.uuid}: at_ns must not fall, got {entry.at_ns} after {last_ns[entry.uuid]}"
            )
        last_ns[entry.uuid] = entry.at_ns
        if entry.failure is None:
            now = "counter_uj" if entry.counter_uj is not None else "power_mw"
            if content.setdefault(entry.uuid, now) != now:
                raise SensorUnusable(f"replay: {path}: {entry.uuid} has both counter_uj and power_mw entries")
