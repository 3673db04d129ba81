"""Tensors between JSON and numpy, and what every wire checks, with every disagreement named.

Knows nothing of requests, models or servers; raw bytes are in `raw_tensors`. Whoever sends data declares its datatype
and shape; both must fit the model's `TensorSpec`, and the data must fit both.

    >>> spec = TensorSpec("x", Datatype.INT8, (-1, 2))
    >>> from_json(spec, "INT8", [2, 2], [1, 2, 3, 4]).tolist()
    [[1, 2], [3, 4]]

BYTES tensors are object arrays of `bytes`; in JSON an element is a UTF-8 string. BF16, which numpy lacks,
becomes FP32. Whatever does not fit raises InvalidInput.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput

_DTYPES: dict[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype("?"),
    Datatype.UINT8: np.dtype("u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.BF16: np.dtype("<f4"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BYTES: np.dtype("O"),
}

_JSON_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true or false"),
    "u": (frozenset({int}), "whole numbers"),
    "i": (frozenset({int}), "whole numbers"),
    "f": (frozenset({int, float}), "numbers"),
    "O": (frozenset({str}), "strings"),
}
"""By numpy's kind: the Python types that JSON data may have, and what to call them."""

_MAX_ELEMENTS = 2**40


def dtype_of(datatype: Datatype) -> np.dtype[Any]:
    """The numpy type that holds `datatype`."""
    return _DTYPES[datatype]


def item_bytes(datatype: Datatype) -> int:
    """Bytes of one raw number of `datatype`."""
    return 2 if datatype is Datatype.BF16 else _DTYPES[datatype].itemsize


def check_declared(spec: TensorSpec, datatype: object, shape: object) -> tuple[int, ...]:
    """The declared shape, if it and the declared datatype fit `spec`."""
    if datatype == spec.datatype and type(shape) is list and _fits_plainly(shape, spec.shape):
        return tuple(shape)
    if datatype != spec.datatype:
        raise InvalidInput(
            f"input {spec.name!r}: datatype must be {spec.datatype}, got {datatype!r}; send {spec.datatype}"
        )
    if not isinstance(shape, Sequence) or not all(type(size) is int for size in shape):
        raise InvalidInput(f"input {spec.name!r}: shape must be an array of whole numbers, got {_short(shape)}")
    sizes = tuple(shape)
    if any(size < 0 for size in sizes):
        raise InvalidInput(
            f"input {spec.name!r}: sizes in shape must be >= 0, got {list(sizes)}; send the actual sizes"
        )
    # Where one size is zero no data bounds the others, and numpy has a limit of its own.
    if 0 in sizes and math.prod(filter(None, sizes)) > _MAX_ELEMENTS:
        raise InvalidInput(
            f"input {spec.name!r}: sizes of an empty tensor may multiply to {_MAX_ELEMENTS}, got {_short(list(sizes))}"
        )
    fits = len(sizes) == len(spec.shape) and all(
        bound in (-1, size) for size, bound in zip(sizes, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"input {spec.name!r}: shape must be {list(spec.shape)} (-1: any size), got {_short(list(sizes))}"
        )
    return sizes


def _fits_plainly(shape: list[Any], bounds: tuple[int, ...]) -> bool:
    """Whether nearly every request's case holds: the right number of sizes, all positive, all within bounds."""
    if len(shape) != len(bounds):
        return False
    for size, bound in zip(shape, bounds, strict=True):
        if type(size) is not int or size < 1 or (size != bound and bound != -1):
            return False
    return True


def from_json(spec: TensorSpec, datatype: object, shape: object, data: object) -> np.ndarray:
    """The array of JSON `data`: flat in row-major order, or nested as `shape` says."""
    sizes = check_declared(spec, datatype, shape)
    if not isinstance(data, list):
        raise InvalidInput(f"input {spec.name!r}: data must be an array, got {_short(data)}")
    # Going through all of the data costs as much as reading them: once, as a rule.
    kinds = set(map(type, data))
    flat = data
    if list in kinds:
        flat = _flatten(spec, sizes, data)
        kinds = set(map(type, flat))
    check_count(spec, sizes, len(flat))
    _check_types(spec, flat, kinds)
    if spec.datatype is Datatype.BYTES:
        return bytes_array([text.encode() for text in flat], sizes)
    return _numbers(spec, flat).reshape(sizes)


def to_json(datatype: Datatype, array: np.ndarray) -> np.ndarray | list[str]:
    """`array` flat in row-major order, fit for orjson. Raises InvalidInput for BYTES that are not UTF-8."""
    if datatype is not Datatype.BYTES:
        return np.ascontiguousarray(array, dtype=_DTYPES[datatype]).reshape(-1)
    try:
        return [bytes(item).decode() for item in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise InvalidInput("a BYTES output is not UTF-8 and cannot be sent as JSON; ask for binary data") from error


def check_count(spec: TensorSpec, sizes: tuple[int, ...], count: int) -> None:
    """Raises InvalidInput unless `count` elements fill the shape `sizes`."""
    if count != math.prod(sizes):
        raise InvalidInput(
            f"input {spec.name!r}: shape {list(sizes)} needs {math.prod(sizes)} elements, data has {count}; "
            "make them agree"
        )


def bytes_array(items: Sequence[bytes], sizes: tuple[int, ...]) -> np.ndarray:
    """An object array of `items`; numpy left alone would make a fixed-width array and cut trailing zeros."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(sizes)


def check_range(spec: TensorSpec, values: Sequence[Any]) -> None:
    """Raises InvalidInput naming the first of `values` that the datatype of `spec` cannot hold."""
    low, high = _limits(spec.datatype)
    for position, value in enumerate(values):
        if not low <= value <= high:
            raise InvalidInput(
                f"input {spec.name!r}: {spec.datatype} must lie within {low} and {high}, got {_short(value)} "
                f"at element {position}"
            )


def _limits(datatype: Datatype) -> tuple[float, float]:
    dtype = _DTYPES[datatype]
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _flatten(spec: TensorSpec, sizes: tuple[int, ...], data: list[Any]) -> list[Any]:
    level: list[Any] = [data]
    for depth, size in enumerate(sizes):
        for part in level:
            if type(part) is not list or len(part) != size:
                found = f"{len(part)} elements" if type(part) is list else _short(part)
                raise InvalidInput(
                    f"input {spec.name!r}: nested data must follow shape {list(sizes)}: at depth {depth} it "
                    f"needs an array of {size}, got {found}; nest it so, or send it flat"
                )
        level = list(chain.from_iterable(level))
    return level


def _check_types(spec: TensorSpec, flat: list[Any], kinds: set[type]) -> None:
    allowed, called = _JSON_TYPES[_DTYPES[spec.datatype].kind]
    if kinds <= allowed:
        return
    position, value = next((i, item) for i, item in enumerate(flat) if type(item) not in allowed)
    raise InvalidInput(
        f"input {spec.name!r}: {spec.datatype} takes {called}, got {_short(value)} at element {position}"
    )


def _numbers(spec: TensorSpec, flat: list[Any]) -> np.ndarray:
    dtype = _DTYPES[spec.datatype]
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=dtype)
    except OverflowError:
        check_range(spec, flat)
        raise
    # JSON has no infinity, so one that appears is a number that the datatype cannot hold.
    if dtype.kind == "f" and not np.isfinite(array).all():
        check_range(spec, flat)
    return array


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
