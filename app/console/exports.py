"""Reports as CSV: one row a group, raw integers beside the usual units, the terms of the price in every row.

Knows nothing of HTTP or terminals; a report comes in, text goes out.
"""

import csv
import io

from app.engine.views import Report, ReportRow
from app.units import NS_PER_S, joules, kwh

_FIGURES = (
    "energy_uj",
    "energy_j",
    "energy_kwh",
    "carbon_ugco2e",
    "carbon_gco2e",
    "share",
    "grade",
    "uncertainty_uj",
    "market_ugco2e",
    "water_site_ul",
    "water_source_ul",
    "cost_micros",
)
_TERMS = ("zone", "intensity_g_per_kwh", "intensity_source", "pue", "currency", "grid_revision", "revised_share")


def label_names(report: Report) -> tuple[str, ...]:
    """Labels of all groups, in order of first appearance; a report without rows has the label it is by."""
    seen = {name: None for row in report.rows for name in row.group}
    return tuple(seen) or (report.by,)


def grade_of(row: ReportRow) -> str:
    """Grades that the row's energy has, joined by `+`; empty when it has none."""
    return "+".join(sorted(grade for grade, energy_uj in row.by_grade_uj.items() if energy_uj))


def report_csv(report: Report) -> str:
    """The report as CSV with a header line, no totals line: the rows add up to the total."""
    labels = label_names(report)
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow((*labels, *_FIGURES, *_TERMS))
    basis = report.basis
    revised = (basis.revision, basis.revised_share) if basis else ("", "")
    terms = (report.zone, report.intensity_g_per_kwh, report.intensity_source, report.pue, report.currency, *revised)
    for row in report.rows:
        writer.writerow((*(row.group.get(name, "") for name in labels), *_figures(row), *terms))
    return sheet.getvalue()


def parts_csv(report: Report) -> str:
    """Of a report by job every worker in every epoch: one row each, the sums where there are too many to tell."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(("tenant", "job", "attempt", "kind", "worker", "epoch", "energy_uj", "energy_j", "time_s"))
    for job in report.jobs:
        labels = (job.tenant, job.job, job.attempt, job.kind)
        for share in job.shares or (*job.by_worker, *job.by_epoch):
            figures = (share.energy_uj, joules(share.energy_uj), share.time_ns / NS_PER_S)
            writer.writerow((*labels, share.worker, share.epoch, *figures))
    return sheet.getvalue()


def _figures(row: ReportRow) -> tuple[object, ...]:
    return (
        row.energy_uj,
        joules(row.energy_uj),
        kwh(row.energy_uj),
        row.carbon_ugco2e,
        row.carbon_ugco2e / 1_000_000,
        row.share,
        grade_of(row),
        row.uncertainty_uj,
        row.market_ugco2e,
        row.water_site_ul,
        row.water_source_ul,
        row.cost_micros,
    )
