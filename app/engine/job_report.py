"""The report of one run of a job: four ratios, its footprint per unit, and the curve of energy to accuracy.

Pure: figures in, a frozen view out; the formulas are the functions below, that of SCI in app/carbon/sci.py. Knows
nothing of what the job was: training, compression and preparing data use the same ones.

    report = JobReport(run="digits-20261122-191500", ...)
    report.model_dump_json()
"""

from app.carbon.basis import PriceBasis
from app.engine.views import HourEnergy, Priced, View
from app.errors import InvalidInput


class CurveRow(View):
    """What had been spent when an epoch ended, and what was reached with it."""

    epoch: int
    attempt: int
    spent_uj: int
    """By the run so far, lost work of earlier attempts and setting up included."""
    energy_uj: int
    """Of this epoch."""
    metrics: dict[str, float]


class WorkerReport(View):
    """One worker over the epochs whose results count."""

    worker: int
    energy_uj: int
    """Of its slices in these epochs, as it knew it: provisional."""
    step_s: float
    waiting_s: float
    """Within its steps, for slower workers."""
    waiting_uj: int


class JobReport(Priced):
    """What a run was and cost. None: not known, or it means nothing for this job."""

    run: str
    """As the ledger knows it."""
    job: str
    tenant: str
    kind: str
    finished: bool
    """It came to its end; False also for one that missed its target."""
    started_s: float
    """Unix seconds of its submission."""
    seconds: float
    attempts: int
    epochs: int
    """Whose results count."""
    energy_uj: int
    grade: str
    source: str
    """`ledger`: settled on the books. `slices`: as the workers of the last attempt saw it. `none`: without a meter."""
    lost_uj: int
    """Of the energy: for steps that were done again after a restart."""
    restart_uj: int
    """Of the energy: for setting up again."""
    metrics: dict[str, float]
    utilisation: float | None
    """See `utilisation`: time in steps less waiting, over the time its workers were held."""
    scheduling_efficiency: float
    """See `scheduling_efficiency`: attempts."""
    energy_utilisation: float | None
    """See `energy_utilisation`: of all nodes while it ran, everybody's work counted."""
    compression_ratio: float | None
    """See `compression_ratio`: bytes of what the job made smaller."""
    embodied_ugco2e: int
    """Share of the hardware's making; 0: not given, and SCI is then operational alone."""
    sci_per_epoch_ugco2e: float | None
    sci_per_model_ugco2e: float | None
    """Of the one model that the job made."""
    curve: tuple[CurveRow, ...]
    workers: tuple[WorkerReport, ...]
    hours: tuple[HourEnergy, ...] = ()
    """Its energy by the buckets of the books: with it a report that was kept is priced again when it is read. Empty
    where the ledger did not know the run; its carbon then stays what its workers saw."""
    zone: str = ""
    """Of the price; empty before it was priced from its hours."""
    pue: float = 1.0
    currency: str = ""
    basis: PriceBasis | None = None
    """With which grid data it was priced when it was read."""


def utilisation(used_s: float, total_s: float) -> float | None:
    """utilisation = used / total, 0..1; None where nothing was there to be used.

    Of a job: seconds that its workers spent in steps, less those in which they waited for slower workers, over the
    number of workers x seconds from submission to end. Setting up, evaluating, checkpoints and restarts are not used.
    """
    return min(1.0, max(0.0, used_s) / total_s) if total_s > 0 else None


def scheduling_efficiency(finished: int, submitted: int) -> float:
    """scheduling efficiency = finished / submitted, 0..1; 0 where nothing was submitted. Raises InvalidInput.

    Of one job: attempts (starts of its workers), of which one at most finishes. Of many: jobs.
    """
    if not 0 <= finished <= submitted:
        raise InvalidInput(f"finished must be 0 to submitted, got {finished} of {submitted}")
    return finished / submitted if submitted else 0.0


def energy_utilisation(work_uj: int, total_uj: int) -> float | None:
    """energy utilisation = energy charged to work (request, job, load) / all energy of devices, 0..1; None of none."""
    return work_uj / total_uj if total_uj > 0 else None


def compression_ratio(before_bytes: int, after_bytes: int) -> float:
    """compression ratio = (before - after) / before: 0.75 is four times smaller, < 0 has grown. Raises InvalidInput."""
    if before_bytes <= 0 or after_bytes < 0:
        raise InvalidInput(f"sizes must be > 0 before and >= 0 after, got {before_bytes} and {after_bytes} bytes")
    return (before_bytes - after_bytes) / before_bytes
