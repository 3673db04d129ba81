"""A Serve application of the product's own replica around a model that keeps its GPU busy for a fixed time.

The time is slept: on a machine of two cores the load of a chaos run must not be what starves it.
"""

import time
from collections.abc import Mapping

import numpy as np
from ray import serve

from app.domain.tensor import Datatype, TensorSpec
from app.serving.args import ModelArgs
from app.serving.replica import ModelReplica

PULSE_S = 0.15


class PulseRunner:
    """Numbers in, the same numbers out, `PULSE_S` later."""

    inputs = (TensorSpec("x", Datatype.FP32, (-1,)),)
    outputs = (TensorSpec("y", Datatype.FP32, (-1,)),)
    max_rows = 1024
    batch = True
    memory_bytes = 0

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        time.sleep(PULSE_S)
        return {"y": inputs["x"]}

    def weight(self, inputs: Mapping[str, np.ndarray]) -> float:
        return float(len(inputs["x"]))


@serve.deployment(name="Model", max_ongoing_requests=8)
@serve.ingress()
class PulseModel(ModelReplica):
    """The product's replica with the pulse runner."""

    async def __init__(self, args: ModelArgs) -> None:
        ModelReplica.__init__(self, args, load_runner=lambda args: PulseRunner(args.name, args.version or "1"))
        await self.load()


def build(args: ModelArgs) -> serve.Application:
    """For Serve configs: `import_path: scripts.chaos.pulse_app:build`."""
    return PulseModel.bind(args.model_copy(update={"version": args.version or "1"}))
