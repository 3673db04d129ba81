"""MLServer: inference in its own process, its adaptive batching for the workloads that gain by it.

It reads and writes the protocol with its own types, so it does not use the codec of the other sides; it adds an `id`
and empty `parameters` to each answer.

    python mlserver_peer.py WORKLOAD PORT
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import mlserver
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse

from app.models.runners.load import load_runner
from app.protocol.tensors import bytes_array
from scripts.bench.peers.workloads import BATCHED, MAX_BATCH, SOURCES

BATCH_TIME_S = 0.002


class Model(mlserver.MLModel):
    """One workload."""

    async def load(self) -> bool:
        import torch

        torch.set_num_threads(1)
        self._runner = load_runner(SOURCES[self.name])
        self._thread = ThreadPoolExecutor(1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        arrays = {tensor.name: _array(tensor) for tensor in payload.inputs}
        if self.name in BATCHED:
            outputs = await asyncio.get_running_loop().run_in_executor(self._thread, self._runner.run, arrays)
        else:
            outputs = self._runner.run(arrays)
        encoded = [NumpyCodec.encode_output(name, array) for name, array in outputs.items()]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=encoded)


def _array(tensor: object) -> object:
    if tensor.datatype != "BYTES":
        return NumpyCodec.decode_input(tensor)
    return bytes_array([text.encode() for text in StringCodec.decode_input(tensor)], tuple(tensor.shape))


async def main() -> None:
    workload, port = sys.argv[1], int(sys.argv[2])
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        load_models_at_startup=False,
        use_structured_logging=False,
    )
    batching = {"max_batch_size": MAX_BATCH, "max_batch_time": BATCH_TIME_S} if workload in BATCHED else {}
    server = mlserver.MLServer(settings)
    model = ModelSettings(name=workload, implementation=Model, parameters=ModelParameters(version="1"), **batching)
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(main())
