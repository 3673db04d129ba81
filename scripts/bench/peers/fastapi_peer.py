"""Raw FastAPI below uvicorn (uvloop, httptools): one worker, the body read by hand, no batching - it has none.

python fastapi_peer.py WORKLOAD PORT
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI, Request, Response

from scripts.bench.peers.workloads import BATCHED, Service, path_of


def application(workload: str) -> FastAPI:
    app, service = FastAPI(), Service(workload)
    thread = ThreadPoolExecutor(1)

    @app.post(path_of(workload))
    async def infer(request: Request) -> Response:
        body = await request.body()
        if workload in BATCHED:  # milliseconds of work: the event loop stays free
            answer = await asyncio.get_running_loop().run_in_executor(thread, service.answer, body)
        else:
            answer = service.answer(body)
        return Response(answer, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[1]),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
