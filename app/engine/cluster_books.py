"""The books of the cluster: the store, priced in carbon, reported, audited and exported.

Knows nothing of Ray: the accountant actor is the thin shell around it. Thread-safe.

    books = ClusterBooks(Store(url), CarbonSettings(zone="FRA"), clock)
    books.deliver(batches)             # exactly once, however often they come
    books.report("model")
"""

import contextlib
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.carbon.footprint import CarbonSettings, carbon_of
from app.clock import Clock
from app.domain.account import WORK_ACCOUNTS, AccountName
from app.engine.delivery import Delivery, MeterCondition
from app.engine.evidence import Evidence
from app.engine.exported import device_statuses, energy_by_device, exported_balance, exported_device
from app.engine.heard import Heard
from app.engine.job_details import job_details
from app.engine.proof import prove
from app.engine.views import Audit, JobDetail, Report, ReportKey, ReportRow, Status
from app.errors import BooksDamaged, JoulekeeperError, Unavailable
from app.ledger.journal import Batch
from app.ledger.store import BUCKET_S, Balance, Overlap, Store, StoredDevice
from app.telemetry.snapshot import LedgerSnapshot, MeterHealth
from app.units import NS_PER_S

_LONG_NS, _KEPT_TIMES = NS_PER_S // 20, 20
"""Totals that took longer to read than this are shown again for so many times as long: who watches a large cluster must
not take the time that its deliveries need."""
_STEPS_AT_ONCE = 20
_NOBODY = MeterCondition("", "", "")


class ClusterBooks:
    """Everything the accountant knows."""

    def __init__(self, store: Store, carbon: CarbonSettings, clock: Clock) -> None:
        self._store, self.carbon, self._clock = store, carbon, clock
        self._heard = Heard()
        self._known_until_ns = 0
        self._kept: tuple[str, ...] = ()
        self._last_known: tuple[list[Balance], list[StoredDevice], list[Overlap]] = ([], [], [])
        self._lock = threading.Lock()
        self._booking = threading.Lock()

    # Booking

    def book(self, deliveries: Sequence[Delivery]) -> list[JoulekeeperError | None]:
        """Book what several meters delivered in one transaction; what went wrong with each delivery, None: all is in.

        Where one of them cannot be taken each gets a transaction of its own: nobody pays for another's fault.
        """
        with self._booking:
            error = self._booked(deliveries)
            damaged = isinstance(error, BooksDamaged) and len(deliveries) > 1
            errors = [self._booked([one]) for one in deliveries] if damaged else [error] * len(deliveries)
        now_s = self._now_s()
        with self._lock:
            for delivery, fault in zip(deliveries, errors, strict=True):
                self._note(delivery, fault, now_s)
        return errors

    def deliver(self, batches: Sequence[Batch]) -> tuple[int, int]:
        """Book batches of one meter in order; returns the position of the last. Raises Unavailable, BooksDamaged."""
        with self._booking:
            error = self._booked([Delivery(_NOBODY, tuple(batches))])
        if error is not None:
            raise error
        with self._lock:
            self._heard.booked(batches, self._now_s())
        return batches[-1].position

    def _booked(self, deliveries: Sequence[Delivery]) -> JoulekeeperError | None:
        batches = [batch for delivery in deliveries for batch in delivery.batches]
        for batch in batches:
            with contextlib.suppress(zlib.error, ValueError):  # the store says which batch it is
                batch.abridge()
        try:
            if batches:
                self._store.book(batches)
        except (Unavailable, BooksDamaged) as error:
            return error
        return None

    def _note(self, delivery: Delivery, fault: JoulekeeperError | None, now_s: float) -> None:
        said = delivery.condition
        if fault is None:
            # What was just taken does not wait any more.
            said = replace(said, waiting=max(0, said.waiting - len(delivery.batches)))
            if delivery.batches:
                self._heard.booked(delivery.batches, now_s)
        elif isinstance(fault, Unavailable):
            self._heard.refused(str(fault), now_s)
        self._heard.condition(said, now_s)

    def compact(self) -> bool:
        """Give old balances and batches less room, in a few short transactions; True if there is more to do.

        Batches that do not hold what the books say are kept, and warned of. Raises Unavailable.
        """
        done = self._store.compact(self._now_s(), _STEPS_AT_ONCE)
        with self._lock:
            self._kept = done.kept if done.kept or not done.more else self._kept
        return done.more

    # Reporting

    def report(
        self, by: ReportKey, since_s: float | None = None, until_s: float | None = None, tenant: str | None = None
    ) -> Report:
        """Energy and carbon of a period, grouped by `by`; of the minutes, hours and days that it touches.

        With `tenant` of what was charged to it alone.
        """
        until_s = self._now_s() if until_s is None else until_s
        balances = self._store.balances(since_s, until_s)
        if tenant is not None:
            balances = [balance for balance in balances if balance.account.tenant == tenant]
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
            jobs=self._job_details(balances, tenant) if by == "job" else (),
            resolution_s=max((balance.width_s for balance in balances), default=BUCKET_S),
        )

    def used_by_tenant(self, since_s: float) -> dict[str, tuple[int, int]]:
        """Energy (uJ) and carbon (ug) charged to each tenant's requests and jobs since `since_s`, as far as booked."""
        series = self.carbon.series()
        found: dict[str, tuple[int, int]] = {}
        with self._store.moment() as books:
            for tenant, bucket_s, width_s, energy_uj in books.by_tenant(since_s):
                intensity = series.intensity_at((bucket_s + width_s // 2) * NS_PER_S)
                energy, carbon = found.get(tenant, (0, 0))
                found[tenant] = (energy + energy_uj, carbon + carbon_of(energy_uj, intensity, self.carbon.pue))
        return found

    def _job_details(self, balances: Iterable[Balance], tenant: str | None) -> tuple[JobDetail, ...]:
        """Of the jobs that were charged something, by worker and epoch."""
        names = {balance.account.job for balance in balances if balance.account.name is AccountName.JOB}
        details = job_details(part for name in sorted(names - {""}) for part in self._store.job_parts(name))
        theirs = (detail for detail in details if tenant is None or detail.tenant == tenant)
        return tuple(sorted(theirs, key=lambda detail: -detail.energy_uj))

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
        by_bucket: dict[tuple[int, int], int] = defaultdict(int)
        for balance in balances:
            by_bucket[balance.bucket_s, balance.width_s] += balance.energy_uj
        return sum(
            carbon_of(energy_uj, series.intensity_at((bucket_s + width_s // 2) * NS_PER_S), self.carbon.pue)
            for (bucket_s, width_s), energy_uj in by_bucket.items()
        )

    # Auditing

    def audit(self, testimonies: Sequence[Evidence] = ()) -> Audit:
        """Recompute the books from raw readings; `testimonies` are those of the meters that are alive."""
        with self._store.moment() as books:
            return prove(books, testimonies)

    # Showing

    def status(self) -> Status:
        """What is going on now. While the store does not answer: what it said last, and a warning."""
        return self._status(*self._known())

    def _known(self) -> tuple[list[Balance], list[StoredDevice], list[Overlap]]:
        begun_ns = self._clock.monotonic_ns()
        if begun_ns < self._known_until_ns:
            return self._last_known
        try:
            self._last_known = self._store.totals(), self._store.devices(), self._store.overlaps()
            took_ns = self._clock.monotonic_ns() - begun_ns
            self._known_until_ns = begun_ns + _KEPT_TIMES * took_ns if took_ns > _LONG_NS else 0
        except Unavailable as error:
            with self._lock:
                self._heard.refused(str(error), self._now_s())
        return self._last_known

    def _status(
        self, totals: Sequence[Balance], devices: Sequence[StoredDevice], overlaps: Sequence[Overlap]
    ) -> Status:
        by_account: dict[str, int] = {name.value: 0 for name in AccountName}
        for balance in totals:
            by_account[balance.account.name.value] += balance.energy_uj
        now_s = self._now_s()
        with self._lock:
            shown, warnings = self._heard.shown(), (*self._heard.warnings(now_s), *self._kept)
        return Status(
            nodes=tuple(meter.status(now_s) for meter in shown),
            devices=tuple(device_statuses([meter.body for meter in shown], energy_by_device(totals), devices)),
            by_account_uj=by_account,
            warnings=(*warnings, *map(_doubled, overlaps)),
        )

    def snapshot(self) -> LedgerSnapshot:
        """The books for telemetry."""
        totals, devices, overlaps = self._known()
        status = self._status(totals, devices, overlaps)
        with self._lock:
            counts = {meter.body["node"]: meter.batches for meter in self._heard.shown()}
            waiting = self._heard.waiting()
        intensity = self.carbon.series().intensity_at(self._clock.wall_ns())
        return LedgerSnapshot(
            balances=tuple(
                exported_balance(
                    balance.account,
                    balance.node,
                    balance.grade.value,
                    balance.energy_uj,
                    balance.uncertainty_uj,
                    carbon_of(balance.energy_uj, intensity, self.carbon.pue),
                )
                for balance in totals
            ),
            devices=tuple(exported_device(device) for device in status.devices),
            meters=tuple(
                MeterHealth(node.node, node.metered, node.last_heard_s, counts.get(node.node), waiting.get(node.node))
                for node in status.nodes
            ),
            warnings=len(status.warnings),
        )

    def ray_node_of_tag(self, tag: str) -> str | None:
        """Where the meter whose receipts begin with `tag` can be called back; None if it was never heard of."""
        with self._lock:
            meter = self._heard.by_tag(tag)
        return meter.said.ray_node if meter and meter.said else None

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


def _doubled(overlap: Overlap) -> str:
    one, other = overlap.meters
    seconds = (overlap.until_ns - overlap.from_ns) / NS_PER_S
    return f"{overlap.device}: meters {one} and {other} both booked {seconds:.0f} s of it; that energy counts twice"
