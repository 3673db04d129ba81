"""The best that somebody could do who knows the whole day: a linear programme, exact, by HiGHS.

Knows nothing of forecasts or rules. Unknowns are the answers of each variant in each step; the sum of their quality is
made as large as the budget allows, with nobody answered twice and the floor of the mean kept.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, identity, kron, vstack

from app.policy.variants import Variant

Floats = NDArray[np.float64]


def best_day(
    variants: tuple[Variant, ...], counts: Floats, g_per_j: Floats, budget_g: float, mean: float
) -> tuple[float, float, float]:
    """Sum of quality, answers and grams of the best day; `counts` and `g_per_j` by step."""
    quality = np.array([each.quality for each in variants])
    joules = np.array([each.energy_j for each in variants])
    steps, ways = len(counts), len(variants)
    gain, grams = np.tile(quality, steps), np.outer(g_per_j, joules).ravel()
    once = kron(identity(steps), np.ones((1, ways)))
    bounds = vstack([once, csr_matrix(grams), csr_matrix(np.tile(mean - quality, steps))])
    scale = counts.sum() or 1.0
    found = linprog(
        -gain / scale, A_ub=bounds, b_ub=np.concatenate([counts, [budget_g], [0.0]]), bounds=(0, None), method="highs"
    )
    if found.status != 0:
        raise RuntimeError(f"the programme of a day has no optimum: {found.message}")
    return float(gain @ found.x), float(found.x.sum()), float(grams @ found.x)


def least_carbon(variants: tuple[Variant, ...], counts: Floats, g_per_j: Floats, answered: float, mean: float) -> float:
    """Grams that so many answers of such a mean take at least."""
    quality = np.array([each.quality for each in variants])
    joules = np.array([each.energy_j for each in variants])
    steps, ways = len(counts), len(variants)
    gain, grams = np.tile(quality, steps), np.outer(g_per_j, joules).ravel()
    once = kron(identity(steps), np.ones((1, ways)))
    bounds = vstack([once, csr_matrix(-gain), csr_matrix(-np.ones(steps * ways))])
    room = np.concatenate([counts, [-mean * answered * (1 - 1e-9)], [-answered * (1 - 1e-9)]])
    scale = grams.sum() or 1.0
    found = linprog(grams / scale, A_ub=bounds, b_ub=room, bounds=(0, None), method="highs")
    if found.status != 0:
        raise RuntimeError(f"the programme of a day has no optimum: {found.message}")
    return float(grams @ found.x)
