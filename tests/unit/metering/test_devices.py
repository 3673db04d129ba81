"""Which accelerators a process holds, whatever CUDA_VISIBLE_DEVICES calls them."""

import pytest

from app.metering import devices
from app.metering.devices import resolve_visible, visible_accelerators
from tests.stubs.nvml.stub import DRIVER_NOT_LOADED, NvmlStub, StubDevice, StubError, StubScript

PRESENT = ["GPU-aaaa1111", "GPU-aabb2222", "GPU-cccc3333"]


@pytest.mark.parametrize(
    ("listed", "held"),
    [
        ("0", ["GPU-aaaa1111"]),
        ("2,0", ["GPU-cccc3333", "GPU-aaaa1111"]),
        (" 1 , 2 ", ["GPU-aabb2222", "GPU-cccc3333"]),
        ("GPU-cccc3333", ["GPU-cccc3333"]),
        ("GPU-c", ["GPU-cccc3333"]),
        ("GPU-aa", []),  # names two
        ("", []),
        ("-1", []),
        ("1,-1,2", ["GPU-aabb2222"]),  # CUDA stops at the first it does not know
        ("1,7,2", ["GPU-aabb2222"]),
        ("NoDevFiles", []),
    ],
)
def test_entries_are_indices_uuids_or_prefixes_up_to_the_first_unknown(listed: str, held: list[str]):
    assert resolve_visible(listed, PRESENT) == held


def test_unset_means_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_nvml_uuids", lambda: PRESENT)
    assert visible_accelerators({}) == PRESENT
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "1"}) == ["GPU-aabb2222"]
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_a_node_without_gpus_holds_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_nvml_uuids", list)
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "0"}) == []


def test_uuids_are_asked_of_nvml(nvml_here: NvmlStub):
    nvml_here.write(StubScript((StubDevice("GPU-a"), StubDevice("GPU-b"))))
    assert visible_accelerators({}) == ["GPU-a", "GPU-b"]
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "1,0"}) == ["GPU-b", "GPU-a"]


def test_a_driver_that_does_not_answer_means_no_gpu(nvml_here: NvmlStub):
    nvml_here.write(StubScript((StubDevice("GPU-a"),), errors=(StubError("nvmlInit", DRIVER_NOT_LOADED),)))
    assert visible_accelerators({}) == []
