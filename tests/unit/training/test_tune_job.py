"""The search on a real job in this process: its steps, its meter, its advice; and a limit held while it trains."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.domain.reading import CounterReading, Device, DeviceKind, Grade, PowerReading, Reading
from app.errors import InvalidInput, SensorUnusable
from app.policy.power_search import PowerSetting, Window
from app.training.held_limit import held_limit
from app.training.job import TrainJob, parse_job
from app.training.tune_job import CounterMeter, JobWork, advice
from app.training.tuning import Tuning
from tests.stubs.nvml.stub import NO_PERMISSION, NvmlStub, StubDevice, StubError, StubScript


def job() -> TrainJob:
    return parse_job(
        {
            "name": "tiny",
            "model": {"architecture": "mlp", "sizes": [64, 32, 10], "input_scale": 16},
            "data": {"source": "builtin:digits"},
            "loss": "cross_entropy",
            "epochs": 2,
            "batch_size": 64,
            "workers": 2,
        },
        "test",
    )


def device(uuid: str, kind: DeviceKind, parent: str = "") -> Device:
    return Device(machine="m", boot="b", uuid=uuid, kind=kind, name="", grade=Grade.COUNTER, vendor="", parent=parent)


class Sensor:
    name = "scripted"

    def __init__(self, devices: Sequence[Device], readings: dict[str, Reading]) -> None:
        self.devices, self.readings = devices, readings

    def read(self, uuid: str) -> Reading:
        return self.readings[uuid]


CPU = next(kind for kind in DeviceKind if kind.is_host)


def test_a_jobs_steps_are_run_with_any_batch_size_over_the_end_of_an_epoch(tmp_path: Path) -> None:
    work = JobWork(job(), tmp_path, "cpu")
    for size in (512, 1000):
        work.begin(size)
        samples = [work.step() for _ in range(5)]
        work.finish()
        # 1438 rows to learn from: two or three steps an epoch, the last of them short.
        assert samples[0] == size
        assert sum(samples) > 1438


def test_the_meter_adds_the_host_and_the_jobs_gpus_alone() -> None:
    devices = [
        device("cpu", CPU),
        device("GPU-a", DeviceKind.GPU),
        device("GPU-b", DeviceKind.GPU),
        device("MIG-1", DeviceKind.GPU, parent="GPU-a"),
    ]
    readings: dict[str, Reading] = {each.uuid: CounterReading(0, 10**place) for place, each in enumerate(devices)}
    sensor = Sensor(devices, readings)
    assert CounterMeter([sensor], ["GPU-a", "MIG-1"]).energy_uj() == 11
    assert CounterMeter([sensor], []).energy_uj() == 1


def test_a_device_with_power_alone_and_a_host_with_nothing_are_refused() -> None:
    sensor = Sensor([device("GPU-a", DeviceKind.GPU)], {"GPU-a": PowerReading(0, 100)})
    with pytest.raises(SensorUnusable, match="GPU-a tells power and no energy"):
        CounterMeter([sensor], ["GPU-a"]).energy_uj()
    with pytest.raises(SensorUnusable, match="joulekeeper probe"):
        CounterMeter([sensor], [])


def test_advice_is_the_lines_of_a_job_file() -> None:
    first = Window(PowerSetting(64, 300_000), 0.01, 2e6, 2.0)
    best = Window(PowerSetting(128, 175_000), 0.01, 1.5e6, 1.5)
    found = Tuning([first, best], best, 45)
    assert advice(found, limited=True) == [
        "measured 2 of 45 settings; the best costs 25.0% less than the job as it is",
        "batch_size: 128",
        "resources: {power_limit_w: 175}   # beside cpu and gpu",
    ]
    assert advice(found, limited=False)[1:] == ["batch_size: 128"]


def limit_mw() -> int:
    import pynvml

    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetPowerManagementLimit(pynvml.nvmlDeviceGetHandleByIndex(0)))
    finally:
        pynvml.nvmlShutdown()


@pytest.fixture
def gpu(nvml_here: NvmlStub) -> NvmlStub:
    """One GPU of 400 W, at its highest limit: the library keeps what an earlier test of this process set."""
    import pynvml

    nvml_here.write(StubScript((StubDevice("GPU-a", limit_mw=400_000),)))
    pynvml.nvmlInit()
    pynvml.nvmlDeviceSetPowerManagementLimit(pynvml.nvmlDeviceGetHandleByIndex(0), 400_000)
    pynvml.nvmlShutdown()
    return nvml_here


def test_a_limit_is_held_while_a_job_trains_and_put_back_when_it_fails(gpu: NvmlStub, tmp_path: Path) -> None:
    told: list[str] = []

    def fail_under_limit() -> None:
        with held_limit(175, ["GPU-a"], tmp_path, told.append):
            assert limit_mw() == 175_000
            raise KeyError("training failed")

    with pytest.raises(KeyError):
        fail_under_limit()
    assert limit_mw() == 400_000
    assert told == []


def test_where_a_limit_may_not_be_set_the_job_runs_without_and_says_so(gpu: NvmlStub, tmp_path: Path) -> None:
    told: list[str] = []
    error = StubError("nvmlDeviceSetPowerManagementLimit", NO_PERMISSION)
    gpu.write(StubScript((StubDevice("GPU-a", limit_mw=400_000),), errors=(error,)))
    for devices, limit_w in ((["GPU-a"], 175.0), ([], 175.0), ([], 0.0)):
        with held_limit(limit_w, devices, tmp_path, told.append):
            assert limit_mw() == 400_000
    assert [text.split(":")[0] for text in told] == ["power_limit_w = 175 is not set"] * 2
    assert "no permission" in told[0]
    assert "holds no GPU" in told[1]


def test_a_limit_on_a_gpu_that_others_share_is_refused_with_the_job_file() -> None:
    raw = job().model_dump(mode="json") | {"resources": {"cpu": 1, "gpu": 0.5, "power_limit_w": 175}}
    with pytest.raises(InvalidInput, match=r"power_limit_w = 175 needs whole accelerators, got gpu = 0.5"):
        parse_job(raw, "test")
