"""Reports from balances: energy grouped, and each bucket priced with what held in it. Pure.

    report = make_report("model", balances, prices, now_ns, since_s, until_s)

Knows nothing of stores: balances come in, prices come in.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from app.carbon.pricing import Footprint, Interval, Prices
from app.domain.account import WORK_ACCOUNTS
from app.engine.views import JobDetail, Report, ReportKey, ReportRow
from app.ledger.store import BUCKET_S, Balance
from app.units import NS_PER_S


def make_report(
    by: ReportKey,
    balances: Sequence[Balance],
    prices: Prices,
    now_ns: int,
    since_s: float | None,
    until_s: float,
    jobs: tuple[JobDetail, ...] = (),
) -> Report:
    """Rows by energy, largest first; their figures add up to the report's."""
    groups: dict[tuple[tuple[str, str], ...], list[Balance]] = defaultdict(list)
    for balance in balances:
        groups[tuple(_group(by, balance).items())].append(balance)
    total_uj = sum(balance.energy_uj for balance in balances)
    work_uj = sum(balance.energy_uj for balance in balances if balance.account.name in WORK_ACCOUNTS)
    rows = [_row(dict(group), members, prices, total_uj) for group, members in groups.items()]
    rows.sort(key=lambda row: (-row.energy_uj, sorted(row.group.items())))
    terms = prices.terms
    basis = prices.basis(by_interval(balances), now_ns)
    return Report(
        by=by,
        since_s=since_s,
        until_s=until_s,
        zone=terms.zone,
        intensity_g_per_kwh=basis.intensity_g_per_kwh,
        intensity_source=basis.source,
        pue=terms.pue,
        currency=terms.tariff.currency if terms.tariff else "",
        energy_uj=total_uj,
        **asdict(_sum(rows) if rows else prices.footprint({})),
        rows=tuple(rows),
        energy_utilisation=work_uj / total_uj if total_uj else 0.0,
        resolution_s=max((balance.width_s for balance in balances), default=BUCKET_S),
        jobs=jobs,
        basis=basis,
    )


def by_interval(balances: Iterable[Balance]) -> dict[Interval, int]:
    """Energy by the time of its buckets."""
    found: dict[Interval, int] = defaultdict(int)
    for balance in balances:
        found[interval_of(balance.bucket_s, balance.width_s)] += balance.energy_uj
    return found


def interval_of(bucket_s: int, width_s: int) -> Interval:
    """A bucket as an interval of wall time."""
    return bucket_s * NS_PER_S, (bucket_s + width_s) * NS_PER_S


def _row(group: dict[str, str], members: list[Balance], prices: Prices, total_uj: int) -> ReportRow:
    energy_uj = sum(balance.energy_uj for balance in members)
    by_grade: dict[str, int] = defaultdict(int)
    for balance in members:
        by_grade[balance.grade.value] += balance.energy_uj
    return ReportRow(
        group=group,
        energy_uj=energy_uj,
        **asdict(prices.footprint(by_interval(members))),
        share=energy_uj / total_uj if total_uj else 0.0,
        by_grade_uj=dict(by_grade),
        uncertainty_uj=sum(balance.uncertainty_uj for balance in members),
    )


def _sum(rows: Sequence[ReportRow]) -> Footprint:
    return Footprint(
        sum(row.carbon_ugco2e for row in rows),
        _known_sum(row.market_ugco2e for row in rows),
        _known_sum(row.water_site_ul for row in rows),
        _known_sum(row.water_source_ul for row in rows),
        _known_sum(row.cost_micros for row in rows),
    )


def _known_sum(values: Iterable[int | None]) -> int | None:
    """Terms are the same for all rows: a figure is known of all or of none."""
    found = list(values)
    return None if None in found else sum(value or 0 for value in found)


def _group(by: ReportKey, balance: Balance) -> dict[str, str]:
    account = balance.account
    match by:
        case "account":
            return {"account": account.name.value, "kind": account.kind} if account.kind else {"account": account.name}
        case "model":
            return {"model": account.model, "version": account.version, "account": account.name.value}
        case "tenant":
            return {"tenant": account.tenant}
        case "job":
            return {
                "job": account.job,
                "attempt": str(account.attempt) if account.attempt else "",
                "node": balance.node,
            }
        case "node":
            return {"node": balance.node, "device": balance.device.rpartition("/")[2]}
