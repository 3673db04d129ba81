"""What a device can do to its meter, each with its rule: on the compiled stand-in, through pynvml."""

import time

import pytest

from app.clock import ManualClock
from app.domain.reading import Grade
from app.errors import SensorUnusable
from app.sensors.nvml import open_nvml
from tests.stubs.nvml.stub import GPU_IS_LOST, NOT_SUPPORTED, StubDevice, StubError, StubScript

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
S = 1_000_000_000


def opened(stub, script, clock=None):
    stub.write(script)
    return open_nvml(clock or ManualClock(), "machine", "boot").sensor


def counting(stub, mj: int, **changes: object) -> StubScript:
    """A script of one device at a counter value, written."""
    script = StubScript((StubDevice("GPU-a", counter_mj=mj, **changes),))
    stub.write(script)
    return script


def follow(
    stub, sensor, clock, seconds: int, mj_per_s: int, power_mw: int, begin_mj: int = 10**6, rate: int = 10
) -> int:
    """Read `rate` times a second while the counter moves and power is told; the counter's last value in mJ."""
    mj = begin_mj
    for step in range(seconds * rate):
        mj = begin_mj + mj_per_s * step // rate
        counting(stub, mj, power_mw=power_mw)
        sensor.read("GPU-a")
        clock.advance(S // rate)
    return mj


def test_a_lost_gpu_that_comes_back_is_read_again_without_a_new_meter(nvml_here):
    clock = ManualClock()
    script = counting(nvml_here, 4000)
    sensor = opened(nvml_here, script, clock)
    nvml_here.write(StubScript(script.devices, errors=(StubError(ENERGY, GPU_IS_LOST),)))
    for _ in range(30):
        with pytest.raises(SensorUnusable, match="the GPU is lost"):
            sensor.read("GPU-a")
        clock.advance(S)
    clock.advance(100 * S)
    counting(nvml_here, 9000)
    assert sensor.read("GPU-a").counter_uj == 9_000_000


def test_nvml_is_opened_anew_at_once_and_then_ever_more_seldom(nvml_here, monkeypatch):
    import pynvml

    clock = ManualClock()
    script = counting(nvml_here, 4000)
    sensor = opened(nvml_here, script, clock)
    nvml_here.write(StubScript(script.devices, errors=(StubError(ENERGY, GPU_IS_LOST),)))
    began = []
    init = pynvml.nvmlInit
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: began.append(clock.monotonic_ns() // S) or init())
    for _ in range(200):
        with pytest.raises(SensorUnusable):
            sensor.read("GPU-a")
        clock.advance(S)
    assert began == [0, 5, 15, 35, 75, 135, 195]


def test_nvml_shut_down_underneath_is_opened_anew(nvml_here):
    import pynvml

    sensor = opened(nvml_here, counting(nvml_here, 4000))
    pynvml.nvmlShutdown()
    assert sensor.read("GPU-a").counter_uj == 4_000_000
    sensor.close()
    with pytest.raises(SensorUnusable, match="not open"):
        sensor.read("GPU-a")


def test_a_failed_read_is_an_error_and_never_a_number(nvml_here):
    script = counting(nvml_here, 4000)
    sensor = opened(nvml_here, script)
    before = sensor.read("GPU-a")
    nvml_here.write(StubScript(script.devices, errors=(StubError(ENERGY, 999),)))
    with pytest.raises(SensorUnusable):
        sensor.read("GPU-a")
    nvml_here.write(script)
    assert sensor.read("GPU-a").counter_uj == before.counter_uj


def test_a_zero_out_of_nowhere_is_not_believed(nvml_here):
    now_ns = time.monotonic_ns()
    script = counting(nvml_here, 4000, glitches_ns=((0, now_ns + 10**15, 0),))
    counting(nvml_here, 4000)
    sensor = opened(nvml_here, counting(nvml_here, 4000))
    sensor.read("GPU-a")
    nvml_here.write(script)
    with pytest.raises(SensorUnusable, match="cannot follow 4000000 uJ"):
        sensor.read("GPU-a")
    counting(nvml_here, 4001)
    assert sensor.read("GPU-a").counter_uj == 4_001_000
    assert sensor.condition("GPU-a").notes == ("1 bad answer(s) of the energy counter were not believed",)


def test_a_driver_reload_is_a_counter_that_begins_anew_and_is_said(nvml_here):
    sensor = opened(nvml_here, counting(nvml_here, 10**9))
    sensor.read("GPU-a")
    counting(nvml_here, 3)
    with pytest.raises(SensorUnusable):
        sensor.read("GPU-a")
    assert sensor.read("GPU-a").counter_uj == 3000
    assert "began anew 1 time(s)" in sensor.condition("GPU-a").notes[0]


def test_a_counter_that_stands_still_while_power_is_drawn_is_disputed_until_it_moves(nvml_here):
    clock = ManualClock()
    sensor = opened(nvml_here, counting(nvml_here, 10**6), clock)
    mj = follow(nvml_here, sensor, clock, 10, 300_000, 300_000)
    assert not sensor.condition("GPU-a").disputed
    follow(nvml_here, sensor, clock, 8, 0, 300_000, mj)
    found = sensor.condition("GPU-a")
    assert found.disputed
    assert "stood still" in found.notes[0]
    mj = follow(nvml_here, sensor, clock, 3, 300_000, 300_000, mj + 1)
    # 300 W for about 8 s are 2,400 J; what is missing stays in the notes
    assert not any("has stood still" in note for note in sensor.condition("GPU-a").notes)
    assert any("J, by its power, were drawn" in note for note in sensor.condition("GPU-a").notes)


def test_a_counter_that_stands_still_without_power_is_not_stuck(nvml_here):
    clock = ManualClock()
    sensor = opened(nvml_here, counting(nvml_here, 10**6), clock)
    follow(nvml_here, sensor, clock, 60, 0, 0, rate=2)
    assert not sensor.condition("GPU-a").disputed


def test_a_gpu_that_was_away_is_not_stuck(nvml_here):
    clock = ManualClock()
    sensor = opened(nvml_here, counting(nvml_here, 10**6), clock)
    mj = follow(nvml_here, sensor, clock, 5, 300_000, 300_000)
    clock.advance(600 * S)
    counting(nvml_here, mj, power_mw=300_000)
    sensor.read("GPU-a")
    assert sensor.condition("GPU-a").notes == ()


def test_a_counter_that_disagrees_with_power_is_disputed(nvml_here):
    clock = ManualClock()
    sensor = opened(nvml_here, counting(nvml_here, 10**6), clock)
    mj = follow(nvml_here, sensor, clock, 11, 180_000, 300_000)
    found = sensor.condition("GPU-a")
    assert found.disputed
    assert found.counter_to_power == pytest.approx(0.6, abs=0.02)
    assert "0.60 times as fast" in found.notes[0]
    follow(nvml_here, sensor, clock, 150, 300_000, 300_000, mj, rate=1)
    assert not sensor.condition("GPU-a").disputed


@pytest.mark.parametrize(
    ("scopes", "errors", "note"),
    [
        ("both", (), ()),
        ("gpu", (), ()),
        ("module", (), ("power is told for the whole module only; the energy counter is compared with that",)),
        (
            "none",
            (),
            ("no instant power is offered; the energy counter is compared with nvmlDeviceGetPowerUsage",),
        ),
        (
            "none",
            (StubError("nvmlDeviceGetPowerUsage", NOT_SUPPORTED),),
            ("no power is told; the energy counter cannot be compared with anything",),
        ),
    ],
)
def test_the_counter_is_compared_with_the_best_power_that_there_is(nvml_here, scopes, errors, note):
    device = StubDevice("GPU-a", counter_mj=5, power_mw=100_000, module_power_mw=900_000, scopes=scopes)
    sensor = opened(nvml_here, StubScript((device,), errors=errors))
    assert sensor.read("GPU-a").counter_uj == 5000
    assert sensor.condition("GPU-a").notes == note


def test_a_host_that_slept_is_said_and_its_energy_is_in_the_next_reading(nvml_here):
    clock = ManualClock()
    sensor = opened(nvml_here, counting(nvml_here, 10**6), clock)
    sensor.read("GPU-a")
    clock.sleep(3600 * S)
    counting(nvml_here, 10**6 + 20 * 3600 * 1000)  # 20 W for an hour
    assert sensor.read("GPU-a").counter_uj == (10**6 + 72_000_000) * 1000
    assert "the host slept for 3600 s" in sensor.condition("GPU-a").notes[0]


def test_a_gpu_without_a_counter_has_a_condition_that_claims_nothing(nvml_here):
    script = StubScript((StubDevice("GPU-a", power_mw=71_000),), errors=(StubError(ENERGY, NOT_SUPPORTED),))
    sensor = opened(nvml_here, script)
    assert sensor.devices[0].grade is Grade.INTEGRATED
    assert sensor.condition("GPU-a") == sensor.condition("GPU-absent")
    assert not sensor.condition("GPU-a").disputed
