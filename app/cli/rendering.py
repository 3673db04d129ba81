"""Views as tables: what a person sees of a report, a receipt, an audit, the live status.

Pure: a view comes in, a `Grid` goes out. Knows nothing of terminals, nor of where views come from.
"""

from collections.abc import Mapping
from datetime import datetime

from app.cli.grid import Grid, columns
from app.console.exports import grade_of, label_names
from app.engine.views import Audit, DeviceStatus, Priced, Receipt, Report, ReportRow, Status
from app.units import MICROS, format_carbon, format_energy, format_water, joules, kwh

_GB = 1_000_000_000


def report_grid(report: Report) -> Grid:
    """One row a group, largest first; totals; below it the terms under which energy became carbon."""
    labels = label_names(report)
    money = (f">{report.currency}",) if report.currency else ()
    figures = (">energy J", ">kWh", ">gCO2e", *money, ">share", "grade", ">± J")
    total = ("total", *[""] * (len(labels) - 1), *_amounts(report.energy_uj, report.carbon_ugco2e))
    return Grid(
        title=f"Energy by {report.by}, {_period(report)}",
        columns=columns(*labels, *figures),
        rows=tuple(_report_row(row, labels) for row in report.rows),
        total=(*total, *cost_cells(report.cost_micros), "100.0 %" if report.energy_uj else "", "", ""),
        notes=(
            f"zone {report.zone}: {report.intensity_g_per_kwh:g} gCO2e/kWh ({report.intensity_source}), "
            f"PUE {report.pue:g}",
            f"charged to work: {report.energy_utilisation:.1%} of the total",
            *beside_notes(report),
            *(report.basis.notes if report.basis else ()),
        ),
    )


def _report_row(row: ReportRow, labels: tuple[str, ...]) -> tuple[str, ...]:
    return (
        *(row.group.get(name, "") for name in labels),
        *_amounts(row.energy_uj, row.carbon_ugco2e),
        *cost_cells(row.cost_micros),
        f"{100 * row.share:.1f} %",
        grade_of(row),
        f"{joules(row.uncertainty_uj):.3f}",
    )


def _amounts(energy_uj: int, carbon_ugco2e: int) -> tuple[str, str, str]:
    return f"{joules(energy_uj):.3f}", f"{kwh(energy_uj):.6f}", f"{carbon_ugco2e / 1_000_000:.6f}"


def _period(report: Report) -> str:
    since = _moment(report.since_s) if report.since_s is not None else "the beginning"
    return f"from {since} to {_moment(report.until_s)}"


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def receipt_grid(receipt: Receipt) -> Grid:
    """One line a fact; labels that do not apply are left out."""
    facts = {
        "account": receipt.account,
        "tenant": receipt.tenant,
        "model": receipt.model,
        "version": receipt.version,
        "job": receipt.job,
        "node": receipt.node,
        "at": _moment(receipt.wall_time_s),
        "duration": f"{receipt.duration_ns / 1_000_000:.3f} ms",
        "energy": f"{receipt.energy_uj} uJ ({format_energy(receipt.energy_uj)})",
        "prefill": _phase(receipt.prefill_uj),
        "decode": _phase(receipt.decode_uj),
        "per token": "" if receipt.uj_per_token is None else f"{receipt.uj_per_token:g} uJ",
        "carbon": f"{receipt.carbon_ugco2e} ugCO2e ({format_carbon(receipt.carbon_ugco2e)})",
        "market-based": _market(receipt.market_ugco2e),
        "water": _water(receipt),
        "cost": "" if receipt.cost_micros is None else f"{receipt.cost_micros} millionths of {receipt.currency}",
        "grade": receipt.grade,
        "load share": _share(receipt.load_share_uj, receipt.shares_final),
        "warm share": _share(receipt.warm_share_uj, receipt.shares_final),
        "state": "provisional" if receipt.provisional else "settled",
    }
    rows = tuple((name, value) for name, value in facts.items() if value)
    basis = receipt.basis
    terms = f"zone {receipt.zone}: {basis.intensity_g_per_kwh:g} gCO2e/kWh ({basis.source})" if basis else ""
    notes = (f"{terms}, PUE {receipt.pue:g}", *basis.notes) if basis else ()
    return Grid(f"Receipt {receipt.receipt_id}", columns("fact", "value"), rows, notes=notes)


def cost_cells(cost_micros: int | None) -> tuple[str, ...]:
    """One cell, or none where no tariff is known."""
    return () if cost_micros is None else (f"{cost_micros / MICROS:.6f}",)


def beside_notes(priced: Priced) -> tuple[str, ...]:
    """What stands beside carbon, a line each."""
    market = _market(priced.market_ugco2e)
    water = _water(priced)
    return (*((f"market-based: {market}",) if market else ()), *((f"water: {water}",) if water else ()))


def _market(carbon_ugco2e: int | None) -> str:
    """The market-based figure; empty where no contract is known."""
    return "" if carbon_ugco2e is None else f"{format_carbon(carbon_ugco2e)}, beside the location-based, never added"


def _water(priced: Priced) -> str:
    """Where it is drawn; empty where that is not known."""
    parts = (("at the site", priced.water_site_ul), ("at the power stations", priced.water_source_ul))
    return ", ".join(f"{format_water(volume_ul)} {where}" for where, volume_ul in parts if volume_ul is not None)


def _phase(energy_uj: int | None) -> str:
    """A part of the energy; empty of a receipt without phases."""
    return "" if energy_uj is None else f"{energy_uj} uJ ({format_energy(energy_uj)})"


def _share(energy_uj: int, is_final: bool) -> str:
    """A share that is carried beside the energy; empty where there is none."""
    so_far = "" if is_final else ", so far"
    return f"{energy_uj} uJ ({format_energy(energy_uj)}), not in energy{so_far}" if energy_uj else ""


def audit_grid(audit: Audit) -> Grid:
    """One row a device; the difference is what must be 0."""
    rows = tuple(
        (
            device.node,
            device.name,
            device.device_key,
            device.grade,
            str(device.movement_uj),
            str(device.posted_uj),
            str(device.difference_uj),
            str(device.gap_uj),
            str(device.pending_uj),
        )
        for device in audit.devices
    )
    figures = (">movement uJ", ">posted uJ", ">difference uJ", ">gap uJ", ">pending uJ")
    verdict = "the books balance" if audit.ok else f"{len(audit.faults)} fault(s), listed on stderr"
    return Grid(
        "Audit of the ledger",
        columns("node", "name", "device", "grade", *figures),
        rows,
        notes=(
            f"{format_energy(audit.energy_uj)} on the books, {audit.gap_share:.2%} in gap: {verdict}",
            *(f"note: {sentence}" for sentence in audit.notes),
        ),
    )


def gaps_grid(audit: Audit) -> Grid:
    """One row a posting to `gap`, the largest first: when, where, how long, why."""
    rows = tuple(
        (
            _moment(gap.since_s),
            gap.node,
            gap.device_key.rpartition("/")[2],
            f"{gap.duration_s:.1f}",
            str(gap.energy_uj),
            gap.reason,
        )
        for gap in audit.gaps
    )
    return Grid("Gaps", columns("since", "node", "device", ">seconds", ">gap uJ", "why"), rows)


def status_grids(status: Status, flow_mw: Mapping[str, float] | None = None) -> tuple[Grid, ...]:
    """Nodes, devices and accounts now. `flow_mw`: power by account since the last look, None at the first."""
    return _nodes_grid(status), _devices_grid(status), _accounts_grid(status, flow_mw)


def _nodes_grid(status: Status) -> Grid:
    rows = tuple(
        (
            node.node,
            "yes" if node.metered else "no",
            f"{node.last_heard_s:.1f} s ago",
            ", ".join(node.residents),
        )
        for node in status.nodes
    )
    notes = tuple(f"warning: {warning}" for warning in status.warnings)
    return Grid("Nodes", columns("node", "metered", ">heard", "resident"), rows, notes=notes)


def _devices_grid(status: Status) -> Grid:
    known_mw = [device.power_mw for device in status.devices if device.power_mw is not None]
    titles = ("node", "device", "name", "grade", ">power", ">busy", ">memory", ">temp", ">booked")
    return Grid(
        "Devices",
        columns(*titles),
        tuple(map(_device_row, status.devices)),
        total=("total", "", "", "", _watts(sum(known_mw)), "", "", "", "") if known_mw else None,
    )


def _device_row(device: DeviceStatus) -> tuple[str, ...]:
    used, size = device.memory_used_bytes, device.memory_total_bytes
    return (
        device.node,
        device.device_key.split("/", 2)[-1],
        device.name,
        device.grade,
        _watts(device.power_mw) if device.power_mw is not None else "",
        f"{device.utilization:.0%}" if device.utilization is not None else "",
        f"{used / _GB:.1f}/{size / _GB:.1f} GB" if used is not None and size else "",
        f"{device.temperature_c:.0f} C" if device.temperature_c is not None else "",
        format_energy(device.energy_uj),
    )


def _accounts_grid(status: Status, flow_mw: Mapping[str, float] | None) -> Grid:
    whole_uj = sum(status.by_account_uj.values())
    rows = tuple(
        (
            account,
            format_energy(energy_uj),
            f"{energy_uj / whole_uj:.1%}" if whole_uj else "",
            _watts(flow_mw[account]) if flow_mw and account in flow_mw else "",
        )
        for account, energy_uj in sorted(status.by_account_uj.items(), key=lambda item: -item[1])
    )
    return Grid("Accounts", columns("account", ">energy", ">share", ">flow"), rows)


def _watts(power_mw: float) -> str:
    return f"{power_mw / 1000:.2f} W"


def account_flow(before: Status, after: Status, elapsed_ns: int) -> dict[str, float]:
    """Mean milliwatts booked to each account between two looks `elapsed_ns` > 0 apart."""
    return {
        account: (energy_uj - before.by_account_uj.get(account, 0)) * 1_000_000 / elapsed_ns
        for account, energy_uj in after.by_account_uj.items()
    }
