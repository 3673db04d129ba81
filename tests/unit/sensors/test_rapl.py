"""RAPL on a powercap tree built in a temporary directory."""

import re
from pathlib import Path

import pytest

from app.clock import ManualClock
from app.domain.reading import CounterReading, DeviceKind, Grade
from app.errors import SensorUnusable
from app.sensors.rapl import open_rapl

RANGE_UJ = 262_143_328_850


def zone(root: Path, directory: str, name: str, energy_uj: int | str = 0, range_uj: int | str = RANGE_UJ) -> Path:
    path = root / directory
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


def opened(root: Path):
    return open_rapl(ManualClock(9), "machine", "boot", root)


def refuse(monkeypatch, *paths: Path) -> None:
    """Deny reading `paths`; permissions themselves do not stop a test that runs as root."""
    read_text = Path.read_text

    def denied(path, *args, **kwargs):
        if path in paths:
            raise PermissionError(13, "Permission denied")
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", denied)


def test_packages_and_dram_are_found_and_what_lies_inside_or_around_them_is_not(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:0:0", "core")
    zone(tmp_path, "intel-rapl:0:1", "uncore")
    zone(tmp_path, "intel-rapl:0:2", "dram", range_uj=65_532_610_987)
    zone(tmp_path, "intel-rapl:1", "package-1")
    zone(tmp_path, "intel-rapl:1:0", "dram")
    zone(tmp_path, "intel-rapl:2", "psys")
    zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    devices = opened(tmp_path).sensor.devices
    assert [(d.uuid, d.kind, d.wraps_at_uj) for d in devices] == [
        ("rapl:package-0", DeviceKind.CPU, RANGE_UJ),
        ("rapl:package-0:dram", DeviceKind.DRAM, 65_532_610_987),
        ("rapl:package-1", DeviceKind.CPU, RANGE_UJ),
        ("rapl:package-1:dram", DeviceKind.DRAM, RANGE_UJ),
    ]
    assert {d.grade for d in devices} == {Grade.COUNTER}


def test_two_zones_of_one_name_stay_two_devices(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:1", "package-0")
    uuids = [device.uuid for device in opened(tmp_path).sensor.devices]
    assert uuids == ["rapl:package-0", "rapl:package-0@intel-rapl:1"]


def test_the_counter_is_read_anew_each_time(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1000)
    sensor = opened(tmp_path).sensor
    assert sensor.read("rapl:package-0") == CounterReading(9, 1000)
    (path / "energy_uj").write_text("7\n")
    assert sensor.read("rapl:package-0") == CounterReading(9, 7)


def test_a_host_without_rapl_says_where_it_looked(tmp_path):
    with pytest.raises(SensorUnusable, match=f"{re.escape(str(tmp_path))} holds no intel-rapl"):
        opened(tmp_path)


def test_a_forbidden_counter_names_the_file_and_the_remedy(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj"
    refuse(monkeypatch, path)
    with pytest.raises(SensorUnusable, match=f"no permission to read {path}; .*chmod a\\+r {path}.*udev"):
        opened(tmp_path)


def test_forbidden_dram_leaves_the_package(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0")
    refuse(monkeypatch, zone(tmp_path, "intel-rapl:0:0", "dram") / "energy_uj")
    found = opened(tmp_path)
    assert [device.uuid for device in found.sensor.devices] == ["rapl:package-0"]
    assert "no permission" in found.unusable["rapl/rapl:package-0:dram"]


def test_readable_dram_without_a_package_is_not_enough(tmp_path, monkeypatch):
    refuse(monkeypatch, zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj")
    zone(tmp_path, "intel-rapl:0:0", "dram")
    with pytest.raises(SensorUnusable, match="no permission"):
        opened(tmp_path)


@pytest.mark.parametrize("content", ["", "garbage", "-5", "1.5"])
def test_a_counter_that_is_no_whole_number_is_a_failure_not_a_zero(tmp_path, content):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj"
    sensor = opened(tmp_path).sensor
    path.write_text(content)
    with pytest.raises(SensorUnusable, match="must hold a whole number of microjoules"):
        sensor.read("rapl:package-0")


def test_a_counter_that_vanishes_is_a_failure_not_a_zero(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj"
    sensor = opened(tmp_path).sensor
    path.unlink()
    with pytest.raises(SensorUnusable, match="cannot be read: No such file"):
        sensor.read("rapl:package-0")


def test_a_range_of_zero_is_refused(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 1, range_uj=0)
    with pytest.raises(SensorUnusable, match="max_energy_range_uj must be > 0 uJ, got 0"):
        opened(tmp_path)
