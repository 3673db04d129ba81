"""Bare Ray Serve: a Starlette application under `serve.ingress`, Serve's own batching where a workload gains by it.

For Serve configs: `import_path: scripts.bench.peers.ray_peer:build`, `args: {workload: noop}`.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scripts.bench.peers.workloads import BATCHED, MAX_BATCH, Service


def application(workload: str) -> Starlette:
    """Made in the replica."""
    service, thread = Service(workload), ThreadPoolExecutor(1)

    async def infer(request: Request) -> Response:
        return Response(service.answer(await request.body()), media_type="application/json")

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0)
    async def run(requests: list) -> list:
        return await asyncio.get_running_loop().run_in_executor(thread, service.run_many, requests)

    async def infer_batched(request: Request) -> Response:
        answer = await run(service.read(await request.body()))
        return Response(answer, media_type="application/json")

    handler = infer_batched if workload in BATCHED else infer
    return Starlette(routes=[Route("/infer", handler, methods=["POST"])])


def build(args: dict) -> serve.Application:
    workload = args["workload"]

    @serve.deployment(name="Model")
    @serve.ingress(lambda: application(workload))
    class Bare:
        """Nothing but the application."""

    return Bare.bind()
