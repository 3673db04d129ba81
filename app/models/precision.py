"""In what the weights of a variant are kept. Knows nothing of how."""

from enum import StrEnum


class Precision(StrEnum):
    """Its value is the variant's name: `pycoder@int8`."""

    INT8 = "int8"
    INT4 = "int4"
    BF16 = "bf16"
