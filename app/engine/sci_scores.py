"""SCI scores of what the books know: a request, a job, a model in service, and the making of that model.

Pure: receipts and reports come in, priced. ISO/IEC 21031 wants all energy of what is reserved for the work, not just
of its use: a request carries its share of loading and of keeping its process ready; a model's score has both whole.

    request_score(receipt, Reservation(hardware, share=1 / 8))
    consumer_score(report, "minilm", "1", "request", 1000, embodied_ug)
    provider_score([making, ...], "10^9 parameters", 0.0226)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.carbon.embodied import Hardware
from app.carbon.sci import Sci, amortised, sci
from app.domain.account import AccountName
from app.engine.job_prices import mean_g_per_kwh
from app.engine.job_report import JobReport
from app.engine.views import Receipt, Report, View
from app.errors import InvalidInput, NotFound
from app.units import NS_PER_S, exact_carbon_ug

_SERVING = {AccountName.REQUEST.value, AccountName.LOAD.value, AccountName.WARM.value}


@dataclass(frozen=True, slots=True)
class Reservation:
    """The hardware behind some work. None: embodied carbon is left out, and the score says so."""

    hardware: Hardware | None = None
    share: float = 1.0
    """Of it that was reserved (RR / ToR), 0..1."""

    def embodied_ug(self, reserved_s: float) -> int:
        """M of so many seconds."""
        return self.hardware.share_ug(reserved_s, self.share) if self.hardware else 0

    def sentence(self, reserved_s: float) -> str:
        """What of it is inside a score."""
        if self.hardware is None:
            return "embodied: left out, no hardware was named"
        making, years = self.hardware.making_kgco2e, self.hardware.lifetime_years
        return f"embodied: {reserved_s:g} s of {self.share:g} of {making:g} kgCO2e made for {years:g} years"


class Making(View):
    """One run that went into a model."""

    run: str
    energy_uj: int
    carbon_ugco2e: int
    embodied_ugco2e: int
    pue: float
    priced: str
    """When: `now` from its hours, `then` when it ended."""


class ModelScores(View):
    """Both scores of SCI for AI, whose units differ; what one use carries with the making spread over its life."""

    consumer: Sci
    provider: Sci | None
    """None: nothing is known of the model's making."""
    makings: tuple[Making, ...]
    life_units: float | None
    """Units of use that the making is spread over."""
    amortised_ugco2e: float | None


def request_score(receipt: Receipt, reservation: Reservation, tokens: float | None = None) -> Sci:
    """SCI of one request; with `tokens` per 1k of those it made. Raises InvalidInput for a receipt without a price."""
    if receipt.basis is None:
        raise InvalidInput(f"receipt {receipt.receipt_id} has no price: it is of an older accountant")
    energy_uj = receipt.energy_uj + receipt.load_share_uj + receipt.warm_share_uj
    g_per_kwh, reserved_s = receipt.basis.intensity_g_per_kwh, receipt.duration_ns / NS_PER_S
    inside = (
        f"{receipt.energy_uj} uJ of its own, {receipt.load_share_uj} of loading, {receipt.warm_share_uj} of waiting"
    )
    unit, units = ("request", 1.0) if tokens is None else ("1k tokens", tokens / 1000)
    return _score(
        f"{receipt.account} {receipt.receipt_id}",
        (inside, reservation.sentence(reserved_s)),
        (energy_uj, receipt.pue, g_per_kwh),
        round(exact_carbon_ug(energy_uj, g_per_kwh * receipt.pue)),
        reservation.embodied_ug(reserved_s),
        (unit, units),
    )


def job_score(report: JobReport, unit: str, units: float, reservation: Reservation, servers: int = 1) -> Sci:
    """SCI of one run; `units` of what it made or went through. Raises InvalidInput for one that was not metered."""
    if report.source == "none":
        raise InvalidInput(f"run {report.run} was not metered: there is nothing to score")
    reserved_s = report.seconds * servers
    return _score(
        f"run {report.run}",
        ("all attempts, lost work and setting up included", reservation.sentence(reserved_s)),
        (report.energy_uj, report.pue, mean_g_per_kwh(report.energy_uj, report.carbon_ugco2e, report.pue)),
        report.carbon_ugco2e,
        reservation.embodied_ug(reserved_s),
        (unit, units),
    )


def consumer_score(
    report: Report, model: str, version: str, unit: str, units: float, reservation: Reservation, reserved_s: float
) -> Sci:
    """SCI of running a model over the period of a report by model; `version` empty: all of them. Raises NotFound."""
    rows = [
        row
        for row in report.rows
        if row.group.get("model") == model
        and (not version or row.group.get("version") == version)
        and row.group.get("account") in _SERVING
    ]
    if not rows:
        raise NotFound(f"the books have nothing of {model}{'@' + version if version else ''} in this period")
    energy_uj, carbon_ug = sum(row.energy_uj for row in rows), sum(row.carbon_ugco2e for row in rows)
    return _score(
        f"{model}{'@' + version if version else ''} in service",
        ("requests, loading and waiting: all energy on its accounts", reservation.sentence(reserved_s)),
        (energy_uj, report.pue, mean_g_per_kwh(energy_uj, carbon_ug, report.pue)),
        carbon_ug,
        reservation.embodied_ug(reserved_s),
        (unit, units),
    )


def provider_score(model: str, makings: Sequence[Making], unit: str, units: float) -> Sci:
    """SCI of making a model, of all runs that went into it. Raises InvalidInput without any."""
    if not makings:
        raise InvalidInput(f"nothing is known of the making of {model}")
    energy_uj, carbon_ug = sum(each.energy_uj for each in makings), sum(each.carbon_ugco2e for each in makings)
    # Runs of one model may be of different buildings: the mean of them, by energy.
    pue = sum(each.pue * each.energy_uj for each in makings) / energy_uj if energy_uj else 1.0
    return _score(
        f"the making of {model}",
        (f"runs: {', '.join(each.run for each in makings)}",),
        (energy_uj, pue, mean_g_per_kwh(energy_uj, carbon_ug, pue)),
        carbon_ug,
        sum(each.embodied_ugco2e for each in makings),
        (unit, units),
    )


def model_scores(
    consumer: Sci, provider: Sci | None, makings: Sequence[Making], life_units: float | None
) -> ModelScores:
    """Both together. Raises InvalidInput."""
    total_ug = sum(each.carbon_ugco2e + each.embodied_ugco2e for each in makings)
    return ModelScores(
        consumer=consumer,
        provider=provider,
        makings=tuple(makings),
        life_units=life_units,
        amortised_ugco2e=None if life_units is None else amortised(consumer.score_ugco2e, total_ug, life_units),
    )


def _score(
    of: str,
    boundary: tuple[str, ...],
    energy: tuple[int, float, float],
    carbon_ug: int,
    embodied_ug: int,
    unit: tuple[str, float],
) -> Sci:
    energy_uj, pue, g_per_kwh = energy
    name, units = unit
    score = sci(carbon_ug, embodied_ug, units)
    if score is None:
        raise InvalidInput(f"a score is per unit: units must be > 0, got {units:g} of {name}")
    return Sci(
        of=of,
        boundary=boundary,
        energy_uj=energy_uj,
        pue=pue,
        g_per_kwh=g_per_kwh,
        operational_ugco2e=carbon_ug,
        embodied_ugco2e=embodied_ug,
        unit=name,
        units=units,
        score_ugco2e=score,
    )
