"""The books of the cluster: the store, priced in carbon, reported, audited and exported.

Knows nothing of Ray: the accountant actor is the thin shell around it. Thread-safe.

    books = ClusterBooks(Store(url), CarbonSettings(zone="FRA"), clock)
    books.deliver(batches)             # exactly once, however often they come
    books.report("model")
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from app.carbon.footprint import CarbonSettings, carbon_of
from app.clock import Clock
from app.domain.account import WORK_ACCOUNTS, AccountName
from app.engine.evidence import Evidence
from app.engine.views import Audit, DeviceAudit, DeviceStatus, NodeStatus, Report, ReportKey, ReportRow, Status
from app.errors import BooksDamaged
from app.ledger.audit import (
    MAX_FAULTS,
    ChainTally,
    DeviceTally,
    account_text,
    compare_balances,
    compare_journal,
    tally_chain,
)
from app.ledger.journal import Batch
from app.ledger.ring import node_tag
from app.ledger.store import BUCKET_S, Balance, Store
from app.telemetry.snapshot import Balance as ExportedBalance
from app.telemetry.snapshot import DeviceFigures, LedgerSnapshot, MeterHealth
from app.units import NS_PER_S

_METER_SILENT_S = 15.0


@dataclass(slots=True)
class _Heard:
    """The last thing a meter said."""

    body: dict[str, Any]
    at_s: float
    batches: int


class ClusterBooks:
    """Everything the accountant knows."""

    def __init__(self, store: Store, carbon: CarbonSettings, clock: Clock) -> None:
        self._store, self.carbon, self._clock = store, carbon, clock
        self._heard: dict[str, _Heard] = {}
        self._lock = threading.Lock()
        self._booking = threading.Lock()

    # Booking

    def deliver(self, batches: Sequence[Batch]) -> tuple[int, int]:
        """Book batches of one meter in order; returns the position of the last. Raises Unavailable, BooksDamaged."""
        for batch in batches:
            with self._booking:
                self._store.book(batch)
            with self._lock:
                heard = self._heard.get(batch.meter)
                count = heard.batches + 1 if heard else 1
                self._heard[batch.meter] = _Heard(batch.body, self._now_s(), count)
        return batches[-1].position

    # Reporting

    def report(self, by: ReportKey, since_s: float | None = None, until_s: float | None = None) -> Report:
        """Energy and carbon of a period, grouped by `by`; buckets of a minute."""
        until_s = self._now_s() if until_s is None else until_s
        balances = self._store.balances(since_s, until_s)
        groups: dict[tuple[tuple[str, str], ...], list[Balance]] = defaultdict(list)
        for balance in balances:
            groups[tuple(_group(by, balance).items())].append(balance)
        total_uj = sum(balance.energy_uj for balance in balances)
        work_uj = sum(balance.energy_uj for balance in balances if balance.account.name in WORK_ACCOUNTS)
        rows = [self._row(dict(group), members, total_uj) for group, members in groups.items()]
        rows.sort(key=lambda row: (-row.energy_uj, sorted(row.group.items())))
        now = self.carbon.series().intensity_at(self._clock.wall_ns())
        return Report(
            by=by,
            since_s=since_s,
            until_s=until_s,
            zone=self.carbon.zone,
            intensity_g_per_kwh=now.g_per_kwh,
            intensity_source=f"{now.source}, {now.year}" if now.year else now.source,
            pue=self.carbon.pue,
            energy_uj=total_uj,
            carbon_ugco2e=sum(row.carbon_ugco2e for row in rows),
            rows=tuple(rows),
            energy_utilisation=work_uj / total_uj if total_uj else 0.0,
        )

    def _row(self, group: dict[str, str], members: list[Balance], total_uj: int) -> ReportRow:
        energy_uj = sum(balance.energy_uj for balance in members)
        by_grade: dict[str, int] = defaultdict(int)
        for balance in members:
            by_grade[balance.grade.value] += balance.energy_uj
        return ReportRow(
            group=group,
            energy_uj=energy_uj,
            carbon_ugco2e=self._carbon(members),
            share=energy_uj / total_uj if total_uj else 0.0,
            by_grade_uj=dict(by_grade),
            uncertainty_uj=sum(balance.uncertainty_uj for balance in members),
        )

    def _carbon(self, balances: Iterable[Balance]) -> int:
        """Each bucket at the intensity that held in it."""
        series = self.carbon.series()
        by_bucket: dict[int, int] = defaultdict(int)
        for balance in balances:
            by_bucket[balance.bucket_s] += balance.energy_uj
        return sum(
            carbon_of(energy_uj, series.intensity_at((bucket_s + BUCKET_S // 2) * NS_PER_S), self.carbon.pue)
            for bucket_s, energy_uj in by_bucket.items()
        )

    # Auditing

    def audit(self, testimonies: Sequence[Evidence] = ()) -> Audit:
        """Recompute the books from raw readings; `testimonies` are those of the meters that are alive."""
        by_meter = {evidence.meter: evidence for evidence in testimonies}
        with self._booking:  # batches are only ever added: those up to here are what the balances were made from
            ends, balances = self._store.ends(), self._balances_by_text()
        chains = [self._tally(meter, ends.get(meter, (0, -1))) for meter in sorted({*ends, *by_meter})]
        faults = [fault for chain in chains for fault in chain.faults]
        pending: dict[str, int] = {}
        for chain in chains:
            evidence = by_meter.get(chain.meter)
            if evidence:
                faults += evidence.journal.faults + compare_journal(chain, evidence.journal, evidence.acknowledged)
                pending |= evidence.pending_uj
        faults += compare_balances(chains, balances)
        devices = self._device_audits(chains, pending)
        energy_uj = sum(device.movement_uj for device in devices)
        gap_uj = sum(device.gap_uj for device in devices)
        return Audit(
            ok=not faults and all(device.difference_uj == 0 for device in devices),
            devices=tuple(devices),
            faults=tuple(faults[:MAX_FAULTS]),
            energy_uj=energy_uj,
            gap_share=gap_uj / energy_uj if energy_uj else 0.0,
        )

    def _tally(self, meter: str, end: tuple[int, int]) -> ChainTally:
        try:
            return tally_chain(meter, self._store.batches(meter, end))
        except BooksDamaged as error:
            return ChainTally(meter, faults=[str(error)])

    def _balances_by_text(self) -> dict[tuple[str, str], int]:
        return {
            (balance.device, account_text(balance.account.labels())): balance.energy_uj
            for balance in self._store.totals()
        }

    def _device_audits(self, chains: Sequence[ChainTally], pending: dict[str, int]) -> list[DeviceAudit]:
        tallies: dict[str, DeviceTally] = defaultdict(DeviceTally)
        for chain in chains:
            for key, part in chain.devices.items():
                tallies[key].add(part)
        return [
            DeviceAudit(
                device_key=device.key,
                node=device.node,
                name=device.name,
                grade=device.grade,
                movement_uj=tally.movement_uj,
                posted_uj=tally.posted_uj,
                difference_uj=tally.posted_uj - tally.movement_uj,
                gap_uj=tally.gap_uj,
                pending_uj=pending.get(device.key, 0),
                batches=tally.batches,
            )
            for device in self._store.devices()
            if (tally := tallies.get(device.key)) is not None
        ]

    # Showing

    def status(self) -> Status:
        """What is going on now."""
        totals = self._store.totals()
        by_account: dict[str, int] = {name.value: 0 for name in AccountName}
        for balance in totals:
            by_account[balance.account.name.value] += balance.energy_uj
        with self._lock:
            heard = dict(self._heard)
        return Status(
            nodes=tuple(self._node_status(last) for last in heard.values()),
            devices=tuple(_device_statuses(heard.values(), _by_device(totals), self._store)),
            by_account_uj=by_account,
            warnings=tuple(_warnings(heard.values())),
        )

    def _node_status(self, last: _Heard) -> NodeStatus:
        age_s = max(0.0, self._now_s() - last.at_s)
        present = not last.body["resume"]["clean"] and age_s < _METER_SILENT_S
        return NodeStatus(
            node=last.body["node"], metered=present, last_heard_s=age_s, residents=tuple(last.body["residents"])
        )

    def snapshot(self) -> LedgerSnapshot:
        """The books for telemetry."""
        totals = self._store.totals()
        status = self.status()
        with self._lock:
            counts = {last.body["node"]: last.batches for last in self._heard.values()}
        intensity = self.carbon.series().intensity_at(self._clock.wall_ns())
        return LedgerSnapshot(
            balances=tuple(
                ExportedBalance(
                    labels={name: str(value) for name, value in balance.account.labels().items() if name != "name"}
                    | {"account": balance.account.name.value, "node": balance.node},
                    energy_uj=balance.energy_uj,
                    carbon_ugco2e=carbon_of(balance.energy_uj, intensity, self.carbon.pue),
                    grade=balance.grade.value,
                    uncertainty_uj=balance.uncertainty_uj,
                )
                for balance in totals
            ),
            devices=tuple(_figures(device) for device in status.devices),
            meters=tuple(
                MeterHealth(node.node, node.metered, node.last_heard_s, counts.get(node.node)) for node in status.nodes
            ),
        )

    def meter_of_tag(self, tag: str) -> str | None:
        """The meter whose receipts begin with `tag`; None if it was never heard of."""
        with self._lock:
            heard = dict(self._heard)
        for meter, last in heard.items():
            if node_tag(last.body["machine"], last.body["boot"]) == tag:
                return meter
        return None

    def _now_s(self) -> float:
        return self._clock.wall_ns() / NS_PER_S


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


def _by_device(totals: Iterable[Balance]) -> dict[str, int]:
    energy: dict[str, int] = defaultdict(int)
    for balance in totals:
        energy[balance.device] += balance.energy_uj
    return energy


def _device_statuses(heard: Iterable[_Heard], energy: dict[str, int], store: Store) -> Iterable[DeviceStatus]:
    known = {device.key: device for device in store.devices()}
    for last in heard:
        body = last.body
        for uuid, vitals in body["vitals"].items():
            key = f"{body['machine']}/{body['boot']}/{uuid}"
            if key in known:
                device = known[key]
                yield DeviceStatus(
                    node=device.node,
                    device_key=key,
                    kind=device.kind,
                    name=device.name,
                    grade=device.grade,
                    energy_uj=energy.get(key, 0),
                    **vitals,
                )


def _warnings(heard: Iterable[_Heard]) -> Iterable[str]:
    for last in heard:
        body = last.body
        yield from (f"{body['node']}: {uuid} cannot be read: {reason}" for uuid, reason in body["failures"].items())
        if body["lost_slices"]:
            yield f"{body['node']}: {body['lost_slices']} slices were overwritten before the meter read them"


def _figures(device: DeviceStatus) -> DeviceFigures:
    return DeviceFigures(
        uuid=device.device_key.rpartition("/")[2],
        kind=device.kind,
        name=device.name,
        node=device.node,
        grade=device.grade,
        energy_uj=device.energy_uj,
        power_mw=device.power_mw,
        utilization=device.utilization,
        memory_used_bytes=device.memory_used_bytes,
        memory_total_bytes=device.memory_total_bytes,
        temperature_c=device.temperature_c,
    )
