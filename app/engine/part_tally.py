"""What jobs were charged through slices since the last batch, by worker and part (epoch).

The detail behind a job's postings: exactly what its slices were credited, no more. What a job is charged beside slices
(a worker that waits) belongs to no part. Knows nothing of journals.

    tally = PartTally()
    tally.add(ring, positions, energy_uj, delta, timed=True)
    body["parts"] = tally.records(); tally.clear()
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.account import Account
from app.domain.reading import Delta, Device
from app.engine.ring_watch import WatchedRing


class PartTally:
    """Sums of energy and time by (account, worker, part)."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Account, int, int], list[int]] = {}

    def add(
        self,
        ring: WatchedRing,
        positions: npt.NDArray[np.int64],
        energy_uj: npt.NDArray[np.int64],
        delta: Delta,
        timed: bool,
    ) -> None:
        """Add what slices of `ring` were credited of `delta`; their time too if `timed`."""
        for account, part, part_uj, open_ns in ring.job_parts(positions, energy_uj, delta):
            sums = self._sums.setdefault((account, ring.header.worker, part), [0, 0])
            sums[0] += part_uj
            sums[1] += open_ns if timed else 0

    def records(self) -> list[dict[str, Any]]:
        """The sums for a batch."""
        return [
            {"account": account.labels(), "worker": worker, "part": part, "energy_uj": energy_uj, "time_ns": time_ns}
            for (account, worker, part), (energy_uj, time_ns) in self._sums.items()
            if energy_uj or time_ns
        ]

    def clear(self) -> None:
        """Forget what a batch has taken."""
        self._sums.clear()


def keeps_time(device: Device, ring: WatchedRing, watched: Mapping[str, Device]) -> bool:
    """Whether the time of a ring's slices is counted at `device`: at one of its devices only, the host if there is one.

    A slice is open on all devices of its process at once; counted at each, an hour on eight would be eight.
    """
    its = [(not one.kind.is_host, uuid) for uuid, one in watched.items() if ring.holds(one)]
    return bool(its) and min(its)[1] == device.uuid
