"""Leases: of one state directory to one meter, and of each device to one meter of a cluster on this host.

Two raylets on a host see the same devices, whatever their state directories; the second meter must not book them again
in the same ledger. A lease is an abstract Unix socket whose name says machine, boot, device and ledger: no file is left
behind, and the kernel gives it back when the process ends. It reaches as far as the host's network namespace.
"""

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.domain.reading import Condition, Device, ProcessUse, Reading, Vitals
from app.sensors.base import Sensor


class DirectoryLease:
    """An exclusive lock on a state directory: its journal has one writer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def acquire(self) -> bool:
        """True once this process holds the lease; it is given back when the process ends."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class DeviceLeases:
    """The devices that this process may book in `ledger`."""

    def __init__(self, ledger: str) -> None:
        self._ledger = ledger
        self._held: dict[str, socket.socket] = {}

    def acquire(self, devices: Iterable[Device]) -> frozenset[str]:
        """Keys of those among `devices` that this process holds now, the ones it held before included."""
        return frozenset(device.key for device in devices if device.key in self._held or self._take(device.key))

    def release(self) -> None:
        """Give all back."""
        for held in self._held.values():
            held.close()
        self._held.clear()

    def _take(self, key: str) -> bool:
        name = hashlib.sha256(f"{self._ledger}\n{key}".encode()).hexdigest()
        lease = socket.socket(socket.AF_UNIX)
        try:
            lease.bind(f"\0joulekeeper-device-{name}")
        except OSError:
            lease.close()
            return False
        self._held[key] = lease
        return True


class LeasedSensor:
    """A sensor of which only the leased devices, by key, are shown; instances go with their parent."""

    def __init__(self, sensor: Sensor, keys: frozenset[str]) -> None:
        self._sensor, self.name = sensor, sensor.name
        held = {device.uuid for device in sensor.devices if device.key in keys}
        self._devices = tuple(device for device in sensor.devices if held & {device.uuid, device.parent})

    @property
    def devices(self) -> Sequence[Device]:
        return self._devices

    def read(self, uuid: str) -> Reading:
        return self._sensor.read(uuid)

    def vitals(self, uuid: str) -> Vitals:
        return self._sensor.vitals(uuid)

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        return self._sensor.processes(uuid)

    def condition(self, uuid: str) -> Condition:
        return self._sensor.condition(uuid)

    def close(self) -> None:
        self._sensor.close()
