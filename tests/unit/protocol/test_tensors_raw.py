"""Raw bytes to arrays and back."""

import numpy as np
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.raw_tensors import from_raw, to_raw

TEXT = TensorSpec("text", Datatype.BYTES, (-1,))


def test_numbers_are_little_endian_and_the_array_can_be_written_to():
    array = from_raw(TensorSpec("x", Datatype.INT16, (-1,)), "INT16", [2], b"\x01\x00\x00\x01")
    assert array.tolist() == [1, 256]
    array[0] = 7


def test_bytes_elements_are_preceded_by_their_length():
    raw = b"\x02\x00\x00\x00hi\x00\x00\x00\x00"
    array = from_raw(TEXT, "BYTES", [2], raw)
    assert array.tolist() == [b"hi", b""]
    assert to_raw(Datatype.BYTES, array) == raw


def test_bf16_is_the_upper_half_of_fp32():
    # 1.0 is 0x3F800000 and -2.5 is 0xC0200000 in FP32.
    array = from_raw(TensorSpec("x", Datatype.BF16, (-1,)), "BF16", [2], bytes.fromhex("803f20c0"))
    assert array.dtype == np.float32
    assert array.tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    ("bits", "rounded"),
    [
        (0x3F808000, "803f"),  # halfway to 0x3F81: the even neighbour is 0x3F80
        (0x3F818000, "823f"),  # halfway to 0x3F82, which is even
        (0x3F808001, "813f"),  # just above halfway
        (0x7F800001, "c07f"),  # a NaN whose mantissa would be cut to an infinity stays a NaN
    ],
)
def test_fp32_is_rounded_to_the_nearest_bf16(bits, rounded):
    assert to_raw(Datatype.BF16, np.array([bits], np.uint32).view(np.float32)) == bytes.fromhex(rounded)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\x02\x00\x00\x00h", "end inside element 0: 6 bytes needed, got 5"),
        (b"\x00\x00", "end inside element 0: 4 bytes needed, got 2"),
        (b"\x00\x00\x00\x00\xff\xff\xff\xff", "end inside element 1: 4294967303 bytes needed"),
        (b"", "shape \\[1\\] needs 1 elements, data has 0"),
    ],
)
def test_raw_bytes_that_end_too_soon_are_refused(raw, says):
    with pytest.raises(InvalidInput, match=says):
        from_raw(TEXT, "BYTES", [1], raw)


def test_raw_data_of_the_wrong_length_is_refused():
    with pytest.raises(InvalidInput, match="shape \\[3\\] needs 12 bytes of FP32, got 8"):
        from_raw(TensorSpec("x", Datatype.FP32, (-1,)), "FP32", [3], bytes(8))
