"""LitServe: one API server, one inference worker, its own batching for the workloads that gain by it.

The body reaches the worker as bytes (a dependency as the request's type) and is parsed once, by the codec of all
sides; LitServe's default parses it with the standard library first, which is slower.

    python litserve_peer.py WORKLOAD PORT
"""

import sys
from typing import Annotated, Any

import litserve
from fastapi import Depends, Request, Response

from scripts.bench.peers.workloads import BATCHED, MAX_BATCH, Service, path_of

BATCH_TIMEOUT_S = 0.002


async def read_body(request: Request) -> bytes:
    return await request.body()


class Api(litserve.LitAPI):  # type: ignore[misc]
    """One workload."""

    def setup(self, device: str) -> None:
        self.service = Service(self.workload)

    def decode_request(self, request: Annotated[bytes, Depends(read_body)]) -> Any:
        return self.service.read(request)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def predict(self, x: Any) -> Any:
        return self.service.run_many(x) if isinstance(x, list) else self.service.run(x)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/json")


def main() -> None:
    workload, port = sys.argv[1], int(sys.argv[2])
    batching = {"max_batch_size": MAX_BATCH, "batch_timeout": BATCH_TIMEOUT_S} if workload in BATCHED else {}
    api = Api(api_path=path_of(workload), **batching)
    api.workload = workload
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
