"""probe: rendering of what the sensors told."""

from collections.abc import Callable
from typing import Any

import pytest

from app.cli import probe as command
from app.cli.probe import HostProbe
from app.sensors.probe import BackendProbe, DeviceProbe

DEVICE = DeviceProbe(
    uuid="GPU-1",
    kind="gpu",
    name="H100",
    grade="counter",
    vendor="nvidia",
    wraps_at_uj=None,
    counter_uj=5_000,
    moved_uj=70,
    interval_ns=500_000_000,
    power_mw=70_000,
    utilization=0.25,
    memory_used_bytes=None,
    memory_total_bytes=None,
    temperature_c=None,
    processes=0,
    failure="",
    update_period_ns=20_010_000,
    counter_to_power=0.6,
    disputed=True,
    notes=("the energy counter moves 0.60 times as fast as the device's power says",),
)
RAPL = BackendProbe(
    name="rapl", usable=False, reason="rapl: may not be read, run as root", devices=(), unusable_devices={}
)


def _nvml(*devices: DeviceProbe) -> BackendProbe:
    return BackendProbe(
        name="nvml", usable=True, reason="", devices=devices, unusable_devices={"GPU-2": "has fallen off the bus"}
    )


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., HostProbe]:
    def find(*backends: BackendProbe) -> HostProbe:
        result = HostProbe(machine="m1", boot="b1", backends=backends)
        monkeypatch.setattr(command, "probe_host", lambda: result)
        return result

    return find


def test_devices_and_every_reason_are_shown(found: Callable[..., HostProbe], call: Callable[..., Any]) -> None:
    found(_nvml(DEVICE), RAPL)
    result = call("probe")
    assert result.exit_code == 0
    for words in (
        "GPU-1",
        "70.00 W",
        "5000",
        "25%",
        "20.0 ms",
        "0.60",
        "disputed",
        "Notes",
        "may not be read, run as root",
        "not GPU-2",
        "machine m1",
    ):
        assert words in result.stdout


def test_json_is_the_view(found: Callable[..., HostProbe], call: Callable[..., Any]) -> None:
    expected = found(_nvml(DEVICE), RAPL)
    assert HostProbe.model_validate_json(call("probe", "--json").stdout) == expected


def test_a_host_without_a_readable_device_is_a_fault(found: Callable[..., HostProbe], call: Callable[..., Any]) -> None:
    found(_nvml(DEVICE.model_copy(update={"failure": "unknown error"})), RAPL)
    result = call("probe")
    assert result.exit_code == 1
    assert "no energy can be read" in result.stderr


def test_an_unknown_backend_in_the_settings_is_one_line(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.config import settings

    monkeypatch.setenv("JOULEKEEPER_SENSORS", "nvm")
    settings.cache_clear()
    try:
        result = call("probe")
    finally:
        settings.cache_clear()
    assert result.exit_code == 1
    assert result.stderr.startswith("error: settings from the environment: JOULEKEEPER_SENSORS: ")
    assert "backend 'nvm' is unknown; did you mean nvml?" in result.stderr
