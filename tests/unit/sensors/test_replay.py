"""The replay sensor: recorded readings against a clock that the test advances."""

import pytest

from app.clock import ManualClock
from app.domain.reading import CounterReading, Device, DeviceKind, Grade, PowerReading
from app.errors import SensorUnusable
from app.sensors.replay import Entry, open_replay, write_recording

GPU = Device("recorder", "earlier", "GPU-1", DeviceKind.GPU, "H100", Grade.COUNTER, vendor="nvidia")
OLD = Device("recorder", "earlier", "GPU-2", DeviceKind.GPU, "K80", Grade.INTEGRATED)
HEADER = '{"devices": [{"uuid": "GPU-1", "kind": "gpu", "name": "H100", "grade": "counter"}]}\n'


def opened(tmp_path, clock, *entries):
    path = tmp_path / "readings.jsonl"
    write_recording(path, [GPU, OLD], entries)
    return open_replay(clock, "machine", "boot", path).sensor


def test_entries_hold_until_the_next_and_are_stamped_with_the_present(tmp_path):
    clock = ManualClock(1_000_000)
    sensor = opened(
        tmp_path, clock, Entry(uuid="GPU-1", at_ns=0, counter_uj=5000), Entry(uuid="GPU-1", at_ns=100, counter_uj=9000)
    )
    assert sensor.read("GPU-1") == CounterReading(1_000_000, 5000)
    clock.advance(99)
    assert sensor.read("GPU-1") == CounterReading(1_000_099, 5000)
    clock.advance(1)
    assert sensor.read("GPU-1") == CounterReading(1_000_100, 9000)


def test_power_is_replayed_as_power(tmp_path):
    sensor = opened(tmp_path, ManualClock(), Entry(uuid="GPU-2", at_ns=0, power_mw=60_000))
    assert sensor.read("GPU-2") == PowerReading(0, 60_000)
    assert sensor.vitals("GPU-2").power_mw == 60_000


def test_devices_belong_to_the_replaying_host(tmp_path):
    sensor = opened(tmp_path, ManualClock())
    assert [device.key for device in sensor.devices] == ["machine/boot/GPU-1", "machine/boot/GPU-2"]
    assert (sensor.devices[0].name, sensor.devices[0].vendor) == ("H100", "nvidia")


def test_a_recorded_failure_fails_again(tmp_path):
    sensor = opened(tmp_path, ManualClock(), Entry(uuid="GPU-1", at_ns=0, failure="the GPU is lost"))
    with pytest.raises(SensorUnusable, match="GPU-1: the GPU is lost"):
        sensor.read("GPU-1")


def test_before_the_first_and_after_the_last_entry_there_is_nothing(tmp_path):
    clock = ManualClock()
    sensor = opened(tmp_path, clock, Entry(uuid="GPU-1", at_ns=10, counter_uj=1))
    with pytest.raises(SensorUnusable, match="recorded from 10 to 10 ns, the replay is at 0 ns"):
        sensor.read("GPU-1")
    clock.advance(10)
    assert sensor.read("GPU-1").counter_uj == 1
    clock.advance(1)
    with pytest.raises(SensorUnusable, match="the replay is at 11 ns"):
        sensor.read("GPU-1")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("{}\n", "line 1: devices: Field required"),
        ("not json\n", "line 1: line: Invalid JSON"),
        (HEADER + '{"uuid": "GPU-1", "at_ns": 0}\n', "line 2: line: .*exactly one of counter_uj"),
        (HEADER + '{"uuid": "GPU-1", "at_ns": 0, "counter_uj": 1, "power_mw": 1}\n', "line 2: line: .*exactly one"),
        (HEADER + '{"uuid": "GPU-1", "at_ns": 0, "counter": 1}\n', "line 2: counter: Extra inputs"),
        (HEADER + '{"uuid": "GPU-9", "at_ns": 0, "counter_uj": 1}\n', "GPU-9 has readings and is not among"),
        (
            HEADER + '{"uuid": "GPU-1", "at_ns": 5, "counter_uj": 1}\n{"uuid": "GPU-1", "at_ns": 4, "counter_uj": 1}\n',
            "at_ns must not fall, got 4 after 5",
        ),
        (
            HEADER + '{"uuid": "GPU-1", "at_ns": 5, "counter_uj": 1}\n{"uuid": "GPU-1", "at_ns": 6, "power_mw": 1}\n',
            "both counter_uj and power_mw",
        ),
    ],
)
def test_a_faulty_recording_is_a_reason_naming_the_fault(tmp_path, text, fault):
    path = tmp_path / "readings.jsonl"
    path.write_text(text)
    with pytest.raises(SensorUnusable, match=fault):
        open_replay(ManualClock(), "machine", "boot", path)


def test_a_missing_recording_is_a_reason(tmp_path):
    with pytest.raises(SensorUnusable, match="absent cannot be read"):
        open_replay(ManualClock(), "machine", "boot", tmp_path / "absent")
