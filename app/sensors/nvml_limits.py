"""Power limits of NVIDIA GPUs through NVML: read, set where that is allowed, and put back.

Knows nothing of jobs or of why a limit is set. Setting one needs root (or CAP_SYS_ADMIN) and a GPU that offers it;
where it is refused `refusal` says why in a sentence and nothing is changed. A limit outlives the process that set it,
so what was found is first noted in a file; whoever opens the GPU next puts it back if that process could not.

    with open_power_limits(["GPU-..."], directory) as limits:
        if not limits.refusal:
            limits.set(200_000)
        ...                                           # on leaving, every GPU has its own limit again

Raises SensorUnusable, and InvalidInput for a limit out of bounds.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from app.errors import InvalidInput, SensorUnusable
from app.sensors.nvml_errors import translated

Answer = TypeVar("Answer")
NOTES = "power-limits"
"""Directory, below the state directory, of notes on limits that are to be put back."""


class PowerLimits:
    """The limits of some GPUs, held for one piece of work at a time. One thread."""

    def __init__(self, vendor: Any, handles: Mapping[str, Any], notes: Path) -> None:
        self._vendor, self._handles, self._notes = vendor, handles, notes
        bounds = [self._asked(uuid, vendor.nvmlDeviceGetPowerManagementLimitConstraints) for uuid in handles]
        self.lowest_mw: int = max(low for low, _ in bounds)
        self.highest_mw: int = min(high for _, high in bounds)
        self._found_mw = {uuid: self._noted_mw(uuid) or self._limit_mw(uuid) for uuid in handles}
        self.refusal = self._try_out()
        """Why limits cannot be set here, for people; empty: they can."""

    @property
    def found_mw(self) -> int:
        """The lowest limit of these GPUs as it was found: what they go back to."""
        return min(self._found_mw.values())

    def set(self, limit_mw: int) -> None:
        """Give every GPU this limit. Raises InvalidInput out of bounds, SensorUnusable where it is refused."""
        if not self.lowest_mw <= limit_mw <= self.highest_mw:
            raise InvalidInput(
                f"power limit must be {self.lowest_mw / 1000:g} to {self.highest_mw / 1000:g} W on these GPUs, "
                f"got {limit_mw / 1000:g} W"
            )
        for uuid in self._handles:
            self._note(uuid)
            self._asked(uuid, lambda handle: self._vendor.nvmlDeviceSetPowerManagementLimit(handle, limit_mw))

    def close(self) -> None:
        """Put every limit back that was changed, and let NVML go. A GPU that refuses keeps its note."""
        for uuid, limit_mw in self._found_mw.items():
            with contextlib.suppress(SensorUnusable):
                self._put_back(uuid, limit_mw)
        with contextlib.suppress(self._vendor.NVMLError):
            self._vendor.nvmlShutdown()

    def __enter__(self) -> "PowerLimits":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- one GPU ---------------------------------------------------------------------------------------------------

    def _try_out(self) -> str:
        """Set every limit to what it was found to be: that shows whether it may be set, and mends what was left."""
        for uuid, limit_mw in self._found_mw.items():
            try:
                self._put_back(uuid, limit_mw, always=True)
            except SensorUnusable as error:
                return str(error)
        return ""

    def _put_back(self, uuid: str, limit_mw: int, always: bool = False) -> None:
        if always or self._limit_mw(uuid) != limit_mw:
            self._asked(uuid, lambda handle: self._vendor.nvmlDeviceSetPowerManagementLimit(handle, limit_mw))
        (self._notes / uuid).unlink(missing_ok=True)

    def _limit_mw(self, uuid: str) -> int:
        return int(self._asked(uuid, self._vendor.nvmlDeviceGetPowerManagementLimit))

    def _noted_mw(self, uuid: str) -> int:
        """The limit that a process before this one did not put back; 0: there is none."""
        try:
            return int((self._notes / uuid).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def _note(self, uuid: str) -> None:
        self._notes.mkdir(parents=True, exist_ok=True)
        (self._notes / uuid).write_text(str(self._found_mw[uuid]), encoding="ascii")

    def _asked(self, uuid: str, call: Callable[[Any], Answer]) -> Answer:
        try:
            return call(self._handles[uuid])
        except self._vendor.NVMLError as error:
            raise translated(error, f"the power limit of {uuid}") from error


def open_power_limits(uuids: Sequence[str], state_dir: Path) -> PowerLimits:
    """The limits of these GPUs; notes are kept below `state_dir`. Raises SensorUnusable if they cannot even be read.

    An instance of a partitioned GPU has no limit of its own, and is refused as NVML refuses it.
    """
    try:
        import pynvml
    except ImportError as error:
        raise SensorUnusable("nvml: the module pynvml is missing; pip install nvidia-ml-py") from error
    if not uuids:
        raise SensorUnusable("nvml: this process holds no GPU whose power limit could be set")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise translated(error, "starting NVML") from error
    try:
        handles = {uuid: pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids}
        return PowerLimits(pynvml, handles, state_dir / NOTES)
    except pynvml.NVMLError as error:
        pynvml.nvmlShutdown()
        raise translated(error, "looking up a GPU") from error
    except SensorUnusable:
        pynvml.nvmlShutdown()
        raise
