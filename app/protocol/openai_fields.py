"""One JSON object of an OpenAI request, read key by key with every fault named as OpenAI names it.

Knows nothing of what the keys mean. A key with null counts as absent, as in OpenAI's own service; keys that nobody asks
for are nobody's business, since clients send new ones before servers know them.

    fields = read_fields(body)
    temperature = fields.number("temperature", 0, 2)          # float, None where absent
    model = fields.required_text("model")
    parts = [part.text("type") for part in fields.objects("content")]

Raises WireFault, and nothing else.
"""

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from app.protocol.openai_errors import WireFault

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 60
_shown.maxlong = 30

_NAMES = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array", dict: "an object"}


def read_fields(body: bytes | bytearray | memoryview) -> "Fields":
    """The object that `body` is."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireFault(f"the body is not JSON in UTF-8: {error}", None, "invalid_json") from error
    if not isinstance(message, dict):
        raise WireFault(f"the body must be a JSON object, got {kind_of(message)}", None, "invalid_type")
    return Fields(message)


def kind_of(value: object) -> str:
    """What JSON calls the type of `value`."""
    return "null" if value is None else _NAMES[type(value)]


def shown(value: object) -> str:
    """`value` for a message, cut to a length that a client wants to read."""
    return _shown.repr(value)


def wrong_type(param: str | None, wanted: str, value: object) -> WireFault:
    """`value` is of another type than `wanted`."""
    return WireFault(f"{param} must be {wanted}, got {kind_of(value)}: {shown(value)}", param, "invalid_type")


class Fields:
    """The keys of one object. `path` stands before their names: `messages[0].`."""

    __slots__ = ("_path", "_values")

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def get(self, name: str) -> Any:
        """As it came; None where absent."""
        return self._values.get(name)

    def param(self, name: str) -> str:
        """How a fault names the key."""
        return self._path + name

    def text(self, name: str) -> str | None:
        """A string, which may be empty."""
        value: str | None = self._values.get(name)
        if value is not None and type(value) is not str:
            raise wrong_type(self.param(name), "a string", value)
        return value

    def required_text(self, name: str) -> str:
        """A string that is neither absent nor empty."""
        value = self.text(name)
        if value is None:
            raise self.missing(name)
        if not value:
            raise WireFault(f"{self.param(name)} must not be empty", self.param(name), "empty_string")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value: bool | None = self._values.get(name)
        if value is None:
            return default
        if type(value) is not bool:
            raise wrong_type(self.param(name), "true or false", value)
        return value

    def whole(self, name: str, low: int, high: int | None = None) -> int | None:
        """An integer from `low` to `high`; None: without bound."""
        value: int | None = self._values.get(name)
        if value is None:
            return None
        if type(value) is not int:
            raise wrong_type(self.param(name), "an integer", value)
        self._check_range(name, value, low, high, "integer")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number from `low` to `high`."""
        value: float | None = self._values.get(name)
        if value is None:
            return None
        if type(value) not in (int, float):
            raise wrong_type(self.param(name), "a number", value)
        self._check_range(name, value, low, high, "decimal")
        return float(value)

    def array(self, name: str) -> list[Any] | None:
        """An array of anything."""
        value: list[Any] | None = self._values.get(name)
        if value is not None and type(value) is not list:
            raise wrong_type(self.param(name), "an array", value)
        return value

    def object(self, name: str) -> "Fields | None":
        """The object within, faults named with its path."""
        value: dict[str, Any] | None = self._values.get(name)
        if value is None:
            return None
        if type(value) is not dict:
            raise wrong_type(self.param(name), "an object", value)
        return Fields(value, f"{self.param(name)}.")

    def objects(self, name: str) -> "Iterator[Fields]":
        """The objects of an array; none where absent."""
        for position, value in enumerate(self.array(name) or ()):
            path = f"{self.param(name)}[{position}]"
            if type(value) is not dict:
                raise wrong_type(path, "an object", value)
            yield Fields(value, f"{path}.")

    def missing(self, name: str) -> WireFault:
        """The key must be there and is not."""
        return WireFault(
            f"{self.param(name)} is missing; it is required", self.param(name), "missing_required_parameter"
        )

    def _check_range(self, name: str, value: float, low: float, high: float | None, kind: str) -> None:
        param = self.param(name)
        bounds = f">= {low}" if high is None else f"from {low} to {high}"
        if value < low:
            raise WireFault(f"{param} must be {bounds}, got {shown(value)}", param, f"{kind}_below_min_value")
        if high is not None and value > high:
            raise WireFault(f"{param} must be {bounds}, got {shown(value)}", param, f"{kind}_above_max_value")
