"""What telemetry is told: the state of the books at one instant, as plain frozen values.

Knows nothing of how the books are kept. Whoever keeps them hands over a function that returns a
LedgerSnapshot; instruments read nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Balance:
    """One account of one node in one grade, since the books began."""

    labels: Mapping[str, str]
    """account, node, model, version, tenant, job, kind. Others are ignored, empty ones left out."""
    energy_uj: int
    """Never falls."""
    carbon_ugco2e: int
    """May fall: the past is priced again when grid data is revised."""
    grade: str
    uncertainty_uj: int = 0


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """One device. None: it does not tell."""

    uuid: str
    """Unique on its node, never an index."""
    kind: str
    """gpu, cpu or dram."""
    name: str
    node: str
    grade: str
    energy_uj: int
    """On the books for this device so far; never falls."""
    vendor: str = ""
    power_mw: int | None = None
    utilization: float | None = None
    """0..1."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    state: str = "ok"
    """ok, degraded (its counter is disputed) or failed (it could not be read)."""
    update_period_ns: int | None = None
    """Of its energy counter."""
    counter_to_power: float | None = None
    """Movement of its energy counter over integrated power."""
    disputed: bool | None = None
    """Its energy counter disagrees with its power."""


@dataclass(frozen=True, slots=True)
class MeterHealth:
    """The meter of one node, as the accountant last heard of it."""

    node: str
    present: bool
    """A meter watches this node now. False after it left with the last work: no fault."""
    last_heard_s: float
    """Seconds ago."""
    batches: int | None = None
    """Batches it has delivered. None: not told."""
    waiting: int | None = None
    """Batches that wait in its journal. None: not told."""


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """Everything that is exported, at one instant."""

    balances: tuple[Balance, ...] = ()
    devices: tuple[DeviceFigures, ...] = ()
    meters: tuple[MeterHealth, ...] = ()
    warnings: int | None = None
    """Sentences of warning in the status. None: not told."""


SnapshotSource = Callable[[], LedgerSnapshot]
"""Called once per collection, from the exporter's thread; may raise, and must not take long."""
