"""The JSON of a request for inference, taken apart with every fault named.

Knows nothing of models: what a tensor must be is the business of `messages` and `tensors`. Raises InvalidInput.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from app.errors import InvalidInput
from app.protocol.messages import refuse_elsewhere
from app.protocol.raw_tensors import Buffer


def read_object(body: Buffer) -> dict[str, Any]:
    """The object that `body` is."""
    if not len(body):
        raise InvalidInput("the body is empty; send a JSON object with `inputs`")
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise InvalidInput(f"the body must be a JSON object, got {type(message).__name__}; send one with `inputs`")
    return message


def tensors(message: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The tensors in `message` at `key`, `inputs` or `outputs`; each an object with a name."""
    found = message.get(key)
    if found is None:
        if key == "inputs":
            raise InvalidInput("`inputs` is missing; send an array of tensors")
        return []
    if not isinstance(found, list):
        raise InvalidInput(f"`{key}` must be an array of tensors, got {type(found).__name__}")
    for position, tensor in enumerate(found):
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise InvalidInput(f"`{key}`[{position}] must be an object with a string `name`")
    return found


def object_or_empty(value: object, title: str) -> dict[str, Any]:
    """`value`, an object; nothing is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{title} must be an object, got {type(value).__name__}")
    return value


def flag(parameters: Mapping[str, Any], name: str, title: str) -> bool:
    """The switch `name` in the parameters of `title`; absent: off."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{title}: {name} must be true or false, got {value!r}")
    return value


def binary_part(tensor: Mapping[str, Any], binary: memoryview | None, position: int) -> memoryview | None:
    """The bytes of input `tensor` that begin at `position` of the `binary` data; None when its data are JSON."""
    title = f"input {tensor['name']!r}"
    parameters = object_or_empty(tensor["parameters"], f"{title}: `parameters`")
    refuse_elsewhere(title, parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if binary is None:
        raise InvalidInput(
            f"{title} has binary_data_size; send Inference-Header-Content-Length, the length of the JSON"
        )
    if type(size) is not int or size < 0:
        raise InvalidInput(f"{title}: binary_data_size must be a whole number >= 0, got {size!r}")
    if "data" in tensor:
        raise InvalidInput(f"{title} has `data` beside binary_data_size; send one or the other")
    if position + size > len(binary):
        raise InvalidInput(
            f"{title}: its binary data end at byte {position + size}, {len(binary)} follow the JSON; "
            "send the body whole and every size right"
        )
    return binary[position : position + size]
