"""The NVML stand-in keeps NVML's side of the bargain: for nvidia-ml-py, for Ray's own copy, and for its truth."""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.stubs.nvml.stub import (
    NO_PERMISSION,
    StubDevice,
    StubError,
    StubInstance,
    StubProcess,
    StubScript,
    read_truth,
    write_truth,
)

ROOT = Path(__file__).resolve().parents[2]


def in_child(stub, code):
    """Run `code`, which prints JSON, in a process that has the library from its start."""
    child = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | stub.env(), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def counter_mj(pynvml, index=0):
    return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(index))


@pytest.fixture
def pynvml(nvml_here):
    import pynvml

    nvml_here.write(StubScript())
    pynvml.nvmlInit()
    return pynvml


def test_ray_detects_the_scripted_gpus(nvml_stub):
    nvml_stub.write(StubScript(tuple(StubDevice(name="NVIDIA A100-SXM4-40GB") for _ in range(3))))
    detected = in_child(
        nvml_stub,
        "import json; from ray._private.accelerators import NvidiaGPUAcceleratorManager as m; "
        "print(json.dumps([m.get_current_node_num_accelerators(), m.get_current_node_accelerator_type()]))",
    )
    assert detected == [3, "A100"]


def test_our_sensor_loads_it_from_the_environment_alone(nvml_stub):
    nvml_stub.write(StubScript((StubDevice("GPU-a", counter_mj=42),)))
    code = (
        "import json; from app.clock import SystemClock; from app.sensors.nvml import open_nvml; "
        "print(json.dumps(open_nvml(SystemClock(), 'm', 'b').sensor.read('GPU-a').counter_uj))"
    )
    assert in_child(nvml_stub, code) == 42_000


def test_a_counter_whose_power_has_ended_is_exact(nvml_here, pynvml):
    # 250.5 W from 1 s to 1.01 s, nothing after: 2.505 J
    script = StubScript((StubDevice(phases=((1_000_000_000, 250_500), (1_010_000_000, 0))),))
    nvml_here.write(script)
    assert counter_mj(pynvml) == script.counter_mj(0, time.monotonic_ns()) == 2505


def test_a_live_counter_lies_between_its_values_before_and_after_the_call(nvml_here, pynvml):
    phases = tuple((second * 1_000_000_000, 100_000 + second * 7) for second in range(40))
    script = StubScript((StubDevice(phases=phases, offset_mj=17),), tick_ms=5)
    nvml_here.write(script)
    for _ in range(50):
        before = script.counter_mj(0, time.monotonic_ns())
        shown = counter_mj(pynvml)
        assert before <= shown <= script.counter_mj(0, time.monotonic_ns())


def test_the_counter_moves_at_ticks_only(nvml_here, pynvml):
    hour_ms = 3_600_000
    script = StubScript((StubDevice(phases=((0, 500_000),)),), tick_ms=hour_ms)
    nvml_here.write(script)
    now_ns = time.monotonic_ns()
    assert counter_mj(pynvml) == now_ns // (hour_ms * 1_000_000) * hour_ms * 500  # mW x ms = uJ: / 1000 x 500,000


def test_a_reset_begins_the_counter_again(nvml_here, pynvml):
    # 1 W from 0 s to 3 s, reset at 2 s: one second remains
    device = StubDevice(phases=((0, 1000), (3_000_000_000, 0)), offset_mj=99, resets_ns=(2_000_000_000,))
    script = StubScript((device,))
    nvml_here.write(script)
    assert counter_mj(pynvml) == script.counter_mj(0, time.monotonic_ns()) == 1000


def test_errors_can_be_scripted_by_call_device_and_time(nvml_here, pynvml):
    now_ns = time.monotonic_ns()
    script = StubScript(
        (StubDevice(counter_mj=1), StubDevice(counter_mj=2)),
        errors=(
            StubError("nvmlDeviceGetTotalEnergyConsumption", 15, device=1, until_ns=now_ns + 10**12),
            StubError("nvmlDeviceGetTotalEnergyConsumption", 999, device=0, from_ns=now_ns + 10**12),
        ),
    )
    nvml_here.write(script)
    assert counter_mj(pynvml, 0) == 1
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        counter_mj(pynvml, 1)


def test_a_faulty_script_is_told_and_answers_nothing(nvml_here, pynvml, capfd):
    nvml_here.write("devices 1\ndevice 0 wats 1 2\n")
    with pytest.raises(pynvml.NVMLError_Unknown):
        counter_mj(pynvml)
    assert "line 2 cannot be understood: device 0 wats 1 2" in capfd.readouterr().err


def test_without_a_script_there_is_no_driver(nvml_here):
    import pynvml

    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        pynvml.nvmlInit()


def test_a_truth_file_is_a_script(nvml_here, pynvml):
    truth = "2 20\n0 1.5 100\n1 1.5 50.25\n0 2.5 0\n1 3.5 0\n"
    nvml_here.write(truth)
    script = read_truth(truth)
    # 100 W x 1 s and 50.25 W x 2 s
    assert [counter_mj(pynvml, n) for n in (0, 1)] == [100_000, 100_500]
    assert [script.counter_mj(n, time.monotonic_ns()) for n in (0, 1)] == [100_000, 100_500]
    assert read_truth(write_truth(script)) == script


def test_power_limits_are_kept_and_bounded(nvml_here, pynvml):
    nvml_here.write(StubScript((StubDevice(limit_mw=400_000),)))
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle) == [100_000, 400_000]
    pynvml.nvmlDeviceSetPowerManagementLimit(handle, 250_000)
    assert pynvml.nvmlDeviceGetPowerManagementLimit(handle) == 250_000
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceSetPowerManagementLimit(handle, 99_999)
    nvml_here.write(StubScript(errors=(StubError("nvmlDeviceSetPowerManagementLimit", NO_PERMISSION),)))
    with pytest.raises(pynvml.NVMLError_NoPermission):
        pynvml.nvmlDeviceSetPowerManagementLimit(handle, 250_000)
    nvml_here.write(StubScript((StubDevice(limit_mw=400_000),)))
    pynvml.nvmlDeviceSetPowerManagementLimit(handle, 400_000)


@pytest.mark.parametrize("module", ["pynvml", "ray._private.thirdparty.pynvml"])
def test_both_copies_of_pynvml_get_an_answer_to_everything_detection_asks(nvml_stub, module):
    processes = (StubProcess(5, 64, 30), StubProcess(6, 32, 1, graphics=True))
    device = StubDevice("GPU-a", power_mw=70_000, memory_used_bytes=1, memory_total_bytes=4, processes=processes)
    nvml_stub.write(StubScript((device,)))
    code = f"""
import json
import {module} as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByUUID("GPU-a")
text = lambda value: value.decode() if isinstance(value, bytes) else value
fields = n.nvmlDeviceGetFieldValues(h, [186, 83, 1])
print(json.dumps({{
    "count": n.nvmlDeviceGetCount(), "uuid": text(n.nvmlDeviceGetUUID(h)),
    "driver": text(n.nvmlSystemGetDriverVersion()),
    "index": n.nvmlDeviceGetIndex(h), "minor": n.nvmlDeviceGetMinorNumber(h),
    "memory": [n.nvmlDeviceGetMemoryInfo(h).free, n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).used],
    "compute": [[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses(h)],
    "graphics": [p.pid for p in n.nvmlDeviceGetGraphicsRunningProcesses(h)],
    "samples": [[s.pid, s.smUtil] for s in n.nvmlDeviceGetProcessUtilization(h, 0)],
    "fields": [fields[0].value.uiVal, fields[1].nvmlReturn, fields[2].nvmlReturn],
    "capability": n.nvmlDeviceGetCudaComputeCapability(h), "bus": text(n.nvmlDeviceGetPciInfo(h).busId),
    "temperature": n.nvmlDeviceGetTemperature(h, 0), "limit": n.nvmlDeviceGetEnforcedPowerLimit(h),
}}))
n.nvmlShutdown()
"""
    assert in_child(nvml_stub, code) == {
        "count": 1,
        "uuid": "GPU-a",
        "driver": "570.86.15",
        "index": 0,
        "minor": 0,
        "memory": [3, 1],
        "compute": [[5, 64]],
        "graphics": [6],
        "samples": [[5, 30], [6, 1]],
        "fields": [70_000, 0, 3],
        "capability": [9, 0],
        "bus": "00000000:01:00.0",
        "temperature": 40,
        "limit": 700_000,
    }


def test_a_counter_may_be_off_its_power_stand_still_and_answer_nonsense(nvml_here, pynvml):
    second = 1_000_000_000
    now_ns = time.monotonic_ns()
    device = StubDevice(phases=((0, 1000), (10 * second, 0)), gain_ppm=600_000, stuck_ns=((2 * second, 4 * second),))
    script = StubScript((device,))
    nvml_here.write(script)
    # 1 W for 10 s without 2 of them, times 0.6
    assert counter_mj(pynvml) == script.counter_mj(0, now_ns) == 4800
    script = script.with_device(0, glitches_ns=((0, now_ns + 10**15, 77),))
    nvml_here.write(script)
    assert counter_mj(pynvml) == script.counter_mj(0, now_ns) == 77


def test_ticks_may_be_shifted_and_late_and_python_knows_by_how_much(nvml_here, pynvml):
    phases = tuple((second * 1_000_000_000, 100_000 + second * 7) for second in range(40))
    script = StubScript((StubDevice(phases=phases, phase_ms=3.3),), tick_ms=7.001, jitter_ms=2.5)
    nvml_here.write(script)
    for _ in range(50):
        before = script.counter_mj(0, time.monotonic_ns())
        assert before <= counter_mj(pynvml) <= script.counter_mj(0, time.monotonic_ns())
    ticks = {script.updated_ns(0, at_ns) for at_ns in range(10**9, 2 * 10**9, 100_000)}
    assert len(ticks) == pytest.approx(1000 / 7.001, abs=2)
    gaps = [later - earlier for earlier, later in pairwise(sorted(ticks))]
    assert 4_500_000 < min(gaps) < 7_001_000 < max(gaps) < 9_502_000


def test_power_is_told_by_scope(nvml_here, pynvml):
    def told(scopes):
        nvml_here.write(StubScript((StubDevice(power_mw=5, module_power_mw=9, scopes=scopes),)))
        fields = pynvml.nvmlDeviceGetFieldValues(pynvml.nvmlDeviceGetHandleByIndex(0), [(186, 0), (186, 1), (186, 2)])
        return [(field.nvmlReturn, field.value.uiVal) for field in fields]

    assert told("both") == [(0, 5), (0, 9), (3, 0)]
    assert told("gpu") == [(0, 5), (3, 0), (3, 0)]
    assert told("module") == [(3, 0), (0, 9), (3, 0)]


def test_a_partitioned_gpu_has_instances(nvml_here, pynvml):
    instances = (StubInstance("MIG-x", 3, 1, 0, 5, 40), StubInstance("MIG-y", 2, 2, 0, 1, 20))
    processes = (StubProcess(11, instance=1), StubProcess(12, instance=0), StubProcess(13))
    nvml_here.write(StubScript((StubDevice("GPU-a", mig_slots=7, instances=instances, processes=processes),)))
    parent = pynvml.nvmlDeviceGetHandleByUUID("GPU-a")
    assert pynvml.nvmlDeviceGetMigMode(parent) == [1, 1]
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(parent) == 7
    own = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 1)
    assert pynvml.nvmlDeviceGetUUID(own) == "MIG-y"
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByUUID("MIG-y")) == "MIG-y"
    assert pynvml.nvmlDeviceGetMemoryInfo(own).used == 1
    assert pynvml.nvmlDeviceGetAttributes(own).computeInstanceSliceCount == 2
    assert (pynvml.nvmlDeviceGetGpuInstanceId(own), pynvml.nvmlDeviceGetComputeInstanceId(own)) == (2, 0)
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(own)) == "GPU-a"
    assert [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(own)] == [11]
    listed = pynvml.nvmlDeviceGetComputeRunningProcesses(parent)
    assert [(p.pid, p.gpuInstanceId) for p in listed] == [(11, 2), (12, 1), (13, 2**32 - 1)]
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 2)
    for call in (pynvml.nvmlDeviceGetTotalEnergyConsumption, pynvml.nvmlDeviceGetPowerUsage):
        with pytest.raises(pynvml.NVMLError_NotSupported):
            call(own)
