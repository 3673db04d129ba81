"""The console on Serve: one small replica that is always on, for everything that is not inference.

The application itself is plain ASGI (api.py); here it meets Ray: the accountant's client, Serve's controller, and
the deployment at the foot of the file. Used by Serve configs as `import_path: app.console.app:build`.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from app.clock import SystemClock
from app.config import settings
from app.console.api import build_api
from app.console.batches.service import BatchService
from app.console.books import Books, MendingBooks
from app.console.catalogue import ServeCatalogue
from app.console.forward import ServeDoor
from app.console.grpc import ServerCalls
from app.console.period import local_now
from app.console.repository import Repository
from app.console.sleepers import ServeSleepers
from app.errors import JoulekeeperError, Unavailable
from app.metering.access_feed import open_gate
from app.metering.accountant import HEAD_RESOURCE, connect_books
from app.metering.prestart import Raylet, use_up
from app.serving.keeper import Keeper
from app.serving.own_process import settle_in

_log = logging.getLogger("ray.serve")

_KEEPER_LOOKS_S = 3.0
"""Between two looks at which models sleep: each costs Serve's controller some milliseconds."""


class ConsoleArgs(BaseModel):
    """Arguments of the application in a Serve config: none yet, and none other is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")


async def _books() -> Books:
    """The accountant's client; finding the actor blocks, so a thread does it."""
    return await asyncio.to_thread(connect_books, create=settings().metering)


async def _serve_details() -> Mapping[str, Any]:
    """Serve's instance details, asked of its controller as `serve status` does."""
    try:
        controller = await asyncio.to_thread(ray.get_actor, SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        return await controller.get_serve_instance_details.remote()
    except (ValueError, ray.exceptions.RayError) as error:
        raise Unavailable(f"Serve's controller does not answer: {error}") from error


async def _serve_address() -> str:
    """Serve's HTTP door on this node, where there is one because this replica is here."""
    try:
        controller = await asyncio.to_thread(ray.get_actor, SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        options = await controller.get_http_config.remote()
    except (ValueError, ray.exceptions.RayError) as error:
        raise Unavailable(f"Serve's controller does not answer: {error}") from error
    host = options.host if options.host not in (None, "0.0.0.0", "::", "") else "127.0.0.1"
    return f"http://[{host}]:{options.port}" if ":" in host else f"http://{host}:{options.port}"


def _open_books() -> None:
    """Start the accountant, and with it the head's meter, before the first model loads, so that its load is booked."""
    if not ray.is_initialized():
        return  # built outside a cluster, as in tests; asking would start one
    with contextlib.suppress(ray.exceptions.RayError, JoulekeeperError):
        connect_books(create=settings().metering)


def _keep_workers() -> None:
    """See to it, as long as this process lives, that workers wait prepared where models sleep."""
    if not ray.is_initialized() or not settings().prepared_workers:
        return
    job_id = bytes.fromhex(ray.get_runtime_context().get_job_id())
    keeper = Keeper(settings().prepared_workers, job_id, Raylet, use_up, SystemClock())
    while True:
        time.sleep(_KEEPER_LOOKS_S)
        try:
            controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
            details = ray.get(controller.get_serve_instance_details.remote(), timeout=_KEEPER_LOOKS_S)
            keeper.look(details, ray.nodes())
        except Exception as error:  # without it a cold start takes longer, that is all
            _log.debug("no worker is prepared now: %s", error)


class Console(ServerCalls):
    """The deployment's class."""

    def __init__(self) -> None:
        settle_in()
        threading.Thread(target=_open_books, name="open-books", daemon=True).start()
        clock = SystemClock()
        self.gate = open_gate("console", "default")
        self.catalogue = ServeCatalogue(_serve_details, clock)
        self.repository = Repository(self.catalogue, ServeSleepers())
        self._now = partial(local_now, clock)
        self._batches = BatchService(settings(), clock, self.gate, _serve_details, _serve_address, _books)
        if ray.is_initialized():
            self._batches.start()
        threading.Thread(target=_keep_workers, name="keep-workers", daemon=True).start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica, after the constructor: the application is never pickled."""
        door = ServeDoor(_serve_address)
        batches = self._batches.router(self._now)
        return build_api(MendingBooks(_books), self.catalogue, self.repository, self._now, self.gate, door, batches)


ConsoleDeployment = serve.deployment(
    name="console",
    num_replicas=1,
    max_ongoing_requests=1000,
    # On the head, as the accountant: what it keeps, batches and keys, lies there.
    ray_actor_options={"num_cpus": 0, "resources": {HEAD_RESOURCE: 0.001}},
    health_check_period_s=10,
    graceful_shutdown_timeout_s=5,
)(serve.ingress()(Console))


def build(args: ConsoleArgs) -> serve.Application:
    """The application for Serve."""
    return ConsoleDeployment.bind()
