"""Data sets that ship with the product: where they come from, how they are split, and their digests.

Knows nothing of torch or Ray. A source is deterministic: the same seed holds out the same rows everywhere.

    data = load_data("builtin:digits", test_share=0.2, seed=7)
    data.train_x.shape, data.test_y.dtype, data.card.licence
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from app.models.card import DataCard

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a source, in a fixed order, with what is known about them."""

    x: Array
    """FP32 [rows, columns]."""
    y: Array
    """INT64 [rows] of classes, or FP32 [rows, outputs]."""
    origin: str
    licence: str


@dataclass(frozen=True, slots=True)
class Source:
    """One source and what fits it."""

    draw: Callable[[], Rows]
    loss: Literal["cross_entropy", "mse"]
    metric: Literal["accuracy", "r2"]
    columns: int
    outputs: int
    input_name: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows divided into those to learn from and those held out."""

    train_x: Array
    train_y: Array
    test_x: Array
    test_y: Array
    card: DataCard

    def order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Places of all rows to learn from in an epoch, shuffled."""
        return np.random.default_rng((seed, epoch)).permutation(len(self.train_x))


def load_data(source: str, *, test_share: float, seed: int) -> Dataset:
    """The rows of `source`, split. Raises KeyError for a name that is not in SOURCES (jobs are checked before)."""
    rows = SOURCES[source].draw()
    test = _held_out(rows.y, test_share, seed)
    card = DataCard(
        name=source,
        origin=rows.origin,
        licence=rows.licence,
        digest=_digest(rows),
        rows=len(rows.x),
        split=f"test_share={test_share}, seed={seed}: {int(test.sum())} rows held out",
        test_share=test_share,
        seed=seed,
    )
    return Dataset(rows.x[~test], rows.y[~test], rows.x[test], rows.y[test], card)


def _held_out(y: Array, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows are held out: the same share of every class, or of all rows where `y` holds no classes."""
    rng = np.random.default_rng(seed)
    groups = y if y.ndim == 1 else np.zeros(len(y), dtype=np.int64)
    test = np.zeros(len(y), dtype=np.bool_)
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        test[members[: round(share * len(members))]] = True
    return test


def _digest(rows: Rows) -> str:
    """sha256 over x, then y: little-endian, C order, in the source's own order of rows."""
    digest = hashlib.sha256()
    for array in (rows.x, rows.y):
        digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
    return f"sha256:{digest.hexdigest()}"


def _draw_digits() -> Rows:
    import sklearn
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Rows(
        x.astype(np.float32),
        y.astype(np.int64),
        "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI 1998 "
        f"(doi 10.24432/C50P49), test part, as shipped in scikit-learn {sklearn.__version__}; values 0..16",
        "CC BY 4.0",
    )


_LARGE = 28


def _draw_large_digits() -> Rows:
    """The digits as images of 28 x 28, as large as those of the usual examples: 8 x 8, bilinearly enlarged."""
    small = _draw_digits()
    places = np.linspace(0, 7, _LARGE)
    enlarge = np.stack([np.interp(places, np.arange(8), column) for column in np.eye(8)], axis=1)
    large = enlarge @ small.x.reshape(-1, 8, 8) @ enlarge.T
    origin = f"{small.origin}; enlarged bilinearly from 8 x 8 to {_LARGE} x {_LARGE}"
    return Rows(large.astype(np.float32).reshape(len(large), -1), small.y, origin, small.licence)


_SEED_ROWS, _SEED_COLUMNS, _SEED_FACTORS = 4096, 1000, 8


def _draw_seed_regression() -> Rows:
    """Eight hidden factors, seen through 1000 noisy linear readings; the target is a smooth function of them."""
    rng = np.random.default_rng(1000_500_100_1)
    factors = rng.standard_normal((_SEED_ROWS, _SEED_FACTORS))
    mixing = rng.standard_normal((_SEED_FACTORS, _SEED_COLUMNS)) / np.sqrt(_SEED_FACTORS)
    x = factors @ mixing + 0.1 * rng.standard_normal((_SEED_ROWS, _SEED_COLUMNS))
    y = np.sin(factors[:, 0]) + 0.5 * factors[:, 1] * factors[:, 2] + 0.25 * factors[:, 3:].sum(axis=1)
    return Rows(
        x.astype(np.float32),
        y.astype(np.float32)[:, None],
        "generated: x = f A + 0.1 n, y = sin f0 + f1 f2 / 2 + (f3 + .. + f7) / 4 with f, n, A sqrt 8 from "
        f"N(0, 1), numpy {np.__version__} default_rng(100050010001)",
        "Apache-2.0",
    )


SOURCES: dict[str, Source] = {
    "builtin:digits": Source(_draw_digits, "cross_entropy", "accuracy", 64, 10, "image"),
    "builtin:digits-28": Source(_draw_large_digits, "cross_entropy", "accuracy", _LARGE**2, 10, "image"),
    "builtin:seed-regression": Source(_draw_seed_regression, "mse", "r2", 1000, 1, "features"),
}
