"""Small changes of a Serve application's config: made, and the change that takes them back.

Pure. A change is a mapping laid over the config, where None takes a key away (as RFC 7396 has it); lists of things with
names, such as `deployments`, are laid over by name. Knows nothing of what is changed.

    changed = patched(config, {"args": {"batching": {"objective_p95_ms": 50}}})
    patched(changed, inverse(config, {...})) == config
"""

from collections.abc import Mapping
from typing import Any

_BY_NAME = frozenset({"deployments"})
"""Keys under which Serve has lists of things with names, also where a config has none yet."""


def patched(config: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with `change` laid over it."""
    result = dict(config)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = _laid_over(result.get(key, [] if key in _BY_NAME else None), value)
        else:
            result[key] = value
    return result


def inverse(config: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """What takes `change` back: of each key that it names what `config` has there, None where it has nothing."""
    result: dict[str, Any] = {}
    for key, value in change.items():
        present = config.get(key)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            result[key] = inverse(present, value)
        elif isinstance(value, Mapping) and isinstance(present, list) and _is_named(present):
            result[key] = _inverse_by_name(present, value)
        else:
            result[key] = present
    return result


def is_in_force(config: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    """Whether a config still is as `change` made it."""
    return patched(config, change) == dict(config)


def _laid_over(present: Any, value: Mapping[str, Any]) -> Any:
    if _is_named(present):
        return _laid_over_by_name(present, value)
    return patched(present if isinstance(present, Mapping) else {}, value)


def _laid_over_by_name(present: list[Any], change: Mapping[str, Any]) -> list[Any]:
    known = {each["name"] for each in present}
    kept = [
        patched(each, change[each["name"]] or {}) if each["name"] in change else each
        for each in present
        if change.get(each["name"], {}) is not None
    ]
    new = [patched({"name": name}, value) for name, value in change.items() if name not in known and value is not None]
    return kept + new


def _inverse_by_name(present: list[Any], change: Mapping[str, Any]) -> dict[str, Any]:
    by_name = {each["name"]: each for each in present}
    return {
        name: inverse(by_name[name], value) if name in by_name and isinstance(value, Mapping) else by_name.get(name)
        for name, value in change.items()
    }


def _is_named(value: Any) -> bool:
    """Whether it is a list of mappings with names; an empty one is."""
    return isinstance(value, list) and all(isinstance(each, Mapping) and "name" in each for each in value)
