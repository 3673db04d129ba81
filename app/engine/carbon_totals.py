"""Carbon behind the running totals of the books, for whoever watches them all the time.

A report prices every bucket anew; a scrape every few seconds cannot. Here a pass over all buckets is made now and then,
when grid data came in or were revised, and what was booked since is priced at the intensity of its moment. Knows
nothing of stores: what reads the buckets is an argument. Thread-safe.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from app.carbon.footprint import carbon_of
from app.carbon.pricing import Interval, Prices, Terms
from app.clock import Clock
from app.domain.account import Account
from app.engine.reporting import interval_of
from app.errors import Unavailable
from app.ledger.store import Balance
from app.units import NS_PER_S, exact_carbon_ug

_PASS_EVERY_NS = 600 * NS_PER_S
_PASS_SHARE = 100
"""A pass may take a hundredth of the time at most: after a long one the next comes later."""

Line = tuple[str, Account, str]
"""Device, account, grade."""


class CarbonTotals:
    """Micrograms behind each line's total."""

    def __init__(self, read: Callable[[], Iterable[Balance]], clock: Clock) -> None:
        """`read`: every balance of the books by bucket; called seldom, may raise Unavailable."""
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._known: dict[Line, tuple[int, float]] = {}
        """Energy and its carbon."""
        self._passed: Terms | None = None
        self._due_ns = 0

    def of(self, totals: Sequence[Balance], prices: Prices) -> list[int]:
        """Micrograms of each of `totals`, in their order."""
        terms = prices.terms
        present = terms.present(self._clock.wall_ns())
        if terms.is_constant:
            return [carbon_of(total.energy_uj, present, terms.pue) for total in totals]
        with self._lock:
            self._pass_over(prices)
            g_per_kwh = present.g_per_kwh * terms.pue
            return [round(self._add(total, g_per_kwh)) for total in totals]

    def _add(self, total: Balance, g_per_kwh: float) -> float:
        """What was booked since the last look is of now."""
        line = _line(total)
        energy_uj, carbon_ug = self._known.get(line, (0, 0.0))
        if total.energy_uj > energy_uj:
            carbon_ug += exact_carbon_ug(total.energy_uj - energy_uj, g_per_kwh)
            self._known[line] = total.energy_uj, carbon_ug
        return carbon_ug

    def _pass_over(self, prices: Prices) -> None:
        begun_ns = self._clock.monotonic_ns()
        if self._passed is not None and (prices.terms == self._passed or begun_ns < self._due_ns):
            return
        lines: dict[Line, dict[Interval, int]] = defaultdict(lambda: defaultdict(int))
        try:
            for balance in self._read():
                lines[_line(balance)][interval_of(balance.bucket_s, balance.width_s)] += balance.energy_uj
        except Unavailable:
            return  # what was known holds, and the next look tries again
        self._known = {
            line: (sum(energy.values()), prices.footprint(energy).carbon_ugco2e) for line, energy in lines.items()
        }
        self._passed = prices.terms
        took_ns = self._clock.monotonic_ns() - begun_ns
        self._due_ns = begun_ns + max(_PASS_EVERY_NS, _PASS_SHARE * took_ns)


def _line(balance: Balance) -> Line:
    return balance.device, balance.account, balance.grade.value
