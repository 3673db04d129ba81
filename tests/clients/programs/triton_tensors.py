"""How tritonclient wants its arrays: BF16 in a type of its own."""

import ml_dtypes


def as_sent(datatype, array):
    """`array` of `datatype` as the client takes it."""
    return array.astype(ml_dtypes.bfloat16) if datatype == "BF16" else array
