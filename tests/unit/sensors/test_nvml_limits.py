"""Power limits on the compiled stand-in: set, put back, refused, and mended after a process that died."""

from pathlib import Path

import pytest

from app.errors import InvalidInput, SensorUnusable
from app.sensors.nvml_limits import NOTES, open_power_limits
from tests.stubs.nvml.stub import NO_PERMISSION, NOT_SUPPORTED, NvmlStub, StubDevice, StubError, StubScript

SET = "nvmlDeviceSetPowerManagementLimit"
TWO = (StubDevice("GPU-a", limit_mw=400_000), StubDevice("GPU-b", limit_mw=300_000))


def limit_mw(index: int) -> int:
    import pynvml

    pynvml.nvmlInit()
    try:
        return pynvml.nvmlDeviceGetPowerManagementLimit(pynvml.nvmlDeviceGetHandleByIndex(index))
    finally:
        pynvml.nvmlShutdown()


@pytest.fixture(autouse=True)
def fresh_limits(nvml_here: NvmlStub) -> None:
    """The library is shared by the tests of a process, and keeps what was set."""
    import pynvml

    nvml_here.write(StubScript(TWO))
    pynvml.nvmlInit()
    for index, device in enumerate(TWO):
        pynvml.nvmlDeviceSetPowerManagementLimit(pynvml.nvmlDeviceGetHandleByIndex(index), device.limit_mw)
    pynvml.nvmlShutdown()


def test_a_limit_is_set_on_every_gpu_and_each_gets_its_own_back(tmp_path: Path) -> None:
    with open_power_limits(["GPU-a", "GPU-b"], tmp_path) as limits:
        # A quarter of the highest is the lowest that the stand-in takes: 100 and 75 W.
        assert (limits.refusal, limits.lowest_mw, limits.highest_mw, limits.found_mw) == ("", 100_000, 300_000, 300_000)
        limits.set(150_000)
        assert [limit_mw(0), limit_mw(1)] == [150_000, 150_000]
        assert sorted(note.name for note in (tmp_path / NOTES).iterdir()) == ["GPU-a", "GPU-b"]
    assert [limit_mw(0), limit_mw(1)] == [400_000, 300_000]
    assert not list((tmp_path / NOTES).iterdir())


def test_a_limit_out_of_bounds_is_refused_with_the_bounds(tmp_path: Path) -> None:
    with (
        open_power_limits(["GPU-a"], tmp_path) as limits,
        pytest.raises(InvalidInput, match=r"100 to 400 W.*got 450 W"),
    ):
        limits.set(450_000)


def test_without_permission_it_says_so_and_changes_nothing(nvml_here: NvmlStub, tmp_path: Path) -> None:
    nvml_here.write(StubScript(TWO, errors=(StubError(SET, NO_PERMISSION),)))
    with open_power_limits(["GPU-a"], tmp_path) as limits:
        assert "no permission" in limits.refusal
        assert "GPU-a" in limits.refusal
        with pytest.raises(SensorUnusable, match="no permission"):
            limits.set(200_000)
    assert limit_mw(0) == 400_000


def test_a_limit_left_by_a_process_that_died_is_put_back_by_the_next(tmp_path: Path) -> None:
    died = open_power_limits(["GPU-a"], tmp_path)
    died.set(120_000)
    with open_power_limits(["GPU-a"], tmp_path) as limits:
        assert limits.found_mw == 400_000
        assert limit_mw(0) == 400_000
    assert limit_mw(0) == 400_000


def test_a_gpu_without_limits_and_no_gpu_at_all_are_refused(nvml_here: NvmlStub, tmp_path: Path) -> None:
    call = "nvmlDeviceGetPowerManagementLimitConstraints"
    nvml_here.write(StubScript(TWO, errors=(StubError(call, NOT_SUPPORTED),)))
    with pytest.raises(SensorUnusable, match="does not offer it"):
        open_power_limits(["GPU-a"], tmp_path)
    with pytest.raises(SensorUnusable, match="holds no GPU"):
        open_power_limits([], tmp_path)
