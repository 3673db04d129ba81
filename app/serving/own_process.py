"""What a replica sets in its process before it answers: it has the process to itself.

Knows nothing of models. Training workers, the console and whoever uses a replica's class in another process keep
Python's and uvicorn's ways.
"""

import gc

from app.serving.joined_writes import join_writes

GC_THRESHOLD = 20_000
"""New objects between two collections of the youngest. Python's 700 is passed every few requests; with 64 of them open
at a time their objects grow old before they are done, and collecting took a twelfth of the replica's time."""


def settle_in() -> None:
    """Answers leave in one write, and garbage is looked for less often. A second call changes nothing."""
    join_writes()
    gc.set_threshold(GC_THRESHOLD)
