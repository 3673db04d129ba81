"""Slices: intervals of work with their weights, and the processes that did it.

Knows nothing of how slices reach the meter (the ring does that) nor of energy.
"""

from dataclasses import dataclass

from app.domain.account import Account


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """A process for good: a pid is reused, a pid with its start time is not."""

    pid: int
    started_ticks: int
    """Field 22 of /proc/<pid>/stat: clock ticks after boot."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Work of one process for one account over [start_ns, end_ns); still open while `end_ns` is None.

    `weight` > 0 is the process's own unit (rows, tokens, FLOPs); weights compare only within a process.
    """

    receipt_id: str
    account: Account
    process: ProcessKey
    start_ns: int
    end_ns: int | None
    weight: float


@dataclass(frozen=True, slots=True)
class Resident:
    """A process of ours that holds devices: what `warm` is charged to while it has no slice."""

    process: ProcessKey
    account: Account
    """The account of its uncovered time: `warm` of a model version, or the `job` it belongs to."""
    device_uuids: frozenset[str]
    """Accelerators it holds; host devices are implied."""
