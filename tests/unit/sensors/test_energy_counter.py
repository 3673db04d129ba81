"""Readings carry the instant of the counter's last update, hours later too, and a bad answer is not believed."""

import random

import pytest

from app.errors import SensorUnusable
from app.sensors.energy_counter import seek
from tests.fixtures.simulated_counter import MS, SimulatedCounter


def sought(device: SimulatedCounter) -> SimulatedCounter:
    device.counter.read()
    seek([device.counter], device.clock, device.pause)
    return device


def errors_ms(device: SimulatedCounter, readings: int, every_ms: float = 100) -> list[float]:
    """How far each stamp lies from the instant at which the counter took that value."""
    found = []
    for _ in range(readings):
        device.clock.advance(round(every_ms * MS))
        reading = device.counter.read()
        true_ns = (reading.counter_uj + device.origin_uj) * MS / device.power_mw
        found.append((reading.at_ns - true_ns) / MS)
    return found


@pytest.mark.parametrize("period_ms", [10, 20.013, 47, 100, 99.997])
def test_stamps_are_those_of_the_last_update(period_ms):
    device = sought(SimulatedCounter(period_ms))
    errors_ms(device, 10)
    assert max(map(abs, errors_ms(device, 600))) < max(period_ms / 10, 0.7)
    assert device.counter.ticks.period_ns == pytest.approx(period_ms * MS, rel=1e-3)


def test_before_the_period_is_known_stamps_are_those_of_the_call():
    device = SimulatedCounter(100)
    before_ns = device.clock.monotonic_ns()
    assert before_ns < device.counter.read().at_ns < device.clock.monotonic_ns()


def test_the_phase_stays_true_over_hours_of_a_clock_that_drifts_and_jitters():
    jitter = random.Random(1)
    offsets = [round(jitter.uniform(-0.4, 0.4) * MS) for _ in range(1000)]
    device = sought(SimulatedCounter(20.0007, jitter=lambda number: offsets[number % 1000]))
    errors_ms(device, 10)
    # 2 hours at 10 Hz would be 72,000 readings; every second of them is read as well as 7,200 can be
    assert max(map(abs, errors_ms(device, 7200, every_ms=1000))) < 2.0
    assert device.counter.ticks.trusted


def test_a_phase_that_jumps_is_found_again():
    device = sought(SimulatedCounter(20))
    errors_ms(device, 50)
    device.phase_ns += 9 * MS
    errors_ms(device, 200)  # the next update to be caught does not come
    assert not device.counter.ticks.known
    seek([device.counter], device.clock, device.pause)
    errors_ms(device, 10)
    assert max(map(abs, errors_ms(device, 100))) < 1.0


def test_a_counter_that_moves_when_it_is_looked_at_is_stamped_with_the_call():
    device = sought(SimulatedCounter(20, lazy=True))
    errors_ms(device, 20)
    assert not device.counter.ticks.trusted
    assert max(map(abs, errors_ms(device, 50))) < 0.1


def test_a_counter_that_always_moves_has_no_period():
    device = sought(SimulatedCounter(0.01))
    assert not device.counter.ticks.known


def test_a_counter_that_stands_still_is_given_up_soon():
    device = SimulatedCounter(power_mw=0)
    begun_ns = device.clock.monotonic_ns()
    sought(device)
    assert device.clock.monotonic_ns() - begun_ns < 350 * MS
    assert not device.counter.ticks.known


def test_seeking_takes_at_most_a_second_for_all_devices_together():
    devices = [SimulatedCounter(100, phase_ms=n) for n in range(8)]
    for device in devices[1:]:
        device.clock = device.counter._clock = devices[0].clock
    for device in devices:
        device.counter.read()
    begun_ns = devices[0].clock.monotonic_ns()
    seek([device.counter for device in devices], devices[0].clock, devices[0].pause)
    assert devices[0].clock.monotonic_ns() - begun_ns < 1010 * MS
    assert all(device.counter.ticks.known for device in devices)


def test_stamps_never_go_back_when_the_period_becomes_known():
    device = sought(SimulatedCounter(100))
    stamps = []
    for _ in range(50):
        device.clock.advance(11 * MS)
        stamps.append(device.counter.read().at_ns)
    assert stamps == sorted(stamps)


def test_steady_reading_costs_little_more_than_one_look():
    device = sought(SimulatedCounter(20))
    errors_ms(device, 600)
    device.looks = 0
    errors_ms(device, 6000)
    assert device.looks < 6000 * 1.3


def test_one_bad_answer_is_neither_a_reset_nor_a_spike():
    for bad_uj in (0, 10**15):
        device = SimulatedCounter()
        before_uj = device.counter.read().counter_uj
        device.answers = [bad_uj]
        assert device.counter.read().counter_uj - before_uj < 40_000_000
        assert (device.counter.glitches, device.counter.resets) == (1, 0)


def test_a_bad_answer_that_lasts_for_a_whole_reading_is_an_unusable_reading_and_nothing_else():
    device = SimulatedCounter()
    before_uj = device.counter.read().counter_uj
    device.answers = [0, 0]
    with pytest.raises(SensorUnusable, match="cannot follow"):
        device.counter.read()
    device.clock.advance(100 * MS)
    assert 0 < device.counter.read().counter_uj - before_uj < 40_000_000
    assert (device.counter.glitches, device.counter.resets) == (1, 0)


def test_a_counter_that_began_anew_is_believed_at_the_second_reading():
    device = sought(SimulatedCounter())
    device.origin_uj = device.uj_at(device.clock.monotonic_ns()) - 1000
    with pytest.raises(SensorUnusable, match="began anew"):
        device.counter.read()
    device.clock.advance(100 * MS)
    assert device.counter.read().counter_uj < 40_000_000
    assert (device.counter.glitches, device.counter.resets) == (0, 1)


def test_energy_of_the_time_the_host_slept_is_no_jump():
    device = SimulatedCounter(power_mw=300_000)
    before_uj = device.counter.read().counter_uj
    device.clock.sleep(3_600_000 * MS)
    device.origin_uj = -300 * 3600 * 1_000_000  # 300 W for an hour
    assert device.counter.read().counter_uj - before_uj >= 300 * 3600 * 1_000_000
    assert device.counter.glitches == 0
