"""How many workers of a job find room, and whether their number shall change.

Pure: resources come in as numbers. Knows nothing of Ray. Resources are by name (`CPU`, `GPU`, ...), in the units that
reservations are made in; fractions count.

    room = workers_that_fit({"node-a": {"CPU": 2.0}, "node-b": {"CPU": 0.5}}, {"CPU": 0.5})        # 5
    number_of_workers(running=2, room=room, least=1, most=4)                                      # 4
"""

import math
from collections.abc import Mapping

Resources = Mapping[str, float]

_ROUNDING = 1e-6  # reservations are kept in ten-thousandths


def workers_that_fit(free: Mapping[str, Resources], per_worker: Resources) -> int | None:
    """Workers that nodes with `free` resources hold, each on one node; None: workers that need nothing fit anywhere."""
    needed = {name: amount for name, amount in per_worker.items() if amount > 0}
    if not needed:
        return None
    return sum(
        min(math.floor(resources.get(name, 0.0) / amount + _ROUNDING) for name, amount in needed.items())
        for resources in free.values()
    )


def number_of_workers(running: int, room: int | None, least: int, most: int) -> int:
    """How many shall run: what finds room, at most `most`. With room for less than `least` nothing changes.

    `room` counts what the `running` workers hold.
    """
    possible = most if room is None else min(room, most)
    return possible if possible >= least else running
