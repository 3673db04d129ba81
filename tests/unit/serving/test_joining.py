"""Requests are joined when everything but the number of rows agrees, and cut apart where they were joined."""

import numpy as np
import pytest

from app.serving.joining import join, kind_of, rows_of, split


def numbers(*shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def texts(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"x": numbers(1, 3)}, {"x": numbers(5, 3)}, True),
        ({"x": numbers(1, 3)}, {"x": numbers(1, 4)}, False),
        ({"x": numbers(2)}, {"x": numbers(2, dtype=np.float64)}, False),
        ({"x": numbers(2)}, {"y": numbers(2)}, False),
        ({"x": numbers(2), "y": numbers(2, 1)}, {"y": numbers(1, 1), "x": numbers(1)}, True),
        ({"x": texts(b"a")}, {"x": texts(b"b", b"c")}, True),
        ({"x": texts(b"a")}, {"x": numbers(1)}, False),
    ],
)
def test_a_kind_is_names_datatypes_and_trailing_shapes(one, other, same):
    assert (kind_of(one) == kind_of(other)) is same


@pytest.mark.parametrize(
    "inputs", [{}, {"x": np.float32(1).reshape(())}, {"x": numbers(0, 3)}, {"x": numbers(2), "y": numbers(3)}]
)
def test_what_has_no_common_number_of_rows_runs_alone(inputs):
    assert kind_of(inputs) is None


def test_parts_come_out_as_they_went_in():
    parts = [{"x": numbers(2, 3), "t": texts(b"a", b"b\0")}, {"t": texts(b""), "x": numbers(1, 3) + 10}]
    assert kind_of(parts[0]) == kind_of(parts[1])
    again = split(join(parts), [rows_of(part) for part in parts])
    for before, after in zip(parts, again, strict=True):
        np.testing.assert_array_equal(after["x"], before["x"])
        assert after["t"].tolist() == before["t"].tolist()


def test_a_single_part_is_not_copied():
    part = {"x": numbers(2)}
    assert join([part])["x"] is part["x"]


@pytest.mark.parametrize("output", [numbers(2, 3), np.float32(1).reshape(())])
def test_an_output_with_other_rows_cannot_be_cut_apart(output):
    with pytest.raises(ValueError, match="'y' must have 3 rows"):
        split({"y": output}, [1, 2])
