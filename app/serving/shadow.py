"""Copies of answered requests for versions that are being tried: nobody waits for them, nobody sees their answers.

Knows nothing of Serve: how a copy is sent is an argument. Fire and forget, and bounded: with too many on their way, or
too many bytes of them, a request has no copy and is counted; a version that fails or hangs costs its own copies only.
What a copy takes is charged where it is answered, to that version, tenant `shadow`.

    shadow = ShadowSender({"3": 0.5}, send)
    copy = shadow.copied(decode)                  # instead of `decode`
    ...                                           # the answer is made and sent
    shadow.offer(copy.inputs)
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np

from app.protocol.messages import InferRequest

SHADOW_TENANT = "shadow"
MAX_PENDING = 32
MAX_PENDING_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 60.0

Inputs = Mapping[str, np.ndarray]
Send = Callable[[str, Inputs], Awaitable[None]]

_log = logging.getLogger("ray.serve")


class CopiedRequest:
    """Decodes a request and remembers its inputs."""

    def __init__(self, decode: Callable[[], InferRequest]) -> None:
        self._decode = decode
        self.inputs: Inputs = {}

    def __call__(self) -> InferRequest:
        request = self._decode()
        self.inputs = request.inputs
        return request


@dataclass(slots=True)
class ShadowCounts:
    """Copies since the replica started."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    """Never sent: too many were on their way."""


class ShadowSender:
    """For one event loop. `send` may raise; it is given up after a minute."""

    def __init__(self, shares: Mapping[str, float], send: Send, chance: Callable[[], float] = random.random) -> None:
        self._shares, self._send, self._chance = dict(shares), send, chance
        self._pending: set[asyncio.Task[None]] = set()
        self._pending_bytes = 0
        self.counts = {version: ShadowCounts() for version in shares}

    def copied(self, decode: Callable[[], InferRequest]) -> CopiedRequest:
        """`decode`, whose inputs can be offered afterwards."""
        return CopiedRequest(decode)

    def offer(self, inputs: Inputs) -> None:
        """Copy one request to every version whose turn it is. Never raises, never waits."""
        for version, share in self._shares.items():
            if self._chance() < share:
                self._start(version, inputs)

    def close(self) -> None:
        """Give up what is on its way."""
        for task in self._pending:
            task.cancel()

    def _start(self, version: str, inputs: Inputs) -> None:
        size_bytes = sum(_size_bytes(array) for array in inputs.values())
        if len(self._pending) >= MAX_PENDING or self._pending_bytes + size_bytes > MAX_PENDING_BYTES:
            self.counts[version].dropped += 1
            return
        self._pending_bytes += size_bytes
        task = asyncio.get_running_loop().create_task(self._deliver(version, inputs, size_bytes))
        # The loop keeps weak references only.
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _deliver(self, version: str, inputs: Inputs, size_bytes: int) -> None:
        counts = self.counts[version]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._send(version, inputs)
            counts.sent += 1
        except Exception as error:
            counts.failed += 1
            _log.debug("shadow %s did not take a copy: %r", version, error)
        finally:
            self._pending_bytes -= size_bytes


def _size_bytes(array: np.ndarray) -> int:
    return sum(map(len, array.reshape(-1))) if array.dtype == object else array.nbytes
