"""The contract of every sensor: devices in, readings out.

Knows nothing of accounts, slices or Ray. A backend either opens or says in one sentence why it cannot; a device
that fails later raises `SensorUnusable` from `read`, and the caller decides what that means for the books.

    found = discover(SensorSettings(), clock, machine, boot)
    for sensor in found.sensors:
        for device in sensor.devices:
            reading = sensor.read(device.uuid)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.domain.reading import Condition, Device, ProcessUse, Reading, Vitals


class Sensor(Protocol):
    """One opened backend. Not thread-safe: one meter, one thread."""

    name: str
    """Name of the backend, as `SensorSettings.backends` spells it."""

    @property
    def devices(self) -> Sequence[Device]:
        """What can be read, fixed at opening."""

    def read(self, uuid: str) -> Reading:
        """One reading now. Raises SensorUnusable if the device cannot be read this time."""

    def vitals(self, uuid: str) -> Vitals:
        """Figures to show. Never raises: what cannot be read is None."""

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        """Processes on the device; empty where the device cannot tell. Never raises."""

    def condition(self, uuid: str) -> Condition:
        """How far the device's figures can be trusted, as known now. Cheap, reads nothing; never raises."""

    def close(self) -> None:
        """Release the backend; safe to call twice."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend that opened, with the devices it found and cannot read."""

    sensor: Sensor
    unusable: Mapping[str, str] = field(default_factory=dict)
    """`backend/device` to the reason in one sentence."""
