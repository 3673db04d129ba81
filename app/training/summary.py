"""The report a training job ends with.

Knows nothing of Ray or files: a result in, lines out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.engine.job_report import JobReport
from app.models.card import EnergyCard
from app.training.power import ServerRow
from app.training.restarts import NO_RESTARTS, RestartCosts
from app.training.restarts import lines as restart_lines
from app.units import UJ_PER_J, format_carbon, format_energy, kwh


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run was and cost."""

    name: str
    run: str
    """As the ledger knows it."""
    seconds: float
    """From submission to the last epoch, waiting for workers included."""
    metrics: Mapping[str, float]
    attempts: int
    resumed_after: int
    """Epochs that the last attempt found done; 0: it began at the beginning."""
    energy: EnergyCard
    attempts_uj: Mapping[int, int]
    """Energy by attempt; empty without a ledger."""
    servers: Sequence[ServerRow]
    power_trouble: str
    """Why there are no servers, as far as is known."""
    reached: bool
    """False: the target was missed, and nothing was published."""
    published: str
    """`name@version`, or empty."""
    report: JobReport | None = None
    """As it is kept beside the checkpoints."""
    restarts: RestartCosts = NO_RESTARTS
    """What attempts after the first cost, and what was done again."""


def summary(result: TrainResult, *, formulas: bool) -> list[str]:
    """The report, line by line."""
    quality = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    attempts = f"{result.attempts} attempt{'s' if result.attempts > 1 else ''}"
    lines = [f"{result.run}: {quality}; {attempts}, {result.seconds:.1f} s", *_energy_lines(result)]
    lines += restart_lines(result.restarts, result.energy.energy_uj)
    if result.report is not None:
        lines += report_lines(result.report)
    if formulas:
        lines += formula_lines(result)
    if result.published:
        lines.append(f"published {result.published}")
    return lines


def _energy_lines(result: TrainResult) -> list[str]:
    energy = result.energy
    if energy.source == "none":
        return ["energy: unknown; no meter was there"]
    source = "settled on the ledger" if energy.source == "ledger" else "sum of the last attempt's slices, no ledger"
    lines = [
        f"energy: {format_energy(energy.energy_uj)} ({kwh(energy.energy_uj):.3g} kWh), "
        f"{format_carbon(energy.carbon_ugco2e)}, grade {energy.grade}, {source}"
    ]
    if len(result.attempts_uj) > 1:
        parts = ", ".join(f"{number}: {format_energy(part)}" for number, part in sorted(result.attempts_uj.items()))
        lines.append(f"energy by attempt: {parts}")
    if energy.by_phase_uj:
        parts = ", ".join(f"{phase} {format_energy(part)}" for phase, part in energy.by_phase_uj.items())
        lines.append(f"energy by phase of the last attempt, as its workers saw it: {parts}")
    return lines


def report_lines(report: JobReport) -> list[str]:
    """Ratios, footprint per unit and the curve of energy to accuracy, as far as they are known."""
    ratios = {
        "utilisation": report.utilisation,
        "scheduling efficiency": report.scheduling_efficiency,
        "energy utilisation": report.energy_utilisation,
        "compression ratio": report.compression_ratio,
    }
    lines = [", ".join(f"{name} {value:.1%}" for name, value in ratios.items() if value is not None)]
    if report.sci_per_epoch_ugco2e is not None:
        model = report.sci_per_model_ugco2e
        per_model = f", {format_carbon(round(model))} per model" if model is not None else ""
        lines.append(f"SCI (operational): {format_carbon(round(report.sci_per_epoch_ugco2e))} per epoch{per_model}")
    waiting_s = sum(worker.waiting_s for worker in report.workers)
    if len(report.workers) > 1:
        waiting_uj = sum(worker.waiting_uj for worker in report.workers)
        lines.append(f"workers waited {waiting_s:.1f} s for slower ones, which took {format_energy(waiting_uj)}")
    return lines + _curve_lines(report)


def _curve_lines(report: JobReport) -> list[str]:
    """The energy at which a quarter, half, three quarters and all of the epochs were done."""
    if not report.curve or not report.energy_uj:
        return []
    marks = sorted({math.ceil(len(report.curve) * quarter / 4) - 1 for quarter in (1, 2, 3, 4)})
    parts = []
    for row in (report.curve[mark] for mark in marks):
        reached = ", ".join(f"{name} {value:.4f}" for name, value in row.metrics.items())
        parts.append(f"{format_energy(row.spent_uj)}: {reached}")
    return [f"energy to accuracy: {'; '.join(parts)} (`joulekeeper jobs report {report.run}` has all)"]


def formula_lines(result: TrainResult) -> list[str]:
    """E = P x t and E = sum over servers of P_server x t, in measured figures."""
    if not result.servers:
        return [f"E = P x t: no power was sampled: {result.power_trouble or 'no meter has told any'}"]
    product_uj = sum(row.product_uj for row in result.servers)
    booked_uj = sum(row.booked_uj for row in result.servers)
    mean_w = sum(row.mean_power_mw for row in result.servers) / 1000
    seconds = result.servers[0].seconds
    return [
        "E = P x t (P sampled once a second on all devices, t from submission to the last epoch):",
        f"  {mean_w:.2f} W x {seconds:.1f} s = {_joules(product_uj)}; the ledger booked {_joules(booked_uj)} "
        f"({_percent(product_uj, booked_uj)}), of which this job {_joules(result.energy.energy_uj)}",
        "E = sum over servers of P_server x t:",
        *(_server_line(row) for row in result.servers),
        f"  sum {_joules(product_uj)}; booked {_joules(booked_uj)}",
    ]


def _server_line(row: ServerRow) -> str:
    return (
        f"  {row.node}: {row.mean_power_mw / 1000:.2f} W x {row.seconds:.1f} s = {_joules(row.product_uj)}; "
        f"booked {_joules(row.booked_uj)} ({_percent(row.product_uj, row.booked_uj)})"
    )


def _joules(energy_uj: int) -> str:
    return f"{energy_uj / UJ_PER_J:.1f} J"


def _percent(product_uj: int, booked_uj: int) -> str:
    return f"{100 * (product_uj / booked_uj - 1):+.1f} %" if booked_uj else "nothing to compare"
