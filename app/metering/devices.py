"""Which accelerators this process holds, by UUID, whatever CUDA_VISIBLE_DEVICES calls them.

Reads the process's environment and asks NVML once; no CUDA context is created.
"""

import os
import sys
from collections.abc import Mapping, Sequence


def visible_accelerators(environ: Mapping[str, str] | None = None) -> list[str]:
    """UUIDs of the GPUs that this process may use; empty without NVML, with none visible, or with none reserved.

    A Ray worker that reserved no GPU sees them all (Ray 2.60 leaves the variable alone then), and holds none.

    CUDA_VISIBLE_DEVICES names indices, UUIDs or UUID prefixes; unset means all. CUDA and NVML agree on indices only
    under CUDA_DEVICE_ORDER=PCI_BUS_ID, which Ray's assignment, made through NVML, implies.
    """
    if not _may_use_gpus():
        return []
    listed = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    present = _nvml_uuids()
    return present if listed is None else resolve_visible(listed, present)


def _may_use_gpus() -> bool:
    """False in a Ray worker without a GPU of its own."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return True
    context = ray.get_runtime_context()
    return bool(context.worker.mode != ray.WORKER_MODE or context.get_assigned_resources().get("GPU"))


def resolve_visible(listed: str, present: Sequence[str]) -> list[str]:
    """The UUIDs among `present` that a CUDA_VISIBLE_DEVICES value names; like CUDA, it stops at the first unknown."""
    found: list[str] = []
    for entry in (part.strip() for part in listed.split(",")):
        if entry.isdigit() and int(entry) < len(present):
            found.append(present[int(entry)])
            continue
        matches = [uuid for uuid in present if entry and uuid.startswith(entry)]
        if len(matches) != 1:
            break
        found.append(matches[0])
    return found


def _nvml_uuids() -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
