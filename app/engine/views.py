"""What the books tell the outside: reports, audits, receipts, live status. Plain frozen models, JSON in and out."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.carbon.basis import PriceBasis


class View(BaseModel):
    """Base of all views: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Priced(View):
    """What energy comes to under the terms of its place and time. None: no coefficient, contract or tariff is known."""

    carbon_ugco2e: int
    """Operational and location-based: energy x PUE x intensity of the hours in which it was used."""
    market_ugco2e: int | None = None
    """The same by contract (market-based). It stands beside the location-based figure and is never added to it."""
    water_site_ul: int | None = None
    """Microlitres used at the site."""
    water_source_ul: int | None = None
    """Microlitres consumed at the power stations."""
    cost_micros: int | None = None
    """Of electricity, the building's included: millionths of the currency."""


ReportKey = Literal["account", "model", "tenant", "job", "node"]


class ReportRow(Priced):
    """One group of a report. Empty labels: the group does not have them."""

    group: dict[str, str]
    """Label to value, e.g. {"account": "request"} or {"model": "minilm", "version": "1"}."""
    energy_uj: int
    share: float
    """0..1 of the report's total energy."""
    by_grade_uj: dict[str, int]
    """Energy by grade; the values add up to energy_uj."""
    uncertainty_uj: int


class JobShare(View):
    """What a worker of a job used in an epoch, in its slices."""

    worker: int | None
    """Rank; -1: a process without one. None: all workers."""
    epoch: int | None
    """From 1; 0: work outside epochs, such as setting up. None: all epochs."""
    energy_uj: int
    time_ns: int
    """Time of its slices; of several workers or slices at once their sum."""


class JobDetail(View):
    """One attempt of a job by worker and by epoch, since it began. Both add up to `energy_uj`."""

    tenant: str
    job: str
    attempt: int
    kind: str
    energy_uj: int
    """Of all its slices; what its postings have beyond that was charged for time between slices."""
    by_worker: tuple[JobShare, ...]
    by_epoch: tuple[JobShare, ...]
    shares: tuple[JobShare, ...]
    """Every worker in every epoch; empty if those are more than 10,000."""


class HourEnergy(View):
    """Energy in one bucket of the books."""

    start_s: int
    """Unix seconds."""
    width_s: int
    energy_uj: int


class PresentPrice(View):
    """Carbon of a kWh of devices now."""

    g_per_kwh: float
    """PUE included."""
    until_ns: int
    """Wall time at which it may change."""


class Report(Priced):
    """Energy and carbon of a period, grouped. Rows are sorted by energy, largest first, and add up to the total."""

    by: ReportKey
    since_s: float | None
    """Unix seconds; None: since the books began."""
    until_s: float
    zone: str
    intensity_g_per_kwh: float
    """Mean over the energy of the period; of none, what holds now."""
    intensity_source: str
    pue: float
    currency: str = ""
    """Of the costs; empty without a tariff."""
    energy_uj: int
    rows: tuple[ReportRow, ...]
    energy_utilisation: float
    """Charged to work (request, job, load) over total, 0..1."""
    resolution_s: int = 60
    """Length of the longest of the minutes, hours or days that the period touches: each counts as a whole."""
    jobs: tuple[JobDetail, ...] = ()
    """Of a report by job: the jobs that have workers or epochs, those with the most energy first."""
    basis: PriceBasis | None = None
    """With which grid data it was priced, and whether they were revised."""


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


class GapAudit(View):
    """Energy that is charged to nobody, and why."""

    node: str
    device_key: str
    meter: str
    energy_uj: int
    since_s: float
    """Unix seconds of the last reading before it."""
    duration_s: float
    """Until the next reading."""
    reason: str


class Audit(View):
    """The result of `joulekeeper ledger audit`."""

    ok: bool
    devices: tuple[DeviceAudit, ...]
    faults: tuple[str, ...]
    """Every fault in a sentence; empty when ok."""
    energy_uj: int
    gap_share: float
    """gap over total, 0..1."""
    notes: tuple[str, ...] = ()
    """What the audit could not see, such as meters that did not testify; no faults."""
    gaps: tuple[GapAudit, ...] = ()
    """Every posting to `gap`, the largest first, at most a thousand."""


class MeasuredReceipt(View):
    """What one request, load or job phase used, as its node knows it."""

    receipt_id: str
    account: str
    tenant: str
    model: str
    version: str
    job: str
    node: str
    energy_uj: int
    grade: str
    """The weakest grade of its parts, or the parts joined by `+` when they differ."""
    provisional: bool
    """True until the meter has booked all of it; energy_uj is then what it has booked so far."""
    load_share_uj: int
    """Of a request: its fair share of what loading its process used. Not in energy_uj."""
    warm_share_uj: int
    """Of a request: its fair share of what keeping its process ready used. Not in energy_uj."""
    shares_final: bool
    """True once the process has ended and all of it is booked; until then the shares move."""
    duration_ns: int
    wall_time_s: float
    prefill_uj: int | None = None
    """Of a request to a generating model: for reading its prompt. None: the receipt has no phases."""
    decode_uj: int | None = None
    """And for making its tokens; both add up to energy_uj."""
    uj_per_token: float | None = None
    """energy_uj, prefill included, per token made; None before the request has ended, or of none."""


class MeasuredReceipts(View):
    """Many of them."""

    receipts: tuple[MeasuredReceipt, ...]
    missing: dict[str, str]
    """Ids that cannot be told, with the reason."""


class Receipt(MeasuredReceipt, Priced):
    """What it used, and what that comes to by the grid data of now."""

    zone: str = ""
    pue: float = 1.0
    currency: str = ""
    basis: PriceBasis | None = None


class Receipts(View):
    """Many receipts at once."""

    receipts: tuple[Receipt, ...]
    missing: dict[str, str]
    """Ids that cannot be told, with the reason."""


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
    state: Literal["ok", "degraded", "failed"] = "ok"
    """degraded: its counter is disputed; failed: it could not be read last time."""
    update_period_ns: int | None = None
    """Time between two updates of its energy counter; None: not known, or none."""
    counter_to_power: float | None = None
    """Movement of its counter over integrated power; 1.0 agrees, None: not known."""
    disputed: bool = False
    """Its counter disagrees with its power by more than both may be wrong."""
    notes: tuple[str, ...] = ()
    """What a person should know about it, a sentence each."""


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
