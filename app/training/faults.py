"""Files that people write, read with every mistake named at once: path, value, bound, and what to do.

Knows nothing of jobs; it reads YAML, pydantic's error list and the class that refused. Unknown keys are answered
with the nearest keys that would have been known at that place.

    checked(PrepareSpec, read_yaml(path, "spec file"), f"spec file {path}")
"""

import types
import typing
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from app.errors import InvalidInput

Checked = TypeVar("Checked", bound=BaseModel)

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}
_REMEDIES = {
    "missing": "is required; add it",
    "string_pattern_mismatch": "must match {pattern}",
    "union_tag_not_found": "needs the key {discriminator}; add it",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}",
    "literal_error": "must be {expected}",
}


def read_yaml(path: Path, what: str) -> Any:
    """What the file at `path` holds; `what` it is, for people. Raises InvalidInput."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{what} {path} cannot be read: {error.strerror}; give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} {path} is not YAML: {error}") from error


def of_the_whole(error: ValidationError) -> list[str]:
    """Mistakes that lie in no single field, in the words of the class that refused."""
    return [str(fault["msg"]).removeprefix("Value error, ") for fault in error.errors() if not fault["loc"]]


def checked(
    model: type[Checked], raw: Any, where: str, also: Callable[[ValidationError], list[str]] = of_the_whole
) -> Checked:
    """`raw`, a mapping as YAML gives it, as a `model`; `also` names the mistakes that lie in no single field.

    Raises InvalidInput naming `where` and all mistakes.
    """
    if not isinstance(raw, dict):
        raise InvalidInput(f"{where} must be a mapping of keys to values, got {type(raw).__name__}")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = describe(error, model, raw) + also(error)
        count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}"
        raise InvalidInput(f"{where} has {count}:\n" + "\n".join(f"  - {line}" for line in lines)) from error


def describe(error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any]) -> list[str]:
    """One sentence per mistake that `model` found in `raw`; faults of the whole are left to the caller."""
    faults = [dict(fault) for fault in error.errors(include_url=False)]
    return [_sentence(fault, model, raw) for fault in faults if fault["loc"]]


def _sentence(fault: dict[str, Any], model: type[BaseModel], raw: Mapping[str, Any]) -> str:
    # Where a whole part is refused, its tag comes last.
    location = fault["loc"][:-1] if fault["type"] == "value_error" and _ends_in_a_tag(fault) else fault["loc"]
    path = ".".join(str(part) for part in _path_in_file(location, raw))
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(fault['loc'], model)}"
    what = _what_is_wrong(fault)
    if fault["type"] in ("missing", "union_tag_not_found"):
        return f"{path}: {what}"
    return f"{path}: {what}, got {_shown(fault['input'])}"


def _ends_in_a_tag(fault: dict[str, Any]) -> bool:
    return isinstance(fault["input"], Mapping) and fault["loc"][-1] in fault["input"].values()


def _what_is_wrong(fault: dict[str, Any]) -> str:
    context = fault.get("ctx", {})
    if fault["type"] in _REMEDIES:
        return _REMEDIES[fault["type"]].format(**context)
    bounds = [f"{sign} {context[key]}" for key, sign in _BOUNDS.items() if key in context]
    if bounds:
        return f"must be {' and '.join(bounds)}"
    message: str = fault["msg"]
    return message.removeprefix("Input should ").removeprefix("Value error, ").replace("be a valid", "must be a valid")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _path_in_file(location: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """`location` without the tags of unions, which stand in no file."""
    path: list[int | str] = []
    for place, part in enumerate(location):
        if _holds(raw, part):
            raw = raw[part]
        elif place < len(location) - 1 and isinstance(raw, Mapping) and part in raw.values():
            continue
        path.append(part)
    return path


def _holds(raw: Any, part: int | str) -> bool:
    return (isinstance(raw, Mapping) and part in raw) or (isinstance(raw, list) and isinstance(part, int))


def _suggestion(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    keys = _keys_at(location[:-1], model)
    near = get_close_matches(str(location[-1]), keys, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; remove it, or use one of {', '.join(keys)}" if keys else "; remove it"


def _keys_at(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    found: type[BaseModel] = model
    for part in location:
        candidates = _models_in(found.model_fields[str(part)].annotation) if part in found.model_fields else [found]
        tagged = [kind for kind in candidates if _carries_tag(kind, location)]
        found = (tagged or candidates or [found])[0]
    return list(found.model_fields)


def _carries_tag(kind: type[BaseModel], location: tuple[int | str, ...]) -> bool:
    tags = {field.default for field in kind.model_fields.values() if isinstance(field.default, str)}
    literals = (field.annotation for field in kind.model_fields.values())
    tags |= {tag for each in literals if typing.get_origin(each) is Literal for tag in typing.get_args(each)}
    return not tags.isdisjoint(location)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, tuple):
        return [kind for part in typing.get_args(annotation) for kind in _models_in(part)]
    return []
