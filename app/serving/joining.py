"""Several requests' inputs as one call, and the outputs of that call cut apart again, along dimension 0.

Pure. Knows nothing of queues, runners or accounts.

    kind_of(inputs)                 # equal for what may be joined; None for what must run alone
    outputs = run(join([a, b]))
    part_a, part_b = split(outputs, [rows_of(a), rows_of(b)])
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate

import numpy as np

Arrays = Mapping[str, np.ndarray]


def rows_of(inputs: Arrays) -> int:
    """First size of the first input; 1 without inputs or dimensions."""
    for array in inputs.values():
        return len(array) if array.ndim else 1
    return 1


def kind_of(inputs: Arrays) -> Hashable | None:
    """Names, datatypes and trailing shapes; None when the inputs do not agree on a number of rows, or have none."""
    rows = rows_of(inputs)
    if not rows or not inputs or any(not array.ndim or len(array) != rows for array in inputs.values()):
        return None
    if len(inputs) == 1:
        ((name, array),) = inputs.items()
        return name, array.dtype.str, array.shape[1:]
    return tuple((name, inputs[name].dtype.str, inputs[name].shape[1:]) for name in sorted(inputs))


def join(parts: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """The inputs of one kind, in this order; one alone is handed on as it is."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def split(outputs: Arrays, rows: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """The outputs of each part, as views. Raises ValueError if an output does not have as many rows as went in."""
    whole = sum(rows)
    for name, array in outputs.items():
        if not array.ndim or len(array) != whole:
            raise ValueError(f"output {name!r} must have {whole} rows as its inputs, got shape {list(array.shape)}")
    ends = list(accumulate(rows))
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]
