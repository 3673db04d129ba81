"""In real time, through pynvml on the stand-in: readings carry the instant at which the counter took their value."""

import time

import pytest

from app.clock import SystemClock
from app.domain.reading import CounterReading
from app.sensors.nvml import open_nvml
from tests.stubs.nvml.stub import StubDevice, StubScript

WATTS_MW = 300_000
PATIENCE_S = 60  # a busy machine may miss updates again and again


def off_ns(sensor) -> int:
    """How far a reading is from the instant that its value belongs to."""
    reading = sensor.read("GPU-a")
    assert isinstance(reading, CounterReading)
    return abs(reading.at_ns - reading.counter_uj * 1_000_000 // WATTS_MW)


def test_readings_are_stamped_with_the_counters_last_update(nvml_here):
    nvml_here.write(StubScript((StubDevice("GPU-a", phases=((0, WATTS_MW),), phase_ms=7.5),), tick_ms=20))
    sensor = open_nvml(SystemClock(), "machine", "boot", time.sleep).sensor
    until_s = time.monotonic() + PATIENCE_S
    median_ns = 20_000_000
    # The call's own time would be off by 10 ms in the median.
    period_ns = None
    while (median_ns > 2_000_000 or period_ns is None) and time.monotonic() < until_s:
        median_ns = sorted(off_ns(sensor) for _ in range(20))[10]
        period_ns = sensor.condition("GPU-a").update_period_ns
    assert median_ns <= 2_000_000
    assert period_ns == pytest.approx(20_000_000, rel=0.02)
    sensor.close()
