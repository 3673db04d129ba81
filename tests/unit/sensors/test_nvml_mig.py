"""Instances of a partitioned GPU: devices with a parent, whose energy is their parent's."""

import pytest

from app.clock import ManualClock
from app.domain.reading import Grade, ProcessUse, Vitals
from app.errors import SensorUnusable
from app.sensors.nvml import open_nvml
from tests.stubs.nvml.stub import StubDevice, StubError, StubInstance, StubProcess, StubScript

INSTANCES = (
    StubInstance("MIG-x", 3, gpu_instance=1, memory_used_bytes=5, memory_total_bytes=40),
    StubInstance("MIG-y", 2, gpu_instance=2, memory_used_bytes=1, memory_total_bytes=20),
)
PROCESSES = (StubProcess(11, 5, instance=0), StubProcess(12, 1, instance=1))
PARTITIONED = StubDevice("GPU-a", counter_mj=7, mig_slots=7, instances=INSTANCES, processes=PROCESSES)


@pytest.fixture
def sensor(nvml_here):
    nvml_here.write(StubScript((PARTITIONED, StubDevice("GPU-b", counter_mj=8))))
    return open_nvml(ManualClock(), "machine", "boot").sensor


def test_instances_are_devices_with_a_parent_and_a_share_of_its_compute(sensor):
    shown = [(d.uuid, d.parent, round(d.compute_share, 3), d.grade) for d in sensor.devices]
    assert shown == [
        ("GPU-a", "", 1.0, Grade.COUNTER),
        ("MIG-x", "GPU-a", 0.429, Grade.APPORTIONED),
        ("MIG-y", "GPU-a", 0.286, Grade.APPORTIONED),
        ("GPU-b", "", 1.0, Grade.COUNTER),
    ]


def test_an_instance_has_no_energy_of_its_own(sensor):
    assert sensor.read("GPU-a").counter_uj == 7000
    with pytest.raises(SensorUnusable, match="MIG-x is an instance without a counter; read its parent GPU-a"):
        sensor.read("MIG-x")


def test_an_instance_tells_its_memory_and_nothing_else(sensor):
    assert sensor.vitals("MIG-x") == Vitals(memory_used_bytes=5, memory_total_bytes=40)
    assert sensor.vitals("GPU-a").utilization is None


def test_processes_are_those_of_the_instance_and_of_a_partitioned_gpu_all_of_them(sensor):
    assert sensor.processes("MIG-y") == (ProcessUse(12, None, 1),)
    assert sensor.processes("GPU-a") == (ProcessUse(11, None, 5), ProcessUse(12, None, 1))


def test_an_instance_whose_size_is_not_told_counts_as_one_slot(nvml_here):
    errors = (StubError("nvmlDeviceGetAttributes_v2", 3),)
    nvml_here.write(StubScript((PARTITIONED,), errors=errors))
    devices = open_nvml(ManualClock(), "machine", "boot").sensor.devices
    assert [round(device.compute_share, 3) for device in devices] == [1.0, 0.143, 0.143]


def test_a_gpu_that_refuses_to_list_its_instances_is_still_read(nvml_here):
    errors = (StubError("nvmlDeviceGetMigDeviceHandleByIndex", 4),)
    nvml_here.write(StubScript((PARTITIONED,), errors=errors))
    assert [device.uuid for device in open_nvml(ManualClock(), "machine", "boot").sensor.devices] == ["GPU-a"]
