"""Reports of jobs that were kept, priced again when they are read: by the hours in which the energy was used, with the
grid data of now. Pure; energy and everything else of a report stay.

    report = repriced(report, prices, now_ns)
    report = with_embodied(report, hardware.share_ug(report.seconds))
"""

from dataclasses import asdict

from app.carbon.pricing import Prices
from app.carbon.sci import sci
from app.engine.job_report import JobReport
from app.engine.reporting import interval_of
from app.units import UJ_PER_KWH, format_carbon


def repriced(report: JobReport, prices: Prices, now_ns: int) -> JobReport:
    """The same report with the prices of now; unchanged where its hours are not known."""
    if not report.hours:
        return report
    energy = {interval_of(hour.start_s, hour.width_s): hour.energy_uj for hour in report.hours}
    footprint, basis, terms = prices.footprint(energy), prices.basis(energy, now_ns), prices.terms
    if footprint.carbon_ugco2e != report.carbon_ugco2e:
        kept = f"when the job ended it was {format_carbon(report.carbon_ugco2e)}, priced with what was known then"
        basis = basis.model_copy(update={"notes": (*basis.notes, kept)})
    priced = report.model_copy(
        update={
            **asdict(footprint),
            "zone": terms.zone,
            "pue": terms.pue,
            "currency": terms.tariff.currency if terms.tariff else "",
            "basis": basis,
        }
    )
    return with_embodied(priced, report.embodied_ugco2e)


def with_embodied(report: JobReport, embodied_ugco2e: int) -> JobReport:
    """The same report with another share of the hardware's making, and the scores that follow; unmetered: unchanged."""
    if report.source == "none":
        return report
    carbon = report.carbon_ugco2e
    return report.model_copy(
        update={
            "embodied_ugco2e": embodied_ugco2e,
            "sci_per_epoch_ugco2e": sci(carbon, embodied_ugco2e, report.epochs),
            "sci_per_model_ugco2e": sci(carbon, embodied_ugco2e, 1) if report.finished else None,
        }
    )


def mean_g_per_kwh(energy_uj: int, carbon_ugco2e: int, pue: float) -> float:
    """The intensity that energy was priced with in the mean; 0 of none."""
    return carbon_ugco2e * UJ_PER_KWH / 1e6 / (energy_uj * pue) if energy_uj else 0.0
