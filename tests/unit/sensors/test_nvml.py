"""The NVML sensor on the compiled stand-in: pynvml runs for real, only libnvidia-ml.so.1 is ours."""

import sys
import time

import pytest

from app.clock import ManualClock, SystemClock
from app.domain.reading import CounterReading, DeviceKind, Grade, PowerReading, ProcessUse, Vitals
from app.errors import SensorUnusable
from app.sensors import nvml_errors
from app.sensors.nvml import open_nvml
from tests.stubs.nvml.stub import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    NvmlStub,
    StubDevice,
    StubError,
    StubProcess,
    StubScript,
)

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"


def opened(stub: NvmlStub, script: StubScript, clock=None):
    stub.write(script)
    return open_nvml(clock or ManualClock(5), "machine", "boot")


def test_devices_carry_uuid_name_and_grade_counter(nvml_here):
    script = StubScript((StubDevice("GPU-a", "NVIDIA A100-SXM4-40GB"), StubDevice("GPU-b", "NVIDIA H100 80GB HBM3")))
    devices = opened(nvml_here, script).sensor.devices
    assert [(d.uuid, d.name, d.grade, d.kind) for d in devices] == [
        ("GPU-a", "NVIDIA A100-SXM4-40GB", Grade.COUNTER, DeviceKind.GPU),
        ("GPU-b", "NVIDIA H100 80GB HBM3", Grade.COUNTER, DeviceKind.GPU),
    ]
    assert devices[0].key == "machine/boot/GPU-a"


def test_a_millijoule_of_the_counter_is_exactly_a_thousand_microjoules(nvml_here):
    sensor = opened(nvml_here, StubScript((StubDevice("GPU-a", counter_mj=9_007_199_254_740_993),))).sensor
    assert sensor.read("GPU-a") == CounterReading(5, 9_007_199_254_740_993_000)


def test_the_counter_follows_the_power_between_two_instants(nvml_here):
    clock = SystemClock()
    script = StubScript((StubDevice("GPU-a", phases=((0, 300_000),)),), tick_ms=0)
    sensor = opened(nvml_here, script, clock).sensor
    before_ns = clock.monotonic_ns()
    reading = sensor.read("GPU-a")
    after_ns = clock.monotonic_ns()
    assert before_ns <= reading.at_ns <= after_ns
    assert script.counter_mj(0, before_ns) * 1000 <= reading.counter_uj <= script.counter_mj(0, after_ns) * 1000


def test_without_a_counter_power_is_read_and_the_grade_says_so(nvml_here):
    script = StubScript((StubDevice("GPU-a", power_mw=71_250),), errors=(StubError(ENERGY, NOT_SUPPORTED),))
    sensor = opened(nvml_here, script).sensor
    assert sensor.devices[0].grade is Grade.INTEGRATED
    assert sensor.read("GPU-a") == PowerReading(5, 71_250)


def test_one_reading_is_one_nvml_call_but_for_a_look_at_power_each_second(nvml_here, monkeypatch):
    import pynvml

    clock = ManualClock(5)
    sensor = opened(nvml_here, StubScript((StubDevice("GPU-a", counter_mj=1),)), clock).sensor
    clock.advance(12_000_000_000)  # the first seconds, with power at each reading, are over
    calls = []
    asked = pynvml._nvmlGetFunctionPointer
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer", lambda name: calls.append(name) or asked(name))
    for _ in range(100):
        sensor.read("GPU-a")
        clock.advance(100_000_000)
    assert calls.count(ENERGY) == 100
    assert 8 <= calls.count("nvmlDeviceGetFieldValues") == len(calls) - 100 <= 12


def test_vitals_are_in_our_units(nvml_here):
    device = StubDevice(
        "GPU-a", power_mw=250_000, utilization_percent=75, memory_used_bytes=3, memory_total_bytes=4, temperature_c=61
    )
    sensor = opened(nvml_here, StubScript((device,))).sensor
    assert sensor.vitals("GPU-a") == Vitals(250_000, 0.75, 3, 4, 61)


def test_vitals_that_the_device_does_not_tell_are_none(nvml_here):
    calls = ("PowerUsage", "UtilizationRates", "MemoryInfo", "Temperature")
    errors = tuple(StubError(f"nvmlDeviceGet{call}", NOT_SUPPORTED) for call in calls)
    sensor = opened(nvml_here, StubScript((StubDevice("GPU-a"),), errors=errors)).sensor
    assert sensor.vitals("GPU-a") == Vitals()


def test_processes_tell_memory_and_utilisation(nvml_here):
    processes = (
        StubProcess(11, 1000, 60),
        StubProcess(12, 2000),
        StubProcess(13, 50, 5, graphics=True),
        StubProcess(14, 60, graphics=True),
    )
    sensor = opened(nvml_here, StubScript((StubDevice("GPU-a", processes=processes),))).sensor
    # 12 has no sample in the last second: it was not busy. 13 is no compute process, but was busy; 14 was not.
    assert sensor.processes("GPU-a") == (ProcessUse(11, 0.6, 1000), ProcessUse(12, 0.0, 2000), ProcessUse(13, 0.05))


def test_nobody_busy_is_zero_not_unknown(nvml_here):
    sensor = opened(nvml_here, StubScript((StubDevice("GPU-a", processes=(StubProcess(11, 1),)),))).sensor
    assert sensor.processes("GPU-a") == (ProcessUse(11, 0.0, 1),)


def test_utilisation_of_processes_is_none_where_the_device_cannot_tell(nvml_here):
    errors = (StubError("nvmlDeviceGetProcessUtilization", NOT_SUPPORTED),)
    script = StubScript((StubDevice("GPU-a", processes=(StubProcess(11, 1, 60),)),), errors=errors)
    assert opened(nvml_here, script).sensor.processes("GPU-a") == (ProcessUse(11, None, 1),)


def test_processes_come_and_go_while_the_sensor_is_open(nvml_here):
    script = StubScript((StubDevice("GPU-a"),))
    sensor = opened(nvml_here, script).sensor
    assert sensor.processes("GPU-a") == ()
    nvml_here.write(script.with_device(0, processes=(StubProcess(7, 1, 1),)))
    assert [use.pid for use in sensor.processes("GPU-a")] == [7]


def test_a_gpu_lost_while_running_is_a_reason_a_person_can_act_on(nvml_here):
    script = StubScript((StubDevice("GPU-a"), StubDevice("GPU-b", counter_mj=4)))
    sensor = opened(nvml_here, script).sensor
    lost = StubScript(script.devices, errors=(StubError(ENERGY, GPU_IS_LOST, device=0),))
    nvml_here.write(lost)
    with pytest.raises(SensorUnusable, match=r"reading GPU-a: the GPU is lost.*dmesg.*NVML error 15") as caught:
        sensor.read("GPU-a")
    assert type(caught.value.__cause__).__name__ == "NVMLError_GpuIsLost"
    assert sensor.read("GPU-b").counter_uj == 4000


def test_one_gpu_that_does_not_open_leaves_the_others(nvml_here):
    errors = (StubError("nvmlDeviceGetUUID", GPU_IS_LOST, device=1),)
    found = opened(nvml_here, StubScript((StubDevice("GPU-a"), StubDevice("GPU-b")), errors=errors))
    assert [device.uuid for device in found.sensor.devices] == ["GPU-a"]
    assert "GPU is lost" in found.unusable["nvml/1"]


def test_all_gpus_unreadable_is_an_unusable_backend_with_every_reason(nvml_here):
    errors = (StubError(ENERGY, GPU_IS_LOST, 0), StubError(ENERGY, NO_PERMISSION, 1))
    with pytest.raises(SensorUnusable, match=r"GPU 0.*lost.*GPU 1.*permission"):
        opened(nvml_here, StubScript((StubDevice(), StubDevice()), errors=errors))


def test_no_gpu_at_all_is_said(nvml_here):
    with pytest.raises(SensorUnusable, match="sees no GPU"):
        opened(nvml_here, StubScript(()))


def test_a_missing_driver_is_said(nvml_here):
    with pytest.raises(SensorUnusable, match=r"starting NVML: the NVIDIA driver is not loaded.*modprobe"):
        opened(nvml_here, StubScript(errors=(StubError("nvmlInit", DRIVER_NOT_LOADED),)))


def test_a_missing_library_is_said(monkeypatch):
    import pynvml

    def fail(name):
        raise OSError(name)

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", fail)
    with pytest.raises(SensorUnusable, match=r"libnvidia-ml\.so\.1 is not found; install the NVIDIA driver"):
        open_nvml(ManualClock(), "machine", "boot")


def test_a_missing_pynvml_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SensorUnusable, match="pip install nvidia-ml-py"):
        open_nvml(ManualClock(), "machine", "boot")


def test_every_error_of_the_vendor_has_a_reason():
    import pynvml

    codes = {name: value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    assert len(codes) > 25
    assert {name for name, value in codes.items() if value not in nvml_errors.REASONS} == set()
    for value in codes.values():
        assert f"(NVML error {value}" in str(nvml_errors.translated(pynvml.NVMLError(value), "testing"))


def test_an_error_code_from_the_future_still_gives_a_reason():
    import pynvml

    assert "nvidia-ml-py does not know" in str(nvml_errors.translated(pynvml.NVMLError(777), "testing"))


def test_a_closed_sensor_refuses_to_read(nvml_here):
    sensor = opened(nvml_here, StubScript((StubDevice("GPU-a"),))).sensor
    sensor.close()
    with pytest.raises(SensorUnusable, match="not open"):
        sensor.read("GPU-a")


def test_eight_gpus_are_read_in_well_under_a_tenth_of_a_period(nvml_here):
    sensor = opened(nvml_here, StubScript(tuple(StubDevice(counter_mj=1) for _ in range(8)))).sensor
    uuids = [device.uuid for device in sensor.devices]
    costs = []
    for _ in range(20):
        before = time.thread_time_ns()
        for uuid in uuids:
            sensor.read(uuid)
        costs.append(time.thread_time_ns() - before)
    # 10 Hz leaves 100 ms; the meter as a whole may use 1 % of a core, which is 1 ms.
    assert sorted(costs)[10] < 1_000_000
