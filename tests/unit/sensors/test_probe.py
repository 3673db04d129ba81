"""The probe: two readings, one pause, every reason."""

from app.clock import ManualClock
from app.domain.reading import Device, DeviceKind, Grade
from app.sensors.discovery import SensorSettings, discover
from app.sensors.probe import probe
from app.sensors.replay import Entry, write_recording

SECOND = 1_000_000_000


def probed(tmp_path, *entries, grade=Grade.COUNTER, powercap_root=None):
    path = tmp_path / "readings.jsonl"
    write_recording(path, [Device("m", "b", "GPU-1", DeviceKind.GPU, "H100", grade)], entries)
    settings = SensorSettings(
        backends=("rapl", "replay"), powercap_root=powercap_root or tmp_path / "absent", replay_file=path
    )
    clock = ManualClock()
    found = discover(settings, clock, "m", "b")
    return probe(settings, found, pause=lambda: clock.advance(SECOND))


def test_an_unusable_backend_is_listed_with_its_reason(tmp_path):
    result = probed(tmp_path, Entry(uuid="GPU-1", at_ns=0, counter_uj=1))
    assert [(backend.name, backend.usable) for backend in result.backends] == [("rapl", False), ("replay", True)]
    assert "holds no intel-rapl" in result.backends[0].reason
    assert result.usable


def test_a_counter_tells_how_far_it_moved_and_the_power_that_makes(tmp_path):
    entries = [Entry(uuid="GPU-1", at_ns=n * SECOND, counter_uj=1000 + n * 60_000_000) for n in (0, 1)]
    device = probed(tmp_path, *entries).backends[1].devices[0]
    assert (device.counter_uj, device.moved_uj, device.interval_ns) == (60_001_000, 60_000_000, SECOND)
    assert device.power_mw == 60_000  # 60 J in a second
    assert (device.kind, device.grade, device.failure) == ("gpu", "counter", "")


def test_a_counter_that_begins_again_has_not_moved_backwards(tmp_path):
    entries = [Entry(uuid="GPU-1", at_ns=n * SECOND, counter_uj=9 - 8 * n) for n in (0, 1)]
    assert probed(tmp_path, *entries).backends[1].devices[0].moved_uj is None


def test_a_device_of_power_only_shows_its_power_and_no_counter(tmp_path):
    entries = [Entry(uuid="GPU-1", at_ns=n * SECOND, power_mw=70_000 + n) for n in (0, 1)]
    device = probed(tmp_path, *entries, grade=Grade.INTEGRATED).backends[1].devices[0]
    assert (device.power_mw, device.counter_uj, device.moved_uj, device.grade) == (70_001, None, None, "integrated")


def test_a_device_that_fails_between_the_readings_says_so(tmp_path):
    entries = [Entry(uuid="GPU-1", at_ns=0, counter_uj=1), Entry(uuid="GPU-1", at_ns=SECOND, failure="it is lost")]
    device = probed(tmp_path, *entries).backends[1].devices[0]
    assert device.failure == "replay: GPU-1: it is lost"
    assert (device.counter_uj, device.moved_uj) == (None, None)


def test_devices_that_a_usable_backend_cannot_read_are_listed_with_it(tmp_path):
    for name, directory in (("package-0", "intel-rapl:0"), ("dram", "intel-rapl:0:0")):
        zone = tmp_path / "powercap" / directory
        zone.mkdir(parents=True)
        (zone / "name").write_text(name)
        (zone / "max_energy_range_uj").write_text("100")
    (tmp_path / "powercap" / "intel-rapl:0" / "energy_uj").write_text("5")
    result = probed(tmp_path, Entry(uuid="GPU-1", at_ns=0, counter_uj=1), powercap_root=tmp_path / "powercap")
    rapl = result.backends[0]
    assert [device.uuid for device in rapl.devices] == ["rapl:package-0"]
    assert "cannot be read" in rapl.unusable_devices["rapl:package-0:dram"]
    assert rapl.reason == ""


def test_the_result_survives_json(tmp_path):
    result = probed(tmp_path, Entry(uuid="GPU-1", at_ns=0, counter_uj=1))
    assert type(result).model_validate_json(result.model_dump_json()) == result
