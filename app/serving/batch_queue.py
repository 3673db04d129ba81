"""Requests that wait for a batch: which of them leave together, and when.

Pure: time comes in with each call. Knows nothing of tensors, event loops or runners; requests of one `kind` may be
joined, and what has no kind leaves alone.

    queue = BatchQueue(max_queued=1024)
    entry = queue.add(request, kind, rows, now_s)          # raises Unavailable when it is full
    queue.due_s(limits)                                    # when the next batch leaves; None: nobody waits
    batch = queue.take(limits)                             # the entries of that batch, oldest first
    queue.drop(entry)                                      # its client has left

A batch leaves once it has `max_rows` rows, or its oldest request has waited `max_wait_s`. Batches leave in the order in
which they fell due, so that none waits for ever behind a stream of others.

Where nobody is to wait (`max_wait_s` 0), clients that ask again once they are answered would fall out of step: the
first of eight to come back leaves alone, and seven wait for it. So after `queue.answered(requests, took_s, now_s)` of
several the next batch waits until as many are there again, for `_GRACE` of what the last one took at most.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.errors import Unavailable
from app.policy.batching import BatchLimits

Item = TypeVar("Item")

_GRACE, _MOST_GRACE_S = 1 / 16, 0.01


@dataclass(slots=True, eq=False)
class Entry(Generic[Item]):
    """One request that waits."""

    item: Item
    kind: Hashable
    rows: int
    arrived_s: float


@dataclass(slots=True)
class _Group(Generic[Item]):
    """What waits of one kind, in order of arrival."""

    rows: int = 0
    entries: deque[Entry[Item]] = field(default_factory=deque)

    def due_s(self, limits: BatchLimits) -> float:
        oldest_s = self.entries[0].arrived_s
        return oldest_s if self.rows >= limits.max_rows else oldest_s + limits.max_wait_s


class BatchQueue(Generic[Item]):
    """Bounded by `max_queued` requests."""

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._groups: dict[Hashable, _Group[Item]] = {}
        self._count = 0
        self._expected, self._until_s = 0, 0.0
        """So many are to be there again before the next batch leaves, or it is that late."""

    def __len__(self) -> int:
        return self._count

    def add(self, item: Item, kind: Hashable | None, rows: int, now_s: float) -> Entry[Item]:
        """Let a request wait from now on. Raises Unavailable when `max_queued` do so already."""
        if self._count >= self._max_queued:
            raise Unavailable(
                f"{self._count} requests wait already, at most {self._max_queued} do (batching.max_queued); "
                "try again in a moment"
            )
        entry = Entry(item, object() if kind is None else kind, rows, now_s)
        group = self._groups.setdefault(entry.kind, _Group())
        group.entries.append(entry)
        group.rows += rows
        self._count += 1
        return entry

    def drop(self, entry: Entry[Item]) -> None:
        """Forget a request; nothing happens when it has left already."""
        group = self._groups.get(entry.kind)
        if group is None or entry not in group.entries:
            return
        group.entries.remove(entry)
        self._forget(group, entry)

    def due_s(self, limits: BatchLimits) -> float | None:
        """When the next batch is to leave, often in the past; None when nobody waits."""
        due_s = min((group.due_s(limits) for group in self._groups.values()), default=None)
        if due_s is None or limits.max_wait_s > 0 or self._count >= min(self._expected, limits.max_rows):
            return due_s
        return max(due_s, self._until_s)

    def answered(self, requests: int, took_s: float, now_s: float) -> None:
        """A batch of `requests` that took `took_s` has its answers `now_s`: who got them may ask again at once."""
        if requests > 1:
            self._expected = self._count + requests
            self._until_s = now_s + min(_GRACE * took_s, _MOST_GRACE_S)
        else:
            self._expected = 0

    def take(self, limits: BatchLimits) -> list[Entry[Item]]:
        """The batch that is due first, now; a request of more than `max_rows` alone. Empty when nobody waits."""
        batch: list[Entry[Item]] = []
        if not self._groups:
            return batch
        group = min(self._groups.values(), key=lambda group: group.due_s(limits))
        rows = 0
        while group.entries and (not batch or rows + group.entries[0].rows <= limits.max_rows):
            entry = group.entries.popleft()
            rows += entry.rows
            batch.append(entry)
            self._forget(group, entry)
        return batch

    def take_all(self) -> list[Entry[Item]]:
        """Everything that waits; nobody does any more."""
        waiting = [entry for group in self._groups.values() for entry in group.entries]
        self._groups.clear()
        self._count = 0
        return waiting

    def _forget(self, group: _Group[Item], entry: Entry[Item]) -> None:
        self._count -= 1
        group.rows -= entry.rows
        if not group.entries:
            del self._groups[entry.kind]
