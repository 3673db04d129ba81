"""The power limit of a worker's accelerators while it trains, put back when it ends however it ends.

Knows nothing of Ray. Where a limit may not be set the job runs without, and says so.

    with held_limit(job.resources.power_limit_w, visible_accelerators(), state_dir, print):
        train(...)

Raises InvalidInput for a limit that the accelerators do not offer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.errors import SensorUnusable
from app.sensors.nvml_limits import open_power_limits


@contextmanager
def held_limit(limit_w: float, devices: Sequence[str], state_dir: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold `devices` (UUIDs) to `limit_w`; 0: as they are."""
    if not limit_w:
        yield
        return
    try:
        limits = open_power_limits(devices, state_dir)
    except SensorUnusable as error:
        tell(f"power_limit_w = {limit_w:g} is not set: {error}")
        yield
        return
    with limits:
        if limits.refusal:
            tell(f"power_limit_w = {limit_w:g} is not set: {limits.refusal}")
        else:
            limits.set(round(limit_w * 1000))
        yield
