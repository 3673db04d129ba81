"""What a job may use, and whether it has: pure arithmetic, figures in, verdict out.

Knows nothing of meters, clocks or workers. A budget covers everything that the books charge to the run: its attempts,
lost work included, and of each the start of its processes. What workers tell of their own slices is known at once, but
leaves out the rest; what the ledger says is all of it, but seconds late. So:

    estimate = what the slices of this attempt come to + the most that the ledger ever had beside what meters had
               charged to them

    tally = Tally(before=state.spent)
    tally.told(booked, charged)                       # whenever the ledger answers
    spent = tally.now(slices)
    used_up(budget, spent, closing)                   # "" or "the budget of 0.0001 kWh is used up: 359.8 J spent ..."
"""

from app.training.parts import Budget
from app.training.position import Spent
from app.units import format_carbon, format_energy

_S_PER_H = 3600
_UG_PER_G = 1_000_000


class Tally:
    """What a run has used, over its attempts."""

    def __init__(self, before: Spent) -> None:
        """`before` is what the checkpoint says; the ledger may know of more, lost since."""
        self._energy_uj, self._carbon_ug = before.energy_uj, before.carbon_ugco2e
        self._seconds = before.seconds

    def told(self, booked: Spent, charged: Spent) -> None:
        """The ledger charges `booked` to the run, meters have charged `charged` to the slices of this attempt."""
        # Meters deliver a little after they have charged, so the difference is at its truest when it is largest.
        self._energy_uj = max(self._energy_uj, booked.energy_uj - charged.energy_uj)
        self._carbon_ug = max(self._carbon_ug, booked.carbon_ugco2e - charged.carbon_ugco2e)

    def now(self, slices: Spent) -> Spent:
        """With what all slices of this attempt tell and the seconds since it began."""
        return Spent(self._energy_uj, self._carbon_ug, self._seconds) + slices


def used_up(budget: Budget, spent: Spent, closing: Spent) -> str:
    """Why the run must end now, to be within `budget` once it has closed at the price of `closing`; or empty."""
    total = spent + closing
    if budget.energy_uj is not None and total.energy_uj >= budget.energy_uj:
        return (
            f"the budget of {budget.kwh:g} kWh ({format_energy(budget.energy_uj)}) is used up: "
            f"{format_energy(spent.energy_uj)} spent, {format_energy(closing.energy_uj)} kept for the end"
        )
    if budget.gco2e is not None and total.carbon_ugco2e >= budget.gco2e * _UG_PER_G:
        return (
            f"the budget of {budget.gco2e:g} gCO2e is used up: {format_carbon(round(spent.carbon_ugco2e))} emitted, "
            f"{format_carbon(round(closing.carbon_ugco2e))} kept for the end"
        )
    if budget.hours is not None and total.seconds >= budget.hours * _S_PER_H:
        return f"the budget of {budget.hours:g} hours is used up: {spent.seconds:.0f} s trained"
    return ""


def seconds_left(budget: Budget, spent: Spent, closing: Spent, pace: Spent) -> float:
    """Until it is used up at `pace`, which is what `pace.seconds` took; infinite where nothing is being used."""
    total, waits = spent + closing, [float("inf")]
    if budget.energy_uj is not None and pace.energy_uj > 0:
        waits.append((budget.energy_uj - total.energy_uj) * pace.seconds / pace.energy_uj)
    if budget.gco2e is not None and pace.carbon_ugco2e > 0:
        waits.append((budget.gco2e * _UG_PER_G - total.carbon_ugco2e) * pace.seconds / pace.carbon_ugco2e)
    if budget.hours is not None:
        waits.append(budget.hours * _S_PER_H - total.seconds)
    return max(0.0, min(waits))


def part_of(pace: Spent, seconds: float) -> Spent:
    """What `seconds` cost at `pace`."""
    share = seconds / pace.seconds if pace.seconds else 0.0
    return Spent(round(pace.energy_uj * share), pace.carbon_ugco2e * share, seconds)
