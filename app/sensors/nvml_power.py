"""Power of a GPU through NVML: the instant reading where there is one, and what may be compared with the counter.

`instant_power` finds once which field a GPU offers: power of the GPU, else of its module, else nvmlDeviceGetPowerUsage,
which from Ampere on (GA100 excepted) is the mean of the last second.
"""

from collections.abc import Callable
from typing import Any

# nvml.h of nvidia-ml-py 13: NVML_FI_DEV_POWER_INSTANT, NVML_POWER_SCOPE_GPU, NVML_POWER_SCOPE_MODULE
_POWER_INSTANT = 186
_SCOPE_NOTES = {
    0: "",
    1: "power is told for the whole module only; the energy counter is compared with that",
}
_USAGE_NOTE = "no instant power is offered; the energy counter is compared with nvmlDeviceGetPowerUsage"
_NO_POWER_NOTE = "no power is told; the energy counter cannot be compared with anything"


def instant_power(vendor: Any, handle: Any) -> tuple[Callable[[Any], int | None], str]:
    """How to ask a GPU (by its handle) for its power now, in mW, and what to say of that way; never raises."""
    for scope, note in _SCOPE_NOTES.items():
        if _field(vendor, handle, scope) is not None:
            return lambda now, scope=scope: _field(vendor, now, scope), note
    if usage(vendor, handle) is not None:
        return lambda now: usage(vendor, now), _USAGE_NOTE
    return lambda now: None, _NO_POWER_NOTE


def usage(vendor: Any, handle: Any) -> int | None:
    """nvmlDeviceGetPowerUsage in mW; None where it is refused."""
    try:
        return int(vendor.nvmlDeviceGetPowerUsage(handle))
    except vendor.NVMLError:
        return None


def _field(vendor: Any, handle: Any, scope: int) -> int | None:
    try:
        value = vendor.nvmlDeviceGetFieldValues(handle, [(_POWER_INSTANT, scope)])[0]
    except vendor.NVMLError:
        return None
    return int(value.value.uiVal) if value.nvmlReturn == 0 else None
