"""A request for inference and its answer, as both wires of the Open Inference Protocol carry them.

Knows nothing of JSON, protobuf or servers; `oip_http` and `oip_grpc` translate from and to these.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.tensors import item_bytes

Parameter = bool | int | float | str

_NOT_HERE = ("shared_memory_region", "classification")


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What a served model version is called, takes and gives; tensors by name, in the model's order."""

    name: str
    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @classmethod
    def of(
        cls, name: str, version: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> "ModelSignature":
        return cls(name, version, {spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs})


@dataclass(slots=True)
class InferRequest:
    """Inputs that already fit the model's specifications."""

    id: str
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...] = ()
    """Outputs asked for; empty: all of them."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(slots=True)
class InferResponse:
    """Outputs in the order to send them. `parameters` carry the receipt."""

    id: str
    outputs: Mapping[str, np.ndarray]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    weight: float = 1.0
    """How much work the inputs were, in the model's own unit: tokens for an encoder. No wire carries it."""


def input_spec(signature: ModelSignature, name: str, taken: Mapping[str, np.ndarray]) -> TensorSpec:
    """The specification of input `name`. Raises InvalidInput if there is none, or `taken` has it already."""
    spec = signature.inputs.get(name)
    if spec is None:
        raise InvalidInput(f"input {name!r} is unknown to {signature.name}; it takes {_listed(signature.inputs)}")
    if name in taken:
        raise InvalidInput(f"input {name!r} is given twice; send it once")
    return spec


def check_complete(signature: ModelSignature, taken: Mapping[str, np.ndarray]) -> None:
    """Raises InvalidInput naming every input that is missing."""
    missing = [name for name in signature.inputs if name not in taken]
    if missing:
        raise InvalidInput(f"input {_listed(missing)} is missing; {signature.name} takes {_listed(signature.inputs)}")


def check_requested(signature: ModelSignature, requested: tuple[str, ...]) -> tuple[str, ...]:
    """`requested` itself. Raises InvalidInput naming the first output that the model does not give."""
    for name in requested:
        if name not in signature.outputs:
            raise InvalidInput(f"output {name!r} is unknown to {signature.name}; it gives {_listed(signature.outputs)}")
    return requested


def only_input(signature: ModelSignature, size_bytes: int) -> tuple[TensorSpec, tuple[int, ...]]:
    """The input that an undeclared body of `size_bytes` must be, and its shape; for BYTES, all of it is one element.

    Raises InvalidInput unless there is one input, and one free size at most.
    """
    specs = list(signature.inputs.values())
    free = [size for size in specs[0].shape if size == -1] if len(specs) == 1 else []
    if len(specs) != 1 or (len(free) > 1 and specs[0].datatype is not Datatype.BYTES):
        raise InvalidInput(
            f"a body without JSON needs a model with one input and one free size at most; {signature.name} takes "
            f"{_listed(signature.inputs)}; send JSON before the binary data"
        )
    spec = specs[0]
    if spec.datatype is Datatype.BYTES:
        return spec, tuple(1 if size == -1 else size for size in spec.shape)
    row_bytes = math.prod(size for size in spec.shape if size != -1) * item_bytes(spec.datatype)
    return spec, tuple(size_bytes // max(1, row_bytes) if size == -1 else size for size in spec.shape)


def refuse_elsewhere(title: str, parameters: Iterable[str]) -> None:
    """Raises InvalidInput for parameters of `title` by which Triton finds data elsewhere or answers with classes."""
    for name in _NOT_HERE:
        if name in parameters:
            raise InvalidInput(f"{title}: parameter {name!r} is not supported; send and take tensors in the message")


def select_outputs(request: InferRequest, outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The outputs that `request` asks for, in its order."""
    return {name: outputs[name] for name in request.outputs} if request.outputs else outputs


def _listed(names: Sequence[str] | Mapping[str, TensorSpec]) -> str:
    return ", ".join(repr(name) for name in names)
