"""A Serve application of the product's own replica around a model that does nothing, for benchmarks."""

from collections.abc import Mapping

import numpy as np
from ray import serve

from app.domain.tensor import Datatype, TensorSpec
from app.serving.args import ModelArgs
from app.serving.replica import ModelReplica


class NoopRunner:
    """One number in, the same number out."""

    inputs = (TensorSpec("x", Datatype.FP32, (-1,)),)
    outputs = (TensorSpec("y", Datatype.FP32, (-1,)),)
    max_rows = 1024
    batch = True
    memory_bytes = 0

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": inputs["x"]}

    def weight(self, inputs: Mapping[str, np.ndarray]) -> float:
        return float(len(inputs["x"]))


@serve.deployment(name="Model", ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=64)
@serve.ingress()
class NoopModel(ModelReplica):
    """The product's replica with the no-op runner."""

    async def __init__(self, args: ModelArgs) -> None:
        ModelReplica.__init__(self, args, load_runner=lambda args: NoopRunner(args.name, args.version or "1"))
        await self.load()


def build(args: ModelArgs) -> serve.Application:
    """For Serve configs: `import_path: scripts.bench.noop_app:build`."""
    return NoopModel.bind(args.model_copy(update={"version": args.version or "1"}))
