"""Runner of a user's Python class: what it declares is checked once at load, what it answers at every call.

Knows nothing of wires, servers or what the class does. The class runs with the rights of the replica, so whoever may
write a Serve config may run code, as Serve itself has it. It needs nothing of this package:

    class Upper:
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        outputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        batch = True                                  # rows of several requests may come in one call; default False

        def __init__(self, prefix: str = "") -> None: # `source_args` by name; `device`, `directory` if it takes them
            self.prefix = prefix.encode()

        def run(self, inputs):                        # named numpy arrays in and out; BYTES: object arrays of bytes
            return {"text": np.array([self.prefix + text.upper() for text in inputs["text"]], dtype=object)}

`inputs` and `outputs` may be set by the constructor instead. Optional beside `batch`: `max_rows`, `memory_bytes`
(else: what the process grew by), and `weight(inputs)`, the work of a request in the model's own unit (else: rows).
Raises InvalidInput for a class that does not fit, NotFound for one that is not there; what its constructor or `run`
raises passes through, and JoulekeeperError is how `run` refuses an input.
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.tensor import TensorSpec
from app.errors import InvalidInput, JoulekeeperError, NotFound
from app.models.runners.base import Array, Arrays, check_inputs, dtype_of_array, rows_are_free

MAX_ROWS = 4096
"""Rows of one call, unless the class says otherwise."""


class _Declared(BaseModel):
    """What a user's object says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    batch: bool = False
    max_rows: int = Field(default=MAX_ROWS, ge=1)
    memory_bytes: int | None = Field(default=None, ge=0)


class PythonRunner:
    """The runner protocol around one object of a user's class. Weight: what the object says, else rows."""

    def __init__(
        self,
        reference: str,
        arguments: Mapping[str, Any],
        *,
        device: str = "cpu",
        version: str = "1",
        directory: Path | None = None,
    ) -> None:
        """Import `module:Class`, construct it and check what it declares. Raises InvalidInput, NotFound.

        `directory` holds its files, where it has any; it may be gone once the constructor has returned.
        """
        kind = _find_class(reference)
        before = psutil.Process().memory_info().rss
        self._model = _construct(kind, reference, arguments, {"device": device, "directory": directory})
        grown = psutil.Process().memory_info().rss - before
        declared = _declared(self._model, reference)
        self.name, self.version, self._reference = kind.__name__, version, reference
        self.inputs, self.outputs = declared.inputs, declared.outputs
        self.batch, self.max_rows = declared.batch, declared.max_rows
        self.memory_bytes = max(0, grown) if declared.memory_bytes is None else declared.memory_bytes
        self._weigh = getattr(self._model, "weight", None)

    def weight(self, inputs: Arrays) -> float:
        """What the object says, at least 1; without a `weight` of its own, rows."""
        rows = check_inputs(inputs, self.inputs, self.max_rows, same_rows=self.batch)
        return max(1.0, float(self._weigh(inputs) if self._weigh else rows))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        rows = check_inputs(inputs, self.inputs, self.max_rows, same_rows=self.batch)
        answer = self._model.run(dict(inputs))
        if not isinstance(answer, Mapping):
            raise self._wrong(f"run() must return a dict of arrays by name, got {type(answer).__name__}")
        return {spec.name: self._checked(spec, answer, rows) for spec in self.outputs}

    def _checked(self, spec: TensorSpec, answer: Mapping[str, Any], rows: int) -> Array:
        array = answer.get(spec.name)
        if not isinstance(array, np.ndarray) or array.dtype != dtype_of_array(spec.datatype):
            found = f"{array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise self._wrong(f"output {spec.name!r} must be a numpy array of {spec.datatype}, got {found}")
        wanted = (rows, *spec.shape[1:]) if self.batch else spec.shape
        if array.ndim != len(wanted) or any(map(_differ, wanted, array.shape)):
            raise self._wrong(
                f"output {spec.name!r} must have shape {list(wanted)} (-1: free), got {list(array.shape)}"
            )
        return array

    def _wrong(self, fault: str) -> JoulekeeperError:
        return JoulekeeperError(f"{self._reference}: {fault}; correct the class")


def _differ(wanted: int, size: int) -> bool:
    return wanted not in (-1, size)


def _find_class(reference: str) -> type[Any]:
    module_name, _, class_name = reference.partition(":")
    if not module_name or not class_name.isidentifier():
        raise InvalidInput(f"source python:{reference} is not readable; write python:package.module:Class")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise NotFound(
            f"module {module_name!r} of python:{reference} cannot be imported ({error}); install it, or put its "
            "directory on the PYTHONPATH of the replicas"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise NotFound(f"{module_name} has no class {class_name!r}; write python:package.module:Class")
    return found


def _construct(kind: type[Any], reference: str, arguments: Mapping[str, Any], offered: Mapping[str, Any]) -> Any:
    signature = inspect.signature(kind)
    wanted = {name: value for name, value in offered.items() if name in signature.parameters and value is not None}
    given = wanted | dict(arguments)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise InvalidInput(
            f"python:{reference} cannot be constructed with source_args {sorted(given)}: {error}"
        ) from error
    return kind(**given)


def _declared(model: Any, reference: str) -> _Declared:
    if not callable(getattr(model, "run", None)):
        raise InvalidInput(f"python:{reference} has no method run(inputs); see docs/serving/models.md")
    said = {name: getattr(model, name) for name in _Declared.model_fields if hasattr(model, name)}
    try:
        declared = _Declared.model_validate(said)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InvalidInput(f"python:{reference} declares what cannot be served: {faults}") from error
    _check_specs(declared, reference)
    return declared


def _check_specs(declared: _Declared, reference: str) -> None:
    for title, specs in (("inputs", declared.inputs), ("outputs", declared.outputs)):
        if len({spec.name for spec in specs}) < len(specs):
            raise InvalidInput(f"python:{reference}: two of its {title} have the same name; rename one")
        if any(size < -1 for spec in specs for size in spec.shape) or not all(spec.shape for spec in specs):
            raise InvalidInput(f"python:{reference}: a shape of its {title} is empty or below -1; -1 stands for free")
    if declared.batch and not rows_are_free((*declared.inputs, *declared.outputs)):
        raise InvalidInput(f"python:{reference}: batch needs -1 as the first size of every input and output")
