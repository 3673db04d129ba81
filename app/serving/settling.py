"""Waiting for a settled receipt: who asks for it, for how long, and the wait itself.

Knows nothing of servers. HTTP asks in the query (`infer?settle=true&settle_timeout_s=5`), gRPC in its metadata
(`x-joulekeeper-settle: true`, `x-joulekeeper-settle-timeout-s: 5`); what cannot be read is refused before any work is
done. Raises InvalidInput.
"""

import asyncio
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.metering.client import OpenSlice, PhasedSlice

SETTLE_TIMEOUT_S = 10.0
"""Three times what settling takes with the settings as they come: settle_lag_s + flush_s."""
MAX_SETTLE_TIMEOUT_S = 60.0
"""A request that waits counts among the ongoing ones of its replica."""

_POLL_S = 0.05
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def settle_of_query(query: bytes) -> float:
    """Seconds to wait at most by an URL's query; 0: not at all."""
    if not query:
        return 0.0
    return _seconds(parse_qsl(query.decode("latin-1"), keep_blank_values=True), "settle", "settle_timeout_s")


def settle_of_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> float:
    """Seconds to wait at most by a gRPC call's metadata; 0: not at all."""
    return _seconds(metadata, "x-joulekeeper-settle", "x-joulekeeper-settle-timeout-s")


def _seconds(pairs: Iterable[tuple[str, str | bytes]], switch: str, bound: str) -> float:
    wanted, timeout_s = False, SETTLE_TIMEOUT_S
    for name, value in pairs:
        if name == switch:
            wanted = _boolean(name, value)
        elif name == bound:
            timeout_s = _timeout_s(name, value)
    return timeout_s if wanted else 0.0


def _boolean(name: str, value: str | bytes) -> bool:
    known = _BOOLEANS.get(value.lower()) if isinstance(value, str) else None
    if known is None:
        raise InvalidInput(f"{name} must be true or false, got {value!r}")
    return known


def _timeout_s(name: str, value: str | bytes) -> float:
    try:
        timeout_s = float(value)
    except ValueError:
        timeout_s = math.nan
    if not 0 < timeout_s <= MAX_SETTLE_TIMEOUT_S:
        raise InvalidInput(f"{name} must be seconds > 0 and <= {MAX_SETTLE_TIMEOUT_S:g}, got {value!r}")
    return timeout_s


async def settled(work: "OpenSlice | PhasedSlice", timeout_s: float) -> None:
    """Return when the ended `work` is settled, or after `timeout_s`; at once with metering off."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while work.receipt_id and not work.is_settled:
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            return
        await asyncio.sleep(min(_POLL_S, left_s))
