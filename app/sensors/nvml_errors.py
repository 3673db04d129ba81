"""NVML's errors in our words: the one table, and which of them call for what.

Knows nothing of calls or devices. `translated` makes the error that the house knows; a test walks the vendor's codes.
"""

from collections.abc import Mapping
from typing import Any

from app.errors import SensorUnusable

REASONS: Mapping[int, str] = {
    1: "NVML is not initialised (any more); open the sensor again",
    2: "NVML refuses an argument; driver and nvidia-ml-py may not fit together, update the older one",
    3: "this GPU or driver does not offer it",
    4: "no permission; run as a user that may open /dev/nvidiactl, or lift the driver's restriction on profiling",
    5: "NVML was initialised twice; restart the process",
    6: "NVML does not find it",
    7: "NVML's answer is larger than the room given; update nvidia-ml-py",
    8: "a GPU lacks external power; check its power cables",
    9: "the NVIDIA driver is not loaded; try `nvidia-smi`, then `modprobe nvidia`",
    10: "NVML did not answer in time; the GPU may hang, see `dmesg` for Xid errors",
    11: "the kernel has an interrupt problem with a GPU; see `dmesg`",
    12: "libnvidia-ml.so.1 is not found; install the NVIDIA driver, or in a container use the NVIDIA container runtime",
    13: "the installed driver is too old to know this function; update it",
    14: "the GPU's infoROM is corrupted; see `nvidia-smi -q`",
    15: "the GPU is lost: it fell off the bus; see `dmesg` for Xid errors, then reset it or reboot",
    16: "the GPU must be reset before it can be used: `nvidia-smi --gpu-reset`, or reboot",
    17: "the operating system (or a cgroup) blocks the call; give the process access to /dev/nvidia*",
    18: "driver and libnvidia-ml.so.1 have different versions; reboot or reload the driver after its update",
    19: "the GPU is in use by somebody who excludes others",
    20: "the host has too little memory for NVML",
    21: "NVML has no data for it yet",
    22: "a vGPU does not offer it while ECC is on",
    23: "NVML lacks resources for the call",
    24: "the GPU does not know this frequency",
    25: "nvidia-ml-py and the driver differ about a structure; update the older one",
    26: "the driver has withdrawn this function; update nvidia-ml-py",
    27: "the driver is not ready yet; try again in some seconds",
    28: "NVML finds no GPU; see `nvidia-smi`",
    29: "the GPU is in a state that forbids the call",
    30: "the GPU does not know this kind of reset",
    999: "NVML fails for an unknown reason; see `nvidia-smi` and `dmesg`",
}
"""Every error code of nvidia-ml-py 13 and what a person can do about it."""

NEVER_OFFERED = frozenset({3, 13, 22, 26})
"""The driver refuses the call itself, not this attempt of it: look for another way to read."""

HANDLE_IS_STALE = frozenset({1, 2, 6, 10, 15, 16, 18, 27, 999})
"""NVML or the device went away under us: opening it anew may help, and nothing else will."""

UNINITIALIZED = 1
NO_SAMPLES = 6


def translated(error: Any, doing: str) -> SensorUnusable:
    """What NVML's `error` means while `doing`, for people."""
    reason = REASONS.get(error.value, "this driver answers with an error that nvidia-ml-py does not know; update it")
    return SensorUnusable(f"nvml: {doing}: {reason} (NVML error {error.value}: {error})")
