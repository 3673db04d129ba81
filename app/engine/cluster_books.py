"""The books of the cluster: the store, priced in carbon, reported, audited and exported.

Knows nothing of Ray: the accountant actor is the thin shell around it. Thread-safe.

    books = ClusterBooks(Store(url), lambda: Terms("FRA", series), clock)
    books.deliver(batches)             # exactly once, however often they come
    books.report("model")
"""

import contextlib
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace

from app.carbon.pricing import Interval, Prices, Terms
from app.clock import Clock
from app.domain.account import AccountName
from app.engine.carbon_totals import CarbonTotals
from app.engine.delivery import Delivery, MeterCondition
from app.engine.evidence import Evidence
from app.engine.exported import device_statuses, energy_by_device, exported_balance, exported_device
from app.engine.heard import Heard
from app.engine.job_details import job_details
from app.engine.proof import prove
from app.engine.reporting import interval_of, make_report
from app.engine.spending_words import Use
from app.engine.views import (
    Audit,
    HourEnergy,
    JobDetail,
    MeasuredReceipt,
    PresentPrice,
    Receipt,
    Report,
    ReportKey,
    Status,
)
from app.errors import BooksDamaged, JoulekeeperError, Unavailable
from app.ledger.journal import Batch
from app.ledger.store import Balance, Overlap, Store, StoredDevice
from app.telemetry.snapshot import LedgerSnapshot, MeterHealth
from app.units import NS_PER_S

_LONG_NS, _KEPT_TIMES = NS_PER_S // 20, 20
"""Totals that took longer to read than this are shown again for so many times as long: who watches a large cluster must
not take the time that its deliveries need."""
_STEPS_AT_ONCE = 20
_AHEAD_NS = 3_600 * NS_PER_S
"""What holds now is told for so long at most."""
_NOBODY = MeterCondition("", "", "")


class ClusterBooks:
    """Everything the accountant knows."""

    def __init__(self, store: Store, terms: Callable[[], Terms], clock: Clock) -> None:
        """`terms`: those of now; asked again for every answer, since grid data come in and are revised."""
        self._store, self._terms, self._clock = store, terms, clock
        self._priced = Prices(terms())
        self._carbon_totals = CarbonTotals(store.balances, clock)
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
        jobs = self._job_details(balances, tenant) if by == "job" else ()
        return make_report(by, balances, self._prices(), self._clock.wall_ns(), since_s, until_s, jobs)

    def used_by_tenant(self, since_s: float) -> dict[str, tuple[int, int]]:
        """Energy (uJ) and carbon (ug) charged to each tenant's requests and jobs since `since_s`, as far as booked."""
        by_tenant: dict[str, dict[Interval, int]] = defaultdict(dict)
        with self._store.moment() as books:
            for tenant, bucket_s, width_s, energy_uj in books.by_tenant(since_s):
                by_tenant[tenant][interval_of(bucket_s, width_s)] = energy_uj
        prices = self._prices()
        return {
            tenant: (sum(energy.values()), prices.footprint(energy).carbon_ugco2e)
            for tenant, energy in by_tenant.items()
        }

    def used_by_model(self, model: str, since_s: float) -> Use:
        """What was charged to a model since `since_s`, as far as booked. Raises Unavailable."""
        energy: dict[Interval, int] = defaultdict(int)
        requests: dict[str, int] = defaultdict(int)
        with self._store.moment() as books:
            for name, version, bucket_s, width_s, energy_uj in books.by_model(model, since_s):
                energy[interval_of(bucket_s, width_s)] += energy_uj
                if name == AccountName.REQUEST:
                    requests[version] += energy_uj
        return Use(sum(energy.values()), self._prices().footprint(energy).carbon_ugco2e, requests)

    def job_hours(self, job: str) -> tuple[HourEnergy, ...]:
        """What all attempts of a job were charged, by the buckets of the books: enough to price it again."""
        with self._store.moment() as books:
            return tuple(
                HourEnergy(start_s=bucket_s, width_s=width_s, energy_uj=energy_uj)
                for bucket_s, width_s, energy_uj in books.by_job(job)
            )

    def priced(self, measured: MeasuredReceipt) -> Receipt:
        """A receipt with its footprint: of the time in which its work was done, by the grid data of now."""
        start_ns = round(measured.wall_time_s * NS_PER_S)
        energy = {(start_ns, start_ns + max(1, measured.duration_ns)): measured.energy_uj}
        prices = self._prices()
        basis = prices.basis(energy, self._clock.wall_ns())
        terms = prices.terms
        return Receipt(
            **dict(measured),
            **asdict(prices.footprint(energy)),
            zone=terms.zone,
            pue=terms.pue,
            currency=terms.tariff.currency if terms.tariff else "",
            basis=basis,
        )

    def present_price(self) -> PresentPrice:
        """What holds now, and until when."""
        terms, now_ns = self._terms(), self._clock.wall_ns()
        slot = terms.series.slots_between(now_ns, now_ns + _AHEAD_NS)[0]
        return PresentPrice(g_per_kwh=slot.g_per_kwh * terms.pue, until_ns=slot.end_ns)

    def _prices(self) -> Prices:
        """Of the terms of now; what was worked out under the same terms is kept."""
        terms = self._terms()
        if terms != self._priced.terms:
            self._priced = Prices(terms)
        return self._priced

    def _job_details(self, balances: Iterable[Balance], tenant: str | None) -> tuple[JobDetail, ...]:
        """Of the jobs that were charged something, by worker and epoch."""
        names = {balance.account.job for balance in balances if balance.account.name is AccountName.JOB}
        details = job_details(part for name in sorted(names - {""}) for part in self._store.job_parts(name))
        theirs = (detail for detail in details if tenant is None or detail.tenant == tenant)
        return tuple(sorted(theirs, key=lambda detail: -detail.energy_uj))

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
        carbon_ug = self._carbon_totals.of(totals, self._prices())
        return LedgerSnapshot(
            balances=tuple(
                exported_balance(
                    balance.account,
                    balance.node,
                    balance.grade.value,
                    balance.energy_uj,
                    balance.uncertainty_uj,
                    carbon_ugco2e,
                )
                for balance, carbon_ugco2e in zip(totals, carbon_ug, strict=True)
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


def _doubled(overlap: Overlap) -> str:
    one, other = overlap.meters
    seconds = (overlap.until_ns - overlap.from_ns) / NS_PER_S
    return f"{overlap.device}: meters {one} and {other} both booked {seconds:.0f} s of it; that energy counts twice"
