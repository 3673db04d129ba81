"""What a node's meter pushes by OTLP: its own postings and devices, as counters that outlive the meter.

Does nothing, and keeps no totals, where the OTEL_* variables ask for no push. Knows nothing of Ray.

    export = NodeExport(journal, path, lock, g_per_kwh, clock)
    export.add(batch)                    # under `lock`, after the journal has it
    export.close()                       # after the closing batch
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from app.clock import Clock
from app.engine.node_snapshot import node_snapshot
from app.engine.node_totals import NodeTotals
from app.ledger.journal import Batch, Journal
from app.telemetry.environment import push_protocol
from app.telemetry.exporter import MetricsPush
from app.telemetry.instruments import METRICS
from app.telemetry.snapshot import LedgerSnapshot


class NodeExport:
    """The exporter of one journal. `lock` guards the journal."""

    def __init__(
        self,
        journal: Journal,
        path: Path,
        lock: AbstractContextManager[object],
        g_per_kwh: Callable[[], float],
        clock: Clock,
    ) -> None:
        """`g_per_kwh`: what a kWh emits now, PUE included."""
        self._journal, self._lock = journal, lock
        self._totals: NodeTotals | None = None
        self._push: MetricsPush | None = None
        if push_protocol("metrics") is not None:
            self._totals = totals = NodeTotals(path, journal, g_per_kwh)
            own = [metric for metric in METRICS if metric.pushed_by == "node"]
            sender = {"service.instance.id": journal.meter}
            self._push = MetricsPush(self.snapshot, own, sender, lambda: totals.since_ns or clock.wall_ns())

    def add(self, batch: Batch) -> None:
        """The journal has another batch."""
        if self._totals is not None:
            self._totals.add(batch)

    def snapshot(self) -> LedgerSnapshot:
        """The node as its journal has it now."""
        with self._lock:
            last = self._journal.last
            if self._totals is None or last is None:
                return LedgerSnapshot()
            return node_snapshot(self._totals, last.body, self._journal.waiting)

    def close(self) -> None:
        """Push the last figures and keep the totals for the next meter."""
        if self._push is not None:
            self._push.close()
        if self._totals is not None:
            with self._lock:
                self._totals.save()
