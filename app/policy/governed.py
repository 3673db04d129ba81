"""What a governor has found, in the same words whatever it governs: its limits, what each costs, the best so far.

Pure. Knows nothing of governors; batching.py and concurrency.py fill it.
"""

from app.domain.decision import Part


class Tried(Part):
    """One limit that was measured."""

    name: str
    """For people: `16 rows, 6 ms`, `24 sequences`."""
    uj: float
    """Microjoules per unit."""
    meets: bool
    """The objective, with the doubt against it."""


class Governed(Part):
    """All of them."""

    unit: str
    """`row` or `token`."""
    objective: str
    """As people would say it."""
    first: str
    """Name of the limit that it began with."""
    best: str
    """Name of the best so far."""
    tried: tuple[Tried, ...] = ()
