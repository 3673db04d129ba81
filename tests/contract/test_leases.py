"""Leases on this host's kernel: one meter per state directory, one meter of a ledger per device."""

import dataclasses
from pathlib import Path

from app.domain.reading import Device, DeviceKind, Grade
from app.metering.lease import DeviceLeases, DirectoryLease, LeasedSensor
from tests.fixtures.books import gpu

DEVICES = [Device("machine", "boot", f"GPU-lease-{n}", DeviceKind.GPU, "H100", Grade.COUNTER) for n in range(3)]
KEYS = [device.key for device in DEVICES]


def test_a_device_is_leased_to_one_meter_of_a_ledger(tmp_path: Path):
    first, second, elsewhere = DeviceLeases("ledger"), DeviceLeases("ledger"), DeviceLeases("another ledger")
    assert first.acquire(DEVICES[:2]) == frozenset(KEYS[:2])
    assert second.acquire(DEVICES) == frozenset(KEYS[2:])
    assert second.acquire(DEVICES) == frozenset(KEYS[2:])  # asked again, it keeps what it holds
    assert elsewhere.acquire(DEVICES) == frozenset(KEYS)
    first.release()
    assert second.acquire(DEVICES) == frozenset(KEYS)
    second.release()
    elsewhere.release()


def test_another_machine_or_boot_is_another_device():
    first, second = DeviceLeases("ledger"), DeviceLeases("ledger")
    assert first.acquire(DEVICES[:1])
    for change in ({"boot": "next"}, {"machine": "other"}):
        assert second.acquire([dataclasses.replace(DEVICES[0], **change)])
    first.release()
    second.release()


def test_a_state_directory_is_leased_to_one_meter(tmp_path: Path):
    first, second = DirectoryLease(tmp_path / "meter.lock"), DirectoryLease(tmp_path / "meter.lock")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()


def test_of_a_sensor_only_the_leased_devices_are_shown():
    sensor = gpu(lambda ms: ms)
    assert LeasedSensor(sensor, frozenset({sensor.device.key})).devices == (sensor.device,)
    assert LeasedSensor(sensor, frozenset()).devices == ()
    assert LeasedSensor(sensor, frozenset()).read(sensor.device.uuid) == sensor.read(sensor.device.uuid)
