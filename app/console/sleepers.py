"""Waking models and letting them sleep, through Serve's handles: a call for a model at zero starts a replica.

Knows nothing of HTTP, gRPC or which models there are. Finding an application asks Serve's controller, and blocks.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve
from ray.serve.exceptions import RayServeException

from app.errors import Unavailable

_WAKE_S = 120.0
_ANSWER_S = 10.0


class ServeSleepers:
    """`Sleepers` of this cluster."""

    async def wake(self, application: str) -> None:
        with _refusals(application, _WAKE_S):
            handle = await asyncio.to_thread(serve.get_app_handle, application)
            await asyncio.wait_for(handle.wake.remote(), _WAKE_S)

    async def let_sleep(self, application: str) -> None:
        with _refusals(application, _ANSWER_S):
            handle = await asyncio.to_thread(serve.get_app_handle, application)
            # All of them: a model sleeps when every replica may go.
            await handle.broadcast("let_sleep").results_async(timeout_s=_ANSWER_S)


@contextmanager
def _refusals(application: str, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"{application!r} did not answer within {timeout_s:g} s; try again") from error
    except (RayServeException, ray.exceptions.RayError) as error:
        raise Unavailable(f"{application!r} does not answer: {error}") from error
