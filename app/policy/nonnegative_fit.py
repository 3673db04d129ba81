"""Least squares with coefficients that cannot be negative, one observation at a time, older ones counting less.

For costs and powers that add up: a cost below zero would be no cost. Errors count relative to what was observed, so
that one slow first pass does not outweigh a thousand quick ones. Pure: no time, no chance.

    fit = NonNegativeFit(2, memory=300)
    fit.add((3.0, 1.0), 7.0)
    fit.of((2.0, 2.0))

The normal equations with a factor for forgetting, solved by the active sets of Lawson and Hanson, "Solving Least
Squares Problems" (1974), chapter 23.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_RIDGE = 1e-9  # of what two unknowns add alike, each gets a part
_SOLVE_EVERY = 8
_LEAN = 0.05
"""How many observations of each term by itself it weighs to lean on something."""


class NonNegativeFit:
    """Coefficients of a sum of `size` terms."""

    def __init__(self, size: int, memory: float) -> None:
        """`memory`: after so many further observations one counts 1/e."""
        self._keep = float(np.exp(-1 / memory))
        self._squares, self._products = np.zeros((size, size)), np.zeros(size)
        self._prior_squares, self._prior_products = np.zeros(size), np.zeros(size)
        self._lean: tuple[float, ...] | None = None
        self._weight = 0.0
        self._coefficients: tuple[float, ...] = (0.0,) * size
        self._stale = 0
        self.seen = 0.0
        """Sum of the weights of all observations, forgotten ones included."""

    def add(self, terms: Sequence[float], value: float, weight: float = 1.0) -> None:
        """`terms`, each >= 0, made `value` > 0."""
        x = np.array(terms)
        scale = weight / value**2
        keep = self._keep**weight
        self._squares *= keep
        self._products *= keep
        self._weight = self._weight * keep + weight
        self._squares += scale * np.outer(x, x)
        self._products += scale * value * x
        self.seen += weight
        self._stale += 1

    def expect(self, coefficients: Sequence[float], strengths: Sequence[float]) -> None:
        """What to assume of each coefficient as long as little was seen of it.

        A strength of `s` weighs as `s` observations of that term alone; 0: nothing is assumed.
        """
        centre = np.array(coefficients)
        self._prior_squares = np.array(strengths)
        self._prior_products = self._prior_squares * centre
        self._stale = _SOLVE_EVERY

    def lean_on(self, coefficients: Sequence[float]) -> None:
        """What the coefficients are about, for terms that what was seen does not tell apart."""
        self._lean = tuple(coefficients)

    @property
    def coefficients(self) -> tuple[float, ...]:
        """As of the latest observations but a few."""
        if self._stale >= _SOLVE_EVERY or (self._stale and self.seen < 4 * _SOLVE_EVERY):
            squares, products = self._squares + np.diag(self._prior_squares), self._products + self._prior_products
            if self._lean:
                own = _LEAN / self._weight * np.diagonal(self._squares)
                squares, products = squares + np.diag(own), products + own * np.array(self._lean)
            self._coefficients = tuple(map(float, _solved(squares, products)))
            self._stale = 0
        return self._coefficients

    def of(self, terms: Sequence[float]) -> float:
        """What `terms` make."""
        return sum(x * each for x, each in zip(terms, self.coefficients, strict=True))


def _solved(squares: Floats, products: Floats) -> Floats:
    """x >= 0 with the least x.squares.x / 2 - products.x."""
    size = np.sqrt(np.diagonal(squares))
    seen = size > 0
    found = np.zeros(len(products))
    if not seen.any():
        return found
    size = size[seen]
    a = squares[np.ix_(seen, seen)] / np.outer(size, size) + _RIDGE * np.eye(len(size))
    found[seen] = _active_sets(a, products[seen] / size) / size
    return found


def _active_sets(a: Floats, b: Floats) -> Floats:
    """Lawson and Hanson's algorithm NNLS for normal equations whose diagonal is 1."""
    count = len(b)
    x, free = np.zeros(count), np.zeros(count, np.bool_)
    for _ in range(3 * count):
        gradient = np.where(free, -np.inf, b - a @ x)
        best = int(gradient.argmax())
        if gradient[best] <= 1e-12:
            break
        free[best] = True
        while free.any():
            trial = np.zeros(count)
            trial[free] = np.linalg.solve(a[np.ix_(free, free)], b[free])
            if trial[free].min() > 0:
                x = trial
                break
            below = free & (trial <= 0)
            x = x + (trial - x) * float((x[below] / (x[below] - trial[below])).min())
            free &= x > 1e-15
    return x
