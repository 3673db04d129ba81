"""One suite for every sensor backend: what `app.sensors.base.Sensor` promises, each keeps.

NVML runs through pynvml on the compiled stand-in, with its counter and without, partitioned, and with ticks; RAPL and
the modelled CPU run on trees in a temporary directory; replay on a recording.
"""

import time

import pytest

from app.clock import SystemClock
from app.domain.reading import Condition, CounterReading, Device, DeviceKind, Grade, PowerReading, Vitals
from app.errors import SensorUnusable
from app.sensors.cpu_model import TYPICAL_CPU, open_cpu_model
from app.sensors.discovery import BACKENDS
from app.sensors.nvml import open_nvml
from app.sensors.rapl import open_rapl
from app.sensors.replay import Entry, open_replay, write_recording
from tests.stubs.nvml.stub import NOT_SUPPORTED, StubDevice, StubError, StubInstance, StubProcess, StubScript

HOST = ("machine", "boot")


def nvml(tmp_path, request, errors=()):
    stub = request.getfixturevalue("nvml_here")
    busy = StubDevice(phases=((0, 250_000),), processes=(StubProcess(1, 1, 50),))
    stub.write(StubScript((busy, StubDevice(phases=((0, 90_000),))), tick_ms=0, errors=errors))
    return open_nvml(SystemClock(), *HOST)


def nvml_without_counter(tmp_path, request):
    return nvml(tmp_path, request, (StubError("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED),))


def nvml_partitioned(tmp_path, request):
    stub = request.getfixturevalue("nvml_here")
    device = StubDevice(phases=((0, 250_000),), mig_slots=7, instances=(StubInstance("MIG-x"), StubInstance("MIG-y")))
    stub.write(StubScript((device,), tick_ms=0))
    return open_nvml(SystemClock(), *HOST)


def nvml_ticking(tmp_path, request):
    stub = request.getfixturevalue("nvml_here")
    stub.write(StubScript((StubDevice(phases=((0, 250_000),)),), tick_ms=5))
    found = open_nvml(SystemClock(), *HOST, time.sleep)
    for _ in range(1000):
        if not found.sensor.condition(found.sensor.devices[0].uuid).update_period_ns:
            found.sensor.read(found.sensor.devices[0].uuid)
    return found


def rapl(tmp_path, request):
    for directory, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")):
        zone = tmp_path / directory
        zone.mkdir()
        for file, content in (("name", name), ("energy_uj", "12345"), ("max_energy_range_uj", "65532610987")):
            (zone / file).write_text(content)
    return open_rapl(SystemClock(), *HOST, tmp_path)


def cpu_model(tmp_path, request):
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\n")
    return open_cpu_model(SystemClock(), *HOST, TYPICAL_CPU, tmp_path)


def replay(tmp_path, request):
    device = Device(*HOST, "GPU-1", DeviceKind.GPU, "H100", Grade.COUNTER)
    hour_ns = 3_600_000_000_000
    path = tmp_path / "readings.jsonl"
    write_recording(path, [device], [Entry(uuid="GPU-1", at_ns=n, counter_uj=n) for n in (0, hour_ns)])
    return open_replay(SystemClock(), *HOST, path)


OPENERS = {f.__name__: f for f in (nvml, nvml_without_counter, nvml_partitioned, nvml_ticking, rapl, cpu_model, replay)}


@pytest.fixture(params=OPENERS)
def opened(request, tmp_path):
    found = OPENERS[request.param](tmp_path, request)
    yield found
    found.sensor.close()


@pytest.fixture
def sensor(opened):
    return opened.sensor


def readable(sensor):
    return [device for device in sensor.devices if not device.parent]


def test_every_registered_backend_is_in_this_suite():
    assert set(BACKENDS) <= set(OPENERS)


def test_the_name_is_the_one_in_the_registry(sensor):
    assert sensor.name in BACKENDS


def test_what_opened_here_has_nothing_unusable(opened):
    assert opened.unusable == {}


def test_devices_are_fixed_and_their_identities_unique(sensor):
    assert len(sensor.devices) > 0
    assert list(sensor.devices) == list(sensor.devices)
    assert len({device.key for device in sensor.devices}) == len(sensor.devices)
    assert all(device.key == f"machine/boot/{device.uuid}" for device in sensor.devices)
    assert all(device.name for device in sensor.devices)


def test_the_kind_of_reading_fits_the_grade(sensor):
    for device in readable(sensor):
        kind = PowerReading if device.grade is Grade.INTEGRATED else CounterReading
        assert isinstance(sensor.read(device.uuid), kind)


def test_readings_are_integers_stamped_within_the_call_or_with_the_update_before_it(sensor):
    clock = SystemClock()
    for device in readable(sensor):
        before_ns = clock.monotonic_ns()
        reading = sensor.read(device.uuid)
        period_ns = sensor.condition(device.uuid).update_period_ns or 0
        assert before_ns - 2 * period_ns <= reading.at_ns <= clock.monotonic_ns() + period_ns
        value = reading.counter_uj if isinstance(reading, CounterReading) else reading.power_mw
        assert type(value) is int
        assert value >= 0


def test_time_and_counter_do_not_fall(sensor):
    for device in readable(sensor):
        readings = [sensor.read(device.uuid) for _ in range(20)]
        assert readings == sorted(readings, key=lambda reading: reading.at_ns)
        if isinstance(readings[0], CounterReading):
            counters = [reading.counter_uj for reading in readings]
            assert counters == sorted(counters)
            assert device.wraps_at_uj is None or max(counters) <= device.wraps_at_uj


def test_an_unknown_device_is_unusable_and_has_neither_vitals_nor_processes(sensor):
    with pytest.raises(SensorUnusable, match="GPU-absent"):
        sensor.read("GPU-absent")
    assert sensor.vitals("GPU-absent") == Vitals()
    assert list(sensor.processes("GPU-absent")) == []


def test_an_instance_names_a_parent_that_is_there_and_cannot_be_read(sensor):
    uuids = {device.uuid for device in readable(sensor)}
    for device in sensor.devices:
        assert 0 < device.compute_share <= 1
        if device.parent:
            assert device.parent in uuids
            assert device.grade is Grade.APPORTIONED
            with pytest.raises(SensorUnusable, match=device.parent):
                sensor.read(device.uuid)


def test_a_condition_is_told_before_the_first_reading_and_of_unknown_devices(sensor):
    assert sensor.condition("GPU-absent") == Condition()
    assert all(not sensor.condition(device.uuid).disputed for device in sensor.devices)


def test_vitals_and_processes_stay_within_their_ranges(sensor):
    for device in sensor.devices:
        vitals = sensor.vitals(device.uuid)
        assert vitals.power_mw is None or vitals.power_mw >= 0
        assert vitals.utilization is None or 0 <= vitals.utilization <= 1
        for use in sensor.processes(device.uuid):
            assert use.pid > 0
            assert use.utilization is None or 0 <= use.utilization <= 1


def test_closing_twice_is_safe(sensor):
    sensor.close()
    sensor.close()
