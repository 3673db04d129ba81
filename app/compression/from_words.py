"""A compression job from the words of a command line.

Knows nothing of terminals. Raises InvalidInput naming every mistake.

    job_of("digits", ["prune-channels", "int8"], ["rate=0.75", "epochs=8"], min_accuracy=0.96)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from app.compression.job import METHODS, STEPS, CompressJob, parse_job
from app.errors import InvalidInput


def job_of(
    model: str,
    methods: Sequence[str],
    options: Sequence[str],
    *,
    search: bool = False,
    min_accuracy: float | None = None,
    variant: str = "",
    measure: bool = True,
    seed: int = 0,
) -> CompressJob:
    """The job that compresses `model` by `methods` in turn; each of `options`, FIELD=VALUE, goes to the steps that have
    such a field."""
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise InvalidInput(f"method {unknown[0]!r} is unknown; use one of {', '.join(METHODS)}")
    if search and min_accuracy is None:
        raise InvalidInput("--search needs --min-accuracy, what a result must reach")
    values = _values(options, methods)
    raw: dict[str, Any] = {
        "name": "compress-" + "".join(letter if letter.isalnum() else "-" for letter in model.lower())[:39],
        "kind": "compress",
        "model": model,
        "steps": [{"method": method, **_of(method, values)} for method in methods],
        "variant": variant,
        "measure": measure,
        "seed": seed,
    }
    raw |= {"search": {"min_accuracy": min_accuracy}} if search else {"at_least": min_accuracy}
    return parse_job(raw, "the command")


def _values(options: Sequence[str], methods: Sequence[str]) -> dict[str, Any]:
    known = {field for method in methods for field in STEPS[method].model_fields} - {"method"}
    values = {}
    for option in options:
        field, equals, value = option.partition("=")
        if not equals or field not in known:
            raise InvalidInput(
                f"--set {option!r} is not understood; write FIELD=VALUE with one of "
                f"{', '.join(sorted(known)) or 'none, as these methods have no fields'}"
            )
        values[field] = yaml.safe_load(value)
    return values


def _of(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in values.items() if field in STEPS[method].model_fields}
