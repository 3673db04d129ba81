"""Which accelerators a process holds, whatever CUDA_VISIBLE_DEVICES calls them."""

import pytest

from app.metering import devices
from app.metering.devices import Accelerator, resolve_visible, visible_accelerators
from tests.stubs.nvml.stub import DRIVER_NOT_LOADED, NvmlStub, StubDevice, StubError, StubInstance, StubScript

PRESENT = [Accelerator("GPU-aaaa1111"), Accelerator("GPU-aabb2222"), Accelerator("GPU-cccc3333")]
PARTITIONED = [
    Accelerator(
        "GPU-aaaa1111",
        instances=(
            Accelerator("MIG-1111-a", "MIG-GPU-aaaa1111/1/0"),
            Accelerator("MIG-2222-b", "MIG-GPU-aaaa1111/2/0"),
        ),
    ),
    Accelerator("GPU-bbbb2222"),
]


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


@pytest.mark.parametrize(
    ("listed", "held"),
    [
        ("MIG-2222-b", ["MIG-2222-b"]),
        ("MIG-2", ["MIG-2222-b"]),
        ("MIG-GPU-aaaa1111/2/0", ["MIG-2222-b"]),  # as before driver R470
        ("MIG-GPU-aaaa1111/7/0", []),
        ("MIG-2222-b,MIG-1111-a", ["MIG-2222-b"]),  # a process can use one instance
        ("1", ["GPU-bbbb2222"]),
        ("0", ["MIG-1111-a"]),  # a partitioned GPU stands for its first instance
        ("1,0", ["MIG-1111-a"]),  # and hides whole GPUs
        ("MIG-", []),  # names two
    ],
)
def test_entries_may_be_instances_of_a_partitioned_gpu(listed: str, held: list[str]):
    assert resolve_visible(listed, PARTITIONED) == held


def test_unset_means_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_nvml_accelerators", lambda: PRESENT)
    assert visible_accelerators({}) == [gpu.uuid for gpu in PRESENT]
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "1"}) == ["GPU-aabb2222"]
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_a_node_without_gpus_holds_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_nvml_accelerators", list)
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "0"}) == []


def test_uuids_are_asked_of_nvml(nvml_here: NvmlStub):
    nvml_here.write(StubScript((StubDevice("GPU-a"), StubDevice("GPU-b"))))
    assert visible_accelerators({}) == ["GPU-a", "GPU-b"]
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "1,0"}) == ["GPU-b", "GPU-a"]


def test_a_driver_that_does_not_answer_means_no_gpu(nvml_here: NvmlStub):
    nvml_here.write(StubScript((StubDevice("GPU-a"),), errors=(StubError("nvmlInit", DRIVER_NOT_LOADED),)))
    assert visible_accelerators({}) == []


def test_instances_are_asked_of_nvml(nvml_here: NvmlStub):
    instances = (StubInstance("MIG-x", gpu_instance=3), StubInstance("MIG-y", gpu_instance=4))
    nvml_here.write(StubScript((StubDevice("GPU-a", mig_slots=7, instances=instances), StubDevice("GPU-b"))))
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "MIG-GPU-a/4/0"}) == ["MIG-y"]
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "MIG-x"}) == ["MIG-x"]
    assert visible_accelerators({}) == ["MIG-x"]
