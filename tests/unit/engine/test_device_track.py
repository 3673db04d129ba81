"""One device as its meter follows it: floors, rates, ceilings, and what a batch holds."""

import pytest

from app.domain.reading import CounterReading, DeltaKind, Device, DeviceKind, Grade
from app.engine.device_track import DeviceTrack, FloorTracker, reading_value
from app.sensors.process_table import ProcessSnapshot
from app.units import NS_PER_MS

A, B = frozenset({"a"}), frozenset({"a", "b"})
EMPTY = ProcessSnapshot(0)


def track(kind: DeviceKind = DeviceKind.GPU) -> DeviceTrack:
    return DeviceTrack(Device("m", "b", "u", kind, "x", Grade.COUNTER))


def reading(at_ms: int, counter_uj: int) -> CounterReading:
    return CounterReading(at_ms * NS_PER_MS, counter_uj)


def test_an_accelerators_floor_is_the_mean_of_its_free_intervals():
    floor = FloorTracker(takes_minimum=False)
    assert floor.floor_mw == 0.0
    floor.observe(100, NS_PER_MS, A)
    floor.observe(400, 2 * NS_PER_MS, A)
    assert floor.floor_mw == pytest.approx(500 / 3)


def test_a_hosts_floor_is_the_lowest_of_its_free_intervals():
    floor = FloorTracker(takes_minimum=True)
    for energy_uj in (300, 100, 200):
        floor.observe(energy_uj, NS_PER_MS, A)
    assert floor.floor_mw == 100.0


def test_a_new_residency_has_a_new_floor():
    floor = FloorTracker(takes_minimum=True)
    floor.observe(100, NS_PER_MS, A)
    floor.observe(300, NS_PER_MS, B)
    assert floor.floor_mw == 300.0


def test_only_the_newest_twenty_intervals_count():
    floor = FloorTracker(takes_minimum=True)
    for energy_uj in [1, *range(100, 120)]:
        floor.observe(energy_uj, NS_PER_MS, A)
    assert floor.floor_mw == 100.0


def test_the_first_reading_is_the_baseline():
    device = track()
    assert device.add(reading(0, 50), EMPTY) is None
    assert device.committed == reading(0, 50)
    assert device.end_of_batch() == (reading(0, 50), EMPTY)


def test_without_a_baseline_there_is_no_batch():
    with pytest.raises(ValueError, match="no baseline reading yet"):
        track().batch_readings()
    with pytest.raises(ValueError, match="no baseline reading yet"):
        track().end_of_batch()


def test_a_reading_closes_an_interval_and_shows_its_power():
    device = track()
    device.add(reading(0, 0), EMPTY)
    interval = device.add(reading(100, 30_000), EMPTY)
    assert interval is not None
    assert interval.delta.energy_uj == 30_000
    assert device.power_mw == device.ceiling_mw == 300.0


def test_an_interval_too_short_is_no_ceiling():
    device = track()
    device.add(reading(0, 0), EMPTY)
    device.add(reading(1, 30_000), EMPTY)
    assert (device.power_mw, device.ceiling_mw) == (30_000.0, 0.0)


def test_an_absence_ends_with_the_first_reading_that_moves_on():
    device = track()
    device.resume(reading(100, 10), EMPTY, DeltaKind.DEAD)
    assert device.add(reading(100, 10), EMPTY) is None  # no time has passed: the absence still lies before
    interval = device.add(reading(200, 40), EMPTY)
    assert interval is not None
    assert interval.delta.kind is DeltaKind.DEAD
    following = device.add(reading(300, 50), EMPTY)
    assert following is not None
    assert following.delta.kind is DeltaKind.NORMAL
    assert device.ceiling_mw == 0.1


def test_quiet_intervals_are_taken_as_one():
    device = track()
    for at_ms in (0, 100, 200, 300):
        device.add(reading(at_ms, at_ms * 2), EMPTY)
    interval = device.take(200 * NS_PER_MS, join=True)
    assert interval is not None
    assert (interval.delta.start_ns, interval.delta.end_ns, interval.delta.energy_uj) == (0, 200 * NS_PER_MS, 400)
    assert interval.readings == (reading(100, 200), reading(200, 400))
    assert device.take(200 * NS_PER_MS, join=True) is None


def test_an_absence_is_never_joined_with_what_was_watched():
    device = track()
    device.resume(reading(0, 0), EMPTY, DeltaKind.UNWATCHED)
    for at_ms in (100, 200, 300):
        device.add(reading(at_ms, at_ms), EMPTY)
    taken = [device.take(300 * NS_PER_MS, join=True) for _ in range(3)]
    kinds = [(interval.delta.kind, interval.delta.energy_uj) for interval in taken if interval]
    assert kinds == [(DeltaKind.UNWATCHED, 100), (DeltaKind.NORMAL, 200)]


def test_batches_join_at_their_readings():
    device = track()
    device.add(reading(0, 0), EMPTY)
    for at_ms in (100, 200):
        interval = device.add(reading(at_ms, at_ms), EMPTY)
        assert interval is not None
        device.attributed(interval)
    assert device.batch_readings() == [reading(0, 0), reading(100, 100), reading(200, 200)]
    device.mark_committed()
    assert (device.batch_readings(), device.raw, device.absence) == ([reading(200, 200)], [], None)
    assert reading_value(reading(1, 7)) == 7
