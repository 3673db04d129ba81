"""The data sets that ship: deterministic, split by class, digested."""

import hashlib

import numpy as np
import pytest

from app.training.data import SOURCES, load_data


def test_digits_hold_out_the_same_share_of_every_class() -> None:
    data = load_data("builtin:digits", test_share=0.25, seed=7)
    assert len(data.train_x) + len(data.test_x) == data.card.rows == 1797
    everything = np.bincount(np.concatenate([data.train_y, data.test_y]))
    assert np.abs(np.bincount(data.test_y) - everything / 4).max() <= 0.5
    assert (data.train_x.dtype, data.train_y.dtype, data.train_x.shape[1]) == (np.float32, np.int64, 64)


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_seed_holds_out_the_same_rows_and_another_does_not(source: str) -> None:
    first, again, other = (load_data(source, test_share=0.2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test_x, again.test_x)
    assert not np.array_equal(first.test_x, other.test_x)
    assert first.card.digest == other.card.digest
    assert first.card.split != other.card.split


def test_the_digest_is_sha256_over_values_then_labels() -> None:
    rows = SOURCES["builtin:digits"].draw()
    expected = hashlib.sha256(rows.x.astype("<f4").tobytes() + rows.y.astype("<i8").tobytes()).hexdigest()
    assert load_data("builtin:digits", test_share=0.5, seed=0).card.digest == f"sha256:{expected}"


def test_the_seed_regression_has_the_shape_of_its_perceptron() -> None:
    data = load_data("builtin:seed-regression", test_share=0.25, seed=0)
    assert data.train_x.shape == (3072, 1000)
    assert data.test_y.shape == (1024, 1)
    # sin f0: (1 - e^-2) / 2 = 0.43; f1 f2 / 2: 0.25; five factors / 4: 0.31. Together 0.99.
    assert np.concatenate([data.train_y, data.test_y]).var() == pytest.approx(0.99, rel=0.1)
