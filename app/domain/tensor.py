"""Tensor specifications: the shape of what a model takes and gives, in Open Inference Protocol terms."""

from dataclasses import dataclass
from enum import StrEnum


class Datatype(StrEnum):
    """The datatypes of the Open Inference Protocol v2, with BF16 as Triton has it."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of one input or output; -1 stands for a size free to vary."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
