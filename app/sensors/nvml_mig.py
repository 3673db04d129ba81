"""Instances of a GPU that MIG has partitioned: devices with a parent, whose counter they share.

NVML tells neither energy, power nor utilisation of an instance, only its memory, its processes and its size. Which
instances there are is fixed when NVML is opened; who partitions a GPU anew restarts the meter of its node.
"""

from dataclasses import replace
from typing import Any

from app.domain.reading import Device, Grade


def instances_of(vendor: Any, parent: Device, handle: Any) -> list[tuple[Device, Any]]:
    """The instances of one GPU with their handles; empty without MIG. Never raises."""
    try:
        if not vendor.nvmlDeviceGetMigMode(handle)[0]:
            return []
        slots = vendor.nvmlDeviceGetMaxMigDeviceCount(handle)
    except vendor.NVMLError:
        return []
    found = (_instance(vendor, parent, handle, slot, slots) for slot in range(slots))
    return [instance for instance in found if instance is not None]


def _instance(vendor: Any, parent: Device, handle: Any, slot: int, slots: int) -> tuple[Device, Any] | None:
    try:
        own = vendor.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
        uuid = vendor.nvmlDeviceGetUUID(own)
    except vendor.NVMLError:
        return None  # a slot that holds no instance
    share = _compute_share(vendor, own, slots)
    name = f"{parent.name} MIG instance ({share:.0%})"
    device = replace(
        parent, uuid=uuid, name=name, grade=Grade.APPORTIONED, parent=parent.uuid, compute_share=share, wraps_at_uj=None
    )
    return device, own


def _compute_share(vendor: Any, own: Any, slots: int) -> float:
    """Compute slices of the instance over all that the GPU has, which are as many as it can have instances."""
    try:
        slices = vendor.nvmlDeviceGetAttributes(own).computeInstanceSliceCount
    except vendor.NVMLError:
        slices = 1
    return float(min(max(slices, 1) / slots, 1.0))
