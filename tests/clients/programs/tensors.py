"""One array of every datatype, and how to compare what comes back."""

import numpy as np

ARRAYS = {
    "BOOL": np.array([True, False, True]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-32768, 32767], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([0.5, -65504, np.inf], np.float16),
    "BF16": np.array([0.5, -1.0, 3.0], np.float32),
    "FP32": np.array([0.1, -1e38, 0.0], np.float32),
    "FP64": np.array([0.1, 1e300], np.float64),
    "BYTES": np.array([b"", b"\x00\xff", "wörld".encode()], dtype=object),
}


def same(datatype, found, expected):
    """Raises unless `found` is `expected`, value for value."""
    assert found is not None, f"{datatype} did not come back"
    found = found.astype(expected.dtype)
    assert found.tolist() == expected.tolist(), f"{datatype}: {found!r} is not {expected!r}"
