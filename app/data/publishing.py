"""A data set becomes one: its manifest, the list of what was left out, and what both replace.

Knows nothing of Ray. The manifest is written last, so that what is not finished is never taken for a data set.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.data.outcome import Gone
from app.data.spec import PrepareSpec, Rows
from app.data.writing import put, remove
from app.errors import InvalidInput
from app.training.parquet_files import MANIFEST, PreparedData, PreparedFile, find_prepared, shown


def standing(spec: PrepareSpec, run: str) -> PreparedData | None:
    """The data set that is there already. Raises InvalidInput unless it may be replaced, Unavailable where no file can
    be written: better now than when all work is done."""
    url = spec.write.url
    found = find_prepared(url)
    if found and not spec.write.replace:
        raise InvalidInput(
            f"write.url {shown(url)} holds the data set of {found.run} already; choose another place, or set "
            "write.replace: true"
        )
    probe = f"{run}.begun"
    put(url, probe, b"")
    remove(url, {probe})
    return found


def manifest_of(spec: PrepareSpec, run: str, told: Sequence[Mapping[str, Any]]) -> PreparedData:
    """The manifest of what the write tasks `told`. Raises InvalidInput where their files do not fit together."""
    files = [PreparedFile.model_validate(each["file"]) for each in told if each["file"]]
    content = spec.content
    classes = isinstance(content, Rows) and content.label_is == "class"
    widths = {each["columns"] for each in told if each["file"]}
    if len(widths) > 1:
        raise InvalidInput(f"the files have rows of {sorted(widths)} values; name the features in content.features")
    outputs = max(each["outputs"] for each in told)
    return PreparedData(
        name=spec.name,
        run=run,
        kind=content.kind,
        origin=spec.source.origin or shown(spec.source.url),
        licence=spec.source.licence,
        columns=max(widths),
        outputs=(spec.checks.classes or outputs) if classes else outputs,
        classes=classes,
        files=tuple(sorted(files, key=lambda file: file.path)),
        left_out=f"left-out-{run}.jsonl",
    )


def publish(spec: PrepareSpec, manifest: PreparedData, gone: Sequence[Gone], before: PreparedData | None) -> None:
    """The list of what was left out, then the manifest; then what it replaces goes."""
    lines = (json.dumps({"name": each.name, "why": each.why, "kept": each.kept}) for each in gone)
    put(spec.write.url, manifest.left_out, "".join(f"{line}\n" for line in lines).encode())
    put(spec.write.url, MANIFEST, manifest.model_dump_json(indent=2).encode())
    if before is not None:
        remove(spec.write.url, _names(before) - _names(manifest))


def _names(data: PreparedData) -> set[str]:
    return {file.path for file in data.files} | {data.left_out}
