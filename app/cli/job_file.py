"""Fields of a job file changed in its text, so that comments and order stay.

Pure: text in, text out. Only top-level fields and one level below are changed; a field that was several lines long
becomes one. Knows nothing of files. Whoever writes the result reads it back first (`changed` does).

    changed(text, {"batch_size": 16, "resources.power_limit_w": 175.0})
    difference(text, new, "digits.yaml")

Raises InvalidInput where the text cannot be changed so that it says what was meant.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from app.errors import InvalidInput

_COMMENT = re.compile(r"\s+#.*$")


def changed(text: str, fields: Mapping[str, Any]) -> str:
    """`text` with `fields`, each `name` or `part.name`; None takes one out. Raises InvalidInput."""
    wanted = _wanted(text, fields)
    for name in dict.fromkeys(field.partition(".")[0] for field in fields):
        text = _with_field(text, name, wanted.get(name))
    if not _says(text, wanted):
        raise InvalidInput(
            f"the job file is written in a way that cannot be changed here: set {_flow(dict(fields))} by hand"
        )
    return text


def difference(before: str, after: str, name: str) -> str:
    """The change as a unified diff; empty where there is none."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=1)
    return "\n".join(lines)


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == wanted)
    except yaml.YAMLError:
        return False


def _wanted(text: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    wanted = dict(yaml.safe_load(text))
    for field, value in fields.items():
        name, _, inner = field.partition(".")
        if not inner:
            wanted[name] = value
        elif not isinstance(wanted.setdefault(name, {}), dict):
            raise InvalidInput(f"{field}: {name} is {wanted[name]!r} and has no parts; write it as a mapping first")
        else:
            wanted[name] = {**wanted[name], inner: value}
            wanted[name] = {key: each for key, each in wanted[name].items() if each is not None}
    return {name: value for name, value in wanted.items() if value is not None}


def _with_field(text: str, name: str, value: Any) -> str:
    """The lines of a top-level field replaced by one; None: by none; appended where there were none."""
    lines = text.splitlines()
    begin = next((at for at, line in enumerate(lines) if re.match(rf"{re.escape(name)}\s*:", line)), None)
    if begin is None:
        return text if value is None else "\n".join([*lines, f"{name}: {_flow(value)}"]) + "\n"
    end = begin + 1
    while end < len(lines) and _continues(lines, end):
        end += 1
    comment = _COMMENT.search(lines[begin])
    new = [] if value is None else [f"{name}: {_flow(value)}{comment[0] if comment else ''}"]
    return "\n".join([*lines[:begin], *new, *lines[end:]]) + "\n"


def _continues(lines: list[str], at: int) -> bool:
    """Whether a line belongs to the field above: it is indented, or a list's; blank ones where such follow."""
    if not lines[at].strip():
        return any(line.strip() for line in lines[at:]) and _continues(lines, at + 1)
    return lines[at].startswith((" ", "\t", "- "))


def _flow(value: Any) -> str:
    """YAML in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
        .strip()
        .removesuffix("...")
        .strip()
    )
