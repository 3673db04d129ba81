"""Tensors between raw little-endian bytes and numpy: raw contents of gRPC, binary data of HTTP.

Knows nothing of requests, models or servers. BYTES elements are preceded by their length in four bytes. BF16, which
numpy lacks, becomes FP32. Numbers in a buffer that may be written to, a bytearray or a view of one, are not copied:

    >>> body = bytearray(b"\\x01\\x00\\x02\\x00")
    >>> array = from_raw(TensorSpec("x", Datatype.INT16, (-1,)), "INT16", [2], memoryview(body))
    >>> array.base is not None, array.tolist()
    (True, [1, 2])

Raises InvalidInput.
"""

import math
import struct
from typing import Any

import numpy as np

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.tensors import bytes_array, check_count, check_declared, dtype_of, item_bytes

Buffer = bytes | bytearray | memoryview

_LENGTH = struct.Struct("<I")
_HALF = np.dtype("<u2")


def from_raw(spec: TensorSpec, datatype: object, shape: object, raw: Buffer) -> np.ndarray:
    """The array of `raw`, declared as `datatype` and `shape`: writable, and a view of `raw` where that is possible."""
    sizes = check_declared(spec, datatype, shape)
    if spec.datatype is Datatype.BYTES:
        items = _split(spec, raw)
        check_count(spec, sizes, len(items))
        return bytes_array(items, sizes)
    expected = math.prod(sizes) * item_bytes(spec.datatype)
    if len(raw) != expected:
        raise InvalidInput(
            f"input {spec.name!r}: shape {list(sizes)} needs {expected} bytes of {spec.datatype}, "
            f"got {len(raw)}; make them agree"
        )
    return _numbers(spec.datatype, raw).reshape(sizes)


def to_raw(datatype: Datatype, array: np.ndarray) -> bytes | memoryview:
    """Little-endian bytes of `array` in row-major order, as `from_raw` reads them; a view where that is possible."""
    if datatype is Datatype.BYTES:
        return b"".join([part for item in array.reshape(-1) for part in (_LENGTH.pack(len(item)), item)])
    numbers = np.ascontiguousarray(array, dtype=dtype_of(datatype))
    return (_to_bf16(numbers) if datatype is Datatype.BF16 else numbers).reshape(-1).view(np.uint8).data


def _numbers(datatype: Datatype, raw: Buffer) -> np.ndarray:
    if datatype is Datatype.BOOL:
        return np.not_equal(np.frombuffer(raw, np.uint8), 0)
    if datatype is Datatype.BF16:
        return (np.frombuffer(raw, _HALF).astype(np.uint32) << 16).view(np.float32)
    array: np.ndarray[Any, Any] = np.frombuffer(raw, dtype_of(datatype))
    # torch refuses what cannot be written to, and code for vectors may want numbers where they belong.
    return array if array.flags.writeable and array.flags.aligned else array.copy()


def _split(spec: TensorSpec, raw: Buffer) -> list[bytes]:
    items: list[bytes] = []
    view, position, total = memoryview(raw), 0, len(raw)
    while position < total:
        start = position + _LENGTH.size
        length = int.from_bytes(view[position:start], "little")
        position = start + length
        if position > total:
            raise InvalidInput(
                f"input {spec.name!r}: raw BYTES end inside element {len(items)}: {position} bytes needed, "
                f"got {total}; precede every element with its length in four little-endian bytes"
            )
        items.append(bytes(view[start:position]))
    return items


def _to_bf16(numbers: np.ndarray) -> np.ndarray:
    bits = numbers.view(np.uint32)
    # Round to nearest, ties to even; a NaN keeps its top bits and stays one.
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    quiet_nan = bits | np.uint32(0x0040_0000)
    return (np.where(np.isnan(numbers), quiet_nan, rounded) >> np.uint32(16)).astype(_HALF)
