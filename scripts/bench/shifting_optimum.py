"""What nobody can beat who knows the grid's future: the exact least carbon of a job, hour by hour.

Knows nothing of policies or forecasts. Jobs begin on the hour and intensities are hourly.

- Without pauses: every start (costs are linear between hours and the length is whole, so an hour's edge is best).
- With pauses and restarts: a mixed integer programme (HiGHS through scipy), in which the first and the last hour of a
  piece may be used in part and any one start is the free one: no real schedule can be cheaper.
- Elastic: a linear programme over shares of hours for each number of workers, in which changes cost nothing: a bound
  that a schedule that pays for its changes cannot reach.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from app.policy.shifting import Rate, RestartCost

Floats = NDArray[np.float64]


def best_start_g(actual: Floats, hours: int, power_w: float) -> float:
    """Of `hours` in one piece within `actual`, in g."""
    windows = np.convolve(actual, np.ones(hours), "valid")
    return float(windows.min()) * power_w / 1000


def best_pauses_g(actual: Floats, hours: float, power_w: float, restart: RestartCost) -> float:
    """Of `hours` of work in as many pieces as pay, in g."""
    count, lost_h = len(actual), restart.seconds / 3600
    eye, none = np.eye(count), np.zeros((count, count))
    # per hour: worked share, running or not, restarted or not, first start or not
    cost = np.concatenate(
        [actual * power_w, np.zeros(count), actual * (power_w * lost_h + restart.energy_j / 3600), np.zeros(count)]
    )
    before, after = np.eye(count, k=-1), np.eye(count, k=1)
    inner = eye + before + after  # an hour between two of the same piece is worked to its end
    rules = [
        LinearConstraint(np.hstack([-eye, inner, -eye * (1 + lost_h) - after, -eye - after]), -np.inf, 2),
        LinearConstraint(np.hstack([eye, -eye, lost_h * eye, none]), -np.inf, 0),
        LinearConstraint(np.hstack([none, eye - before, -eye, -eye]), -np.inf, 0),
        LinearConstraint(np.concatenate([np.ones(count), np.zeros(3 * count)]), hours, np.inf),
        LinearConstraint(np.concatenate([np.zeros(3 * count), np.ones(count)]), 0, 1),
    ]
    whole = np.concatenate([np.zeros(count), np.ones(3 * count)])
    found = milp(cost, integrality=whole, bounds=Bounds(0, 1), constraints=rules)
    if not found.success:
        raise RuntimeError(f"the optimum of {hours} h in {count} h was not found: {found.message}")
    return float(found.fun) / 1000


def best_scaling_g(actual: Floats, work: float, rates: Mapping[int, Rate]) -> float:
    """Of `work` on numbers of workers that change freely, in g."""
    speeds, powers = (np.array(each) for each in zip(*((r.speed, r.power_w) for r in rates.values()), strict=True))
    count, ways = len(actual), len(rates)
    found = linprog(
        np.outer(actual, powers).ravel(),
        A_ub=np.vstack([np.kron(np.eye(count), np.ones(ways)), -np.tile(speeds, count)]),
        b_ub=np.concatenate([np.ones(count), [-work]]),
        bounds=(0, 1),
    )
    if not found.success:
        raise RuntimeError(f"the optimum of {work} units in {count} h was not found: {found.message}")
    return float(found.fun) / 1000
