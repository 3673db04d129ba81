"""Which accelerators this process holds, by UUID, whatever CUDA_VISIBLE_DEVICES calls them.

Reads the process's environment and asks NVML once; no CUDA context is created.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A GPU, or an instance of a GPU that MIG has partitioned."""

    uuid: str
    alias: str = ""
    """Of an instance: what drivers before R470 called it, `MIG-GPU-<uuid>/<gpu instance>/<compute instance>`."""
    instances: tuple["Accelerator", ...] = ()
    """Of a partitioned GPU."""


def visible_accelerators(environ: Mapping[str, str] | None = None) -> list[str]:
    """UUIDs of the GPUs that this process may use; empty without NVML, with none visible, or with none reserved.

    A Ray worker that reserved no GPU sees them all (Ray 2.60 leaves the variable alone then), and holds none.

    CUDA_VISIBLE_DEVICES names indices, UUIDs or UUID prefixes; unset means all. CUDA and NVML agree on indices only
    under CUDA_DEVICE_ORDER=PCI_BUS_ID, which Ray's assignment, made through NVML, implies.
    """
    if not _may_use_gpus():
        return []
    listed = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    present = _nvml_accelerators()
    return resolve_visible(",".join(gpu.uuid for gpu in present) if listed is None else listed, present)


def _may_use_gpus() -> bool:
    """False in a Ray worker without a GPU of its own."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return True
    context = ray.get_runtime_context()
    return bool(context.worker.mode != ray.WORKER_MODE or context.get_assigned_resources().get("GPU"))


def resolve_visible(listed: str, present: Sequence[Accelerator]) -> list[str]:
    """The UUIDs among `present` that a CUDA_VISIBLE_DEVICES value names; like CUDA, it stops at the first unknown.

    A process uses one instance and no whole GPU beside it: of several that are named the first counts. A partitioned
    GPU, named as a whole, means its first instance. As NVIDIA's MIG user guide has it; not tried on such a GPU.
    """
    found: list[Accelerator] = []
    for entry in (part.strip() for part in listed.split(",")):
        named = _named(entry, present)
        if named is None:
            break
        found.append(named)
    meant = [accelerator.instances[0] if accelerator.instances else accelerator for accelerator in found]
    instances = set(chain.from_iterable(gpu.instances for gpu in present))
    return [accelerator.uuid for accelerator in meant if accelerator in instances][:1] or [gpu.uuid for gpu in meant]


def _named(entry: str, present: Sequence[Accelerator]) -> Accelerator | None:
    """What one entry names; None for nothing, or more than one thing."""
    if entry.isdigit():
        return present[int(entry)] if int(entry) < len(present) else None
    candidates: Iterable[Accelerator] = chain(present, *(gpu.instances for gpu in present))
    if not entry:
        return None
    matches = [each for each in candidates if each.uuid.startswith(entry) or each.alias == entry]
    return matches[0] if len(matches) == 1 else None


def _nvml_accelerators() -> list[Accelerator]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_accelerator(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _accelerator(pynvml: Any, index: int) -> Accelerator:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid = str(pynvml.nvmlDeviceGetUUID(handle))
    return Accelerator(uuid, instances=tuple(_instances(pynvml, uuid, handle)))


def _instances(pynvml: Any, uuid: str, handle: Any) -> Iterable[Accelerator]:
    try:
        slots = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) if pynvml.nvmlDeviceGetMigMode(handle)[0] else 0
    except pynvml.NVMLError:
        return
    for slot in range(slots):
        try:
            own = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
            place = f"{pynvml.nvmlDeviceGetGpuInstanceId(own)}/{pynvml.nvmlDeviceGetComputeInstanceId(own)}"
            yield Accelerator(str(pynvml.nvmlDeviceGetUUID(own)), f"MIG-{uuid}/{place}")
        except pynvml.NVMLError:
            continue  # a slot that holds no instance
