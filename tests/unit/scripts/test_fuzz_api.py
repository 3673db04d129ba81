"""The fuzzer's sharper document: right requests for every model, and names that exist."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "fuzz_api.py"
METADATA = {
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}, {"name": "t", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


@pytest.fixture(scope="module")
def fuzz_api():
    spec = importlib.util.spec_from_file_location("fuzz_api", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_models_requests_have_its_inputs_in_a_size_that_their_data_fill(fuzz_api):
    inputs = fuzz_api.request_schema(METADATA)["properties"]["inputs"]
    x, t = inputs["prefixItems"]
    assert x["properties"]["shape"] == {"const": [2, 3]}
    assert (x["properties"]["data"]["minItems"], x["properties"]["data"]["items"]) == (6, {"type": "number"})
    assert t["properties"]["data"]["items"]["type"] == "string"


def test_names_in_paths_are_those_of_the_models_and_one_that_is_unknown(fuzz_api):
    from app.protocol.openapi import model_paths
    from app.protocol.openapi_openai import openai_schemas

    described = json.loads(json.dumps({"paths": model_paths(), "components": {"schemas": openai_schemas()}}))
    document = fuzz_api.sharpened(described, {"minilm": METADATA})
    infer = document["paths"]["/v2/models/{model_name}/versions/{model_version}/infer"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in infer["parameters"]}
    assert schemas["model_name"]["enum"] == ["minilm", "other"]
    assert schemas["model_version"]["enum"] == ["1", "77"]
    assert "/v2/models/minilm/infer" in document["paths"]
    chat = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert chat["model"]["enum"] == ["minilm", "other"]


def test_cases_are_counted_by_operation(fuzz_api, tmp_path):
    report = tmp_path / "events.ndjson"
    event = {"ScenarioFinished": {"recorder": {"label": "GET /v2", "cases": {"a": {}, "b": {}}}}}
    report.write_text(json.dumps({"EngineStarted": {}}) + "\n" + json.dumps(event) + "\n")
    assert fuzz_api.cases_of(report) == {"GET /v2": 2}
