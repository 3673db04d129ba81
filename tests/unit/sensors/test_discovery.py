"""Discovery: every reason is kept, and no energy is offered twice."""

import pytest
from pydantic import ValidationError

from app.clock import ManualClock
from app.domain.reading import Device, DeviceKind, Grade
from app.errors import SensorUnusable
from app.sensors.base import Opened
from app.sensors.cpu_model import TYPICAL_CPU, CpuPower
from app.sensors.discovery import BACKENDS, SensorSettings, discover


class FakeSensor:
    def __init__(self, name, *uuids, kind=DeviceKind.GPU):
        self.name = name
        self.devices = [Device("m", "b", uuid, kind, uuid, Grade.COUNTER) for uuid in uuids]
        self.closed = False

    def close(self):
        self.closed = True


def opener(sensor, unusable=None):
    return lambda *_: Opened(sensor, unusable or {})


def failing(reason):
    def fail(*_):
        raise SensorUnusable(reason)

    return fail


def discovered(**backends):
    return discover(SensorSettings(), ManualClock(), "m", "b", {"nvml": failing("no NVML"), **backends})


def test_every_reason_is_kept_and_nothing_raises():
    found = discovered(rapl=failing("no RAPL"), cpu_model=failing("no /proc"))
    assert found.sensors == ()
    assert found.unusable == {"nvml": "no NVML", "rapl": "no RAPL", "cpu_model": "no /proc"}


def test_reasons_of_single_devices_stand_beside_those_of_backends():
    gpu = FakeSensor("nvml", "GPU-1")
    found = discovered(nvml=opener(gpu, {"nvml/1": "lost"}), rapl=failing("no"), cpu_model=failing("no"))
    assert found.sensors == (gpu,)
    assert found.unusable["nvml/1"] == "lost"


def test_the_modelled_cpu_stands_back_where_rapl_reads():
    rapl = FakeSensor("rapl", "rapl:package-0", kind=DeviceKind.CPU)
    model = FakeSensor("cpu_model", "cpu-model:0", kind=DeviceKind.CPU)
    found = discovered(rapl=opener(rapl), cpu_model=opener(model))
    assert found.sensors == (rapl,)
    assert found.unusable["cpu_model"] == "cpu_model: not used, rapl already reads the energy of this host's CPUs"
    assert model.closed


def test_the_modelled_cpu_steps_in_where_rapl_cannot():
    model = FakeSensor("cpu_model", "cpu-model:0", kind=DeviceKind.CPU)
    assert discovered(rapl=failing("no permission"), cpu_model=opener(model)).sensors == (model,)


def test_a_device_is_offered_by_one_backend_only():
    first, second = FakeSensor("nvml", "GPU-1"), FakeSensor("rapl", "GPU-1", "GPU-2")
    found = discovered(nvml=opener(first), rapl=opener(second), cpu_model=failing("no"))
    assert found.sensors == (first,)
    assert found.unusable["rapl"] == "rapl: not used, nvml already reads GPU-1"


def test_closing_closes_every_sensor():
    sensors = FakeSensor("nvml", "GPU-1"), FakeSensor("rapl", "rapl:package-0", kind=DeviceKind.CPU)
    discovered(nvml=opener(sensors[0]), rapl=opener(sensors[1]), cpu_model=failing("no")).close()
    assert all(sensor.closed for sensor in sensors)


def test_real_backends_on_a_host_with_unreadable_rapl_fall_back_to_the_model(tmp_path):
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0\n")
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\n")
    settings = SensorSettings(backends=("rapl", "cpu_model"), powercap_root=tmp_path, proc_root=tmp_path)
    found = discover(settings, ManualClock(), "m", "b")
    assert [sensor.name for sensor in found.sensors] == ["cpu_model"]
    assert str(tmp_path / "intel-rapl:0" / "energy_uj") in found.unusable["rapl"]


def test_an_unknown_backend_is_refused_with_its_nearest_names():
    with pytest.raises(ValidationError, match=r"backend .nvlm. is unknown; did you mean nvml\?"):
        SensorSettings(backends=("nvlm",))


def test_a_name_like_no_other_is_refused_with_all_names():
    with pytest.raises(ValidationError, match=f"it must be one of {', '.join(BACKENDS)}"):
        SensorSettings(backends=("zzz",))


def test_all_faults_of_the_settings_are_named_at_once():
    with pytest.raises(ValidationError) as caught:
        SensorSettings(backends=("rapl", "rapl"), cpu_architecture="Icelake", idle_watts_per_cpu=-1, colour="red")
    told = str(caught.value)
    assert all(word in told for word in ("named twice", "did you mean Ice Lake", "idle_watts_per_cpu", "colour"))


def test_replay_without_a_recording_is_refused():
    with pytest.raises(ValidationError, match="needs replay_file"):
        SensorSettings(backends=("replay",))


def test_busy_watts_below_idle_watts_are_refused():
    with pytest.raises(ValidationError, match=r"max_watts_per_cpu must be >= idle_watts_per_cpu, got 4\.063 < 9\.0"):
        SensorSettings(idle_watts_per_cpu=9)


def test_cpu_power_comes_from_the_table_unless_given():
    assert SensorSettings().cpu_power() == TYPICAL_CPU
    assert SensorSettings(cpu_architecture="Ice Lake").cpu_power() == CpuPower(767, 3758)
    assert SensorSettings(cpu_architecture="Ice Lake", max_watts_per_cpu=7.5).cpu_power() == CpuPower(767, 7500)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        SensorSettings().backends = ()
