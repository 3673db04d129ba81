"""What one replica counts of its requests, in the terms of the protocol's statistics.

Knows nothing of servers or clocks; durations come in. Counts begin when the replica does.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.units import NS_PER_MS


@dataclass(slots=True)
class Duration:
    """How often, and how long together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


_RECENT = 128


@dataclass(slots=True)
class Latency(Duration):
    """And how long the newest took."""

    recent_ns: list[int] = field(default_factory=list)

    def add(self, ns: int) -> None:
        if len(self.recent_ns) < _RECENT:
            self.recent_ns.append(ns)
        else:
            self.recent_ns[self.count % _RECENT] = ns
        self.count += 1
        self.ns += ns

    @property
    def p95_ms(self) -> float:
        """Of the newest 128, the time that 95 % took at most; 0: none yet."""
        ordered = sorted(self.recent_ns)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] / NS_PER_MS if ordered else 0.0


@dataclass(slots=True)
class ModelCounts:
    """The counts of one model version in one replica."""

    success: Latency = field(default_factory=Latency)
    """Requests answered, from the first byte read to the answer encoded."""
    fail: Duration = field(default_factory=Duration)
    """Requests refused or failed."""
    last_inference_ms: int = 0
    """Wall time of the last success, milliseconds since the epoch; 0: none yet."""
    plain_bytes: int = 0
    """Bytes of the answers that left compressed, before that."""
    coded_bytes: int = 0
    """The same after it: (plain_bytes - coded_bytes) / plain_bytes is the compression ratio."""

    executions: int = 0
    """Runs of the model: fewer than requests where these are joined or answered from what is kept."""
    cache_hit: Duration = field(default_factory=Duration)
    """Requests that were answered from what is kept: how long looking it up took."""
    cache_miss: Duration = field(default_factory=Duration)
    """Requests that were looked up in vain."""
    computing_uj: int = 0
    """Energy that computing the answers of all hits would have used."""
    saved_uj: int = 0
    """Of that; saved_uj / computing_uj is what the cache saves."""

    def durations(self) -> Iterator[tuple[str, Duration]]:
        """Every duration that the protocol has a name for; those that are not measured stay at zero."""
        yield "success", self.success
        yield "fail", self.fail
        yield "cache_hit", self.cache_hit
        yield "cache_miss", self.cache_miss
        for name in ("queue", "compute_input", "compute_infer", "compute_output"):
            yield name, Duration()
