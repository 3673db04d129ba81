"""JSON data to arrays: what fits, and every way not to."""

import numpy as np
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.tensors import from_json, to_json

PAIRS = TensorSpec("x", Datatype.INT8, (-1, 2))
TEXT = TensorSpec("text", Datatype.BYTES, (-1,))


def test_flat_and_nested_data_make_the_same_array():
    flat = from_json(PAIRS, "INT8", [2, 2], [1, 2, 3, 4])
    nested = from_json(PAIRS, "INT8", [2, 2], [[1, 2], [3, 4]])
    assert flat.dtype == np.int8
    assert flat.tolist() == nested.tolist() == [[1, 2], [3, 4]]


def test_strings_become_utf8_bytes_with_trailing_zeros_kept():
    array = from_json(TEXT, "BYTES", [2], ["Grüße", "a\x00"])
    assert array.dtype == object
    assert array.tolist() == ["Grüße".encode(), b"a\x00"]


def test_whole_numbers_are_accepted_as_floats():
    assert from_json(TensorSpec("x", Datatype.FP32, (-1,)), "FP32", [2], [1, 2.5]).tolist() == [1.0, 2.5]


def test_zero_rows_make_an_empty_array():
    assert from_json(PAIRS, "INT8", [0, 2], []).shape == (0, 2)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "says"),
    [
        ("FP32", [1, 2], [1, 2], "datatype must be INT8, got 'FP32'"),
        (None, [1, 2], [1, 2], "datatype must be INT8, got None"),
        (["INT8"], [1, 2], [1, 2], "datatype must be INT8"),
        ("INT8", None, [1, 2], "shape must be an array of whole numbers, got None"),
        ("INT8", "12", [1, 2], "shape must be an array of whole numbers, got '12'"),
        ("INT8", [1, True], [1, 2], "shape must be an array of whole numbers"),
        ("INT8", [-1, 2], [1, 2], "sizes in shape must be >= 0, got \\[-1, 2\\]"),
        ("INT8", [1, 3], [1, 2, 3], "shape must be \\[-1, 2\\] \\(-1: any size\\), got \\[1, 3\\]"),
        ("INT8", [2], [1, 2], "shape must be \\[-1, 2\\]"),
        ("INT8", [2, 2], [1, 2, 3], "shape \\[2, 2\\] needs 4 elements, data has 3"),
        ("INT8", [10**12, 2], [1, 2], "needs 2000000000000 elements, data has 2"),
        ("INT8", [2, 2], [[1, 2], [3]], "at depth 1 it needs an array of 2, got 1 elements"),
        ("INT8", [2, 2], [[1, 2], 3], "at depth 1 it needs an array of 2, got 3"),
        ("INT8", [1, 2], [[[1, 2]]], "at depth 1 it needs an array of 2, got 1 elements"),
        ("INT8", [1, 2], None, "data must be an array, got None"),
        ("INT8", [1, 2], {"a": 1}, "data must be an array"),
        ("INT8", [1, 2], [1, 128], "INT8 must lie within -128 and 127, got 128 at element 1"),
        ("INT8", [1, 2], [1, 10**30], "INT8 must lie within -128 and 127, got 10"),
        ("INT8", [1, 2], [1, 1.5], "INT8 takes whole numbers, got 1.5 at element 1"),
        ("INT8", [1, 2], [True, 2], "INT8 takes whole numbers, got True at element 0"),
        ("INT8", [1, 2], [1, None], "INT8 takes whole numbers, got None at element 1"),
        ("INT8", [1, 2], ["1", 2], "INT8 takes whole numbers, got '1' at element 0"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_reason(datatype, shape, data, says):
    with pytest.raises(InvalidInput, match=says) as refusal:
        from_json(PAIRS, datatype, shape, data)
    assert "input 'x'" in str(refusal.value)


@pytest.mark.parametrize(
    ("datatype", "value", "says"),
    [
        (Datatype.BOOL, 1, "BOOL takes true or false, got 1"),
        (Datatype.BYTES, 5, "BYTES takes strings, got 5"),
        (Datatype.UINT8, -1, "UINT8 must lie within 0 and 255, got -1"),
        (Datatype.UINT64, 2**64, "UINT64 must lie within 0 and 18446744073709551615"),
        (Datatype.FP16, 70000.0, "FP16 must lie within -65504.0 and 65504.0, got 70000.0"),
        (Datatype.FP32, 1e300, "FP32 must lie within"),
        (Datatype.FP64, 10**400, "FP64 must lie within"),
        (Datatype.FP32, True, "FP32 takes numbers, got True"),
    ],
)
def test_a_value_the_datatype_cannot_hold_is_refused(datatype, value, says):
    with pytest.raises(InvalidInput, match=says):
        from_json(TensorSpec("x", datatype, (1,)), datatype.value, [1], [value])


def test_bytes_that_are_not_text_cannot_go_out_as_json():
    with pytest.raises(InvalidInput, match="not UTF-8 and cannot be sent as JSON; ask for binary data"):
        to_json(Datatype.BYTES, np.array([b"\xff"], dtype=object))
