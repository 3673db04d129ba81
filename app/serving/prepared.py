"""What makes a waiting worker process a prepared one: it imports, before anybody asks, what a replica will need.

Ray imports this file in every worker process of a node (`RAY_preload_python_modules`, set before `ray start`), before
the process takes work. Workers that Ray starts for some job go on at once. Those that belong to no job yet were asked
for ahead of need (keeper.py): they import Serve's replica, torch and the runners, on the main thread, because an actor
that came while a second thread imports would find modules half done. Nothing touches an accelerator: CUDA is
initialised by the first model.
"""

import gc
import importlib
import logging
import os

_log = logging.getLogger(__name__)

NO_JOB = "ffffffff"
"""What a raylet puts into RAY_JOB_ID of a worker that any job may use."""

MODULES = (
    "ray.serve._private.replica",
    "ray.serve._private.controller",
    "anyio._backends._asyncio",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "app.protocol.generated.open_inference_pb2_grpc",
    "app.serving.replica",
    "app.serving.generation.replica",
    "app.metering.client",
    "app.metering.devices",
    "app.models.runners.load",
    "app.models.runners.builtin",
    "app.models.runners.encoder",
    "torch.utils._device",
)
"""What a replica imports from its start to its first answer: those that bring the others."""


def prepare() -> None:
    """Import what a replica needs, and say that this process waits: its time until then is no model's."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            _log.warning("a prepared worker goes without %s: %s", name, error)
    from app.metering.client import WorkClient

    WorkClient.waited = True
    # What is here now stays: Serve collects garbage when a replica is ready, and would walk through all of it.
    gc.collect()
    gc.freeze()


if os.environ.get("RAY_JOB_ID") == NO_JOB:
    prepare()
