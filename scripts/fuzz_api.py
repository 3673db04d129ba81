"""Fuzzes a running service by its own OpenAPI document, with schemathesis: no request may be answered with 5xx.

Knows nothing of the package. Takes the document from the service and makes it sharper with what the service says of its
models, so that cases reach the models and do not end at unknown names. Then runs schemathesis, with one seed after the
other, until there have been enough cases, and asks the service whether it still answers.

    python scripts/fuzz_api.py --url http://127.0.0.1:8000 --cases 5000 --schemathesis PATH/bin/schemathesis

Prints the cases by operation and every failure; ends with status 1 if there was any.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]

_ROUND_TIMEOUT_S = 600
_PREFIX = "/v2/models/{model_name}"
_FREE = 2
"""The size that stands for a free one in the inputs that are right."""
_ELEMENTS: dict[str, JsonObject] = {
    "BOOL": {"type": "boolean"},
    "BYTES": {"type": "string", "maxLength": 40},
    "FP16": {"type": "number", "minimum": -1000, "maximum": 1000},
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schemathesis", default="schemathesis", help="the command, of an environment of its own")
    parser.add_argument("--header", action="append", default=[], help="as curl takes it, for a key")
    arguments = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in arguments.header)
    service = Service(arguments.url, headers)
    document = sharpened(service.ask("/openapi.json"), service.models())
    counts, failures = fuzz(document, arguments)
    for operation, cases in counts.most_common():
        print(f"{cases:6} {operation}")
    print(f"{counts.total():6} cases in {len(counts)} operations, {len(failures)} failures")
    for failure in failures:
        print(failure)
    service.ask("/v2/health/ready")
    sys.exit(bool(failures))


class Service:
    """The service that is fuzzed."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url, self._headers = url.rstrip("/"), headers

    def ask(self, path: str, body: bytes | None = None) -> Any:
        """What it answers. Raises urllib.error.URLError."""
        request = urllib.request.Request(self._url + path, body, self._headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def models(self) -> dict[str, JsonObject]:
        """Metadata of every deployed model by its name; asking wakes it."""
        names = sorted({model["name"] for model in self.ask("/v2/repository/index", b"")})
        return {name: self.ask(f"/v2/models/{urllib.parse.quote(name)}") for name in names}


def sharpened(document: JsonObject, models: dict[str, JsonObject]) -> JsonObject:
    """`document` with the names of `models` where names belong, and beside the general inference one for each model."""
    versions = sorted({version for metadata in models.values() for version in metadata["versions"]})
    known = {"model_name": [*models, "other"], "name": [*models, "other"], "model_version": [*versions, "77"]}
    for path in document["paths"].values():
        for holder in [path, *(operation for operation in path.values() if isinstance(operation, dict))]:
            for parameter in holder.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["schema"] = {"type": "string", "enum": known[parameter["name"]]}
                elif parameter["name"] in ("settle_timeout_s", "wait"):
                    parameter["schema"] = {"type": "number", "minimum": -0.1, "maximum": 0.1}
    for schema in document["components"]["schemas"].values():
        if "model" in schema.get("required", ()) and "usage" not in schema["required"]:
            schema["properties"]["model"] = {"type": "string", "enum": known["name"]}
    general = document["paths"][f"{_PREFIX}/infer"]["post"]
    for name, metadata in models.items():
        schema = request_schema(metadata)
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        own = general | {"operationId": f"infer_{name}", "requestBody": body}
        document["paths"][f"/v2/models/{urllib.parse.quote(name)}/infer"] = {"post": own}
    return document


def request_schema(metadata: JsonObject) -> JsonObject:
    """Requests that a model with `metadata` takes, but for what its datatypes cannot hold."""
    outputs = {"type": "object", "required": ["name"]}
    outputs["properties"] = {"name": {"enum": [tensor["name"] for tensor in metadata["outputs"]]}}
    inputs = [input_schema(tensor) for tensor in metadata["inputs"]]
    every = {"type": "array", "prefixItems": inputs, "items": False, "minItems": len(inputs), "maxItems": len(inputs)}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": every,
            "outputs": {"type": "array", "items": outputs, "maxItems": 2},
            "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
        },
    }


def input_schema(tensor: JsonObject) -> JsonObject:
    """One input of the right shape, free sizes being `_FREE`."""
    shape = [_FREE if size == -1 else size for size in tensor["shape"]]
    count = math.prod(shape)
    right = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
    element = _ELEMENTS.get(tensor["datatype"]) or {"type": "integer" if "INT" in tensor["datatype"] else "number"}
    data = {"type": "array", "items": element, "minItems": count, "maxItems": count}
    properties = {key: {"const": value} for key, value in right.items()} | {"data": data}
    return {"type": "object", "required": [*properties], "properties": properties}


def fuzz(document: JsonObject, arguments: argparse.Namespace) -> tuple["Counter[str]", list[str]]:
    """Cases by operation, and what failed."""
    counts: Counter[str] = Counter()
    failures: list[str] = []
    operations = sum(1 for path in document["paths"].values() for method in path if method != "parameters")
    with tempfile.TemporaryDirectory() as directory:
        schema, report = Path(directory, "openapi.json"), Path(directory, "events.ndjson")
        schema.write_text(json.dumps(document))
        for seed in range(arguments.seed, arguments.seed + 100):
            missing = arguments.cases - counts.total()
            if missing <= 0:
                break
            command = [arguments.schemathesis, "run", str(schema), "--url", arguments.url, f"--seed={seed}"]
            command += ["--checks=not_a_server_error", "--phases=fuzzing", "--continue-on-failure", "--workers=2"]
            command += [f"--max-examples={max(1, missing // operations)}", "--suppress-health-check=all"]
            command += ["--request-timeout=60", f"--report-ndjson-path={report}", "--no-color", "--warnings=off"]
            command += [f"--header={header}" for header in arguments.header]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_ROUND_TIMEOUT_S, cwd=directory)
            if done.returncode not in (0, 1):
                raise SystemExit(f"schemathesis could not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
            counts += cases_of(report)
            if done.returncode:
                failures.append(done.stdout[-4000:])
    return counts, failures


def cases_of(report: Path) -> "Counter[str]":
    """Cases by operation in the events that schemathesis wrote."""
    counts: Counter[str] = Counter()
    for line in report.read_text().splitlines():
        for scenario in [json.loads(line).get("ScenarioFinished")]:
            if scenario:
                recorder = scenario["recorder"]
                counts[recorder["label"]] += len(recorder.get("cases", ()))
    return counts


if __name__ == "__main__":
    main()
