"""What the books tell the outside: reports, audits, receipts, live status. Plain frozen models, JSON in and out."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """Base of all views: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ReportKey = Literal["account", "model", "tenant", "job", "node"]


class ReportRow(View):
    """One group of a report. Empty labels: the group does not have them."""

    group: dict[str, str]
    """Label to value, e.g. {"account": "request"} or {"model": "minilm", "version": "1"}."""
    energy_uj: int
    carbon_ugco2e: int
    share: float
    """0..1 of the report's total energy."""
    by_grade_uj: dict[str, int]
    """Energy by grade; the values add up to energy_uj."""
    uncertainty_uj: int


class Report(View):
    """Energy and carbon of a period, grouped. Rows are sorted by energy, largest first, and add up to the total."""

    by: ReportKey
    since_s: float | None
    """Unix seconds; None: since the books began."""
    until_s: float
    zone: str
    intensity_g_per_kwh: float
    intensity_source: str
    pue: float
    energy_uj: int
    carbon_ugco2e: int
    rows: tuple[ReportRow, ...]
    energy_utilisation: float
    """Charged to work (request, job, load) over total, 0..1."""


class DeviceAudit(View):
    """Per device: how far its counter moved, what was posted, and the difference, which must be 0."""

    device_key: str
    node: str
    name: str
    grade: str
    movement_uj: int
    """Movement of the counter over all journalled readings, wraps and resets resolved."""
    posted_uj: int
    difference_uj: int
    gap_uj: int
    pending_uj: int
    """Moved since the last committed batch according to the live counter; not posted yet."""
    batches: int


class Audit(View):
    """The result of `joulekeeper ledger audit`."""

    ok: bool
    devices: tuple[DeviceAudit, ...]
    faults: tuple[str, ...]
    """Every fault in a sentence; empty when ok."""
    energy_uj: int
    gap_share: float
    """gap over total, 0..1."""


class Receipt(View):
    """What one request, load or job phase used."""

    receipt_id: str
    account: str
    tenant: str
    model: str
    version: str
    job: str
    node: str
    energy_uj: int
    carbon_ugco2e: int
    grade: str
    """The weakest grade of its parts, or the parts joined by `+` when they differ."""
    provisional: bool
    duration_ns: int
    wall_time_s: float


class DeviceStatus(View):
    """One device now."""

    node: str
    device_key: str
    kind: str
    name: str
    grade: str
    power_mw: int | None
    utilization: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_c: float | None
    energy_uj: int
    """On the books for this device so far."""


class NodeStatus(View):
    """One meter as the accountant last heard of it."""

    node: str
    metered: bool
    last_heard_s: float
    """Seconds ago."""
    residents: tuple[str, ...]
    """Model versions and jobs on the node, e.g. `minilm@1`."""


class Status(View):
    """The live picture behind `joulekeeper watch` and the console."""

    nodes: tuple[NodeStatus, ...]
    devices: tuple[DeviceStatus, ...]
    by_account_uj: dict[str, int]
    warnings: tuple[str, ...]


class Closing(View):
    """The result of `joulekeeper ledger close`."""

    meters: int
    """How many meters took a closing reading and had it acknowledged."""
