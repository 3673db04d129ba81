"""Asks a model what a line of a batch asks, through Serve's own door, as its tenant would.

Knows nothing of batches beyond one request, nor of when it is sent. What only came too early (a full queue, a model
that is not there yet, a quota that fills again) is no answer: it is asked again later.

    sender = Sender(door, catalogue, clock)
    match await sender.ask(pending, authorization, attempt=1):
        case Answered(): ...
        case Later(after_s=5.0): ...
"""

import asyncio
import contextlib
from dataclasses import dataclass

import httpx

from app.clock import Clock
from app.console.batches.records import Answered, Pending
from app.console.catalogue import Catalogue
from app.console.forward import ROUTED, ServeDoor, locate
from app.errors import JoulekeeperError, Unavailable
from app.protocol.openai_errors import UnknownModel, refusal
from app.units import NS_PER_S

TIMEOUT_S = 900.0
"""For one answer, a cold start and a wait in the model's queue included."""
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_ATTEMPTS = 3
"""Of a request that a server fails at; being told to come later is no failure."""
_LATER = (429, 503)
_RECEIPT = "x-joulekeeper-"


@dataclass(frozen=True, slots=True)
class Later:
    """Ask again, not before `after_s` seconds from now."""

    pending: Pending
    after_s: float
    why: str
    failed: bool = False
    """It counts as an attempt."""


class Sender:
    """For one event loop."""

    def __init__(self, door: ServeDoor, catalogue: Catalogue, clock: Clock) -> None:
        self._door, self._catalogue, self._clock = door, catalogue, clock

    async def ask(self, pending: Pending, authorization: str | None, attempt: int = 1) -> Answered | Later:
        """The answer, an error's included; never raises."""
        began_ns = self._clock.monotonic_ns()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                path, headers = await self._address(pending)
                if authorization:
                    headers.append(("authorization", authorization))
                answer = await self._door.post(path, headers, pending.body)
                try:
                    body = await _read(answer)
                finally:
                    await answer.aclose()
        except TimeoutError:
            return self._failed(pending, attempt, f"no answer within {TIMEOUT_S:g} s", began_ns)
        except UnknownModel as error:
            return self._answered(pending, 404, refusal(error).body, httpx.Headers(), began_ns)
        except (JoulekeeperError, httpx.HTTPError) as error:
            if isinstance(error, Unavailable):
                return Later(pending, 5.0, str(error))
            return self._failed(pending, attempt, f"{type(error).__name__}: {error}", began_ns)
        if answer.status_code in _LATER:
            return Later(pending, _retry_after_s(answer), f"told {answer.status_code}")
        if answer.status_code == 401 and attempt < _ATTEMPTS:
            return Later(pending, 3.0, "its ticket is not known yet", failed=True)  # gates ask every two seconds
        if answer.status_code >= 500 and attempt < _ATTEMPTS:
            return Later(pending, float(attempt), f"told {answer.status_code}", failed=True)
        return self._answered(pending, answer.status_code, body, answer.headers, began_ns)

    async def _address(self, pending: Pending) -> tuple[str, list[tuple[str, str]]]:
        """Path and headers. Raises UnknownModel, Unavailable."""
        headers = [("content-type", "application/json")]
        if not pending.url.startswith("/v1/"):
            return pending.url, headers
        application, route = locate(pending.model, await self._catalogue.models())
        return f"{route}{pending.url}", [*headers, (ROUTED, application)]

    def _answered(self, pending: Pending, status: int, body: bytes, headers: httpx.Headers, began_ns: int) -> Answered:
        receipt_id = headers.get(f"{_RECEIPT}receipt_id", "")
        return Answered(
            batch=pending.batch,
            number=pending.number,
            status=status,
            body=body,
            receipt_id=receipt_id,
            energy_uj=_whole(headers.get(f"{_RECEIPT}energy_uj")),
            carbon_ugco2e=_whole(headers.get(f"{_RECEIPT}carbon_ugco2e")),
            grade=headers.get(f"{_RECEIPT}grade", ""),
            # Without its figures a receipt is one that has still to be asked for.
            provisional=bool(receipt_id) and headers.get(f"{_RECEIPT}provisional", "true") != "false",
            ended_s=self._clock.wall_ns() / NS_PER_S,
            took_s=(self._clock.monotonic_ns() - began_ns) / NS_PER_S,
        )

    def _failed(self, pending: Pending, attempt: int, why: str, began_ns: int) -> Answered | Later:
        if attempt < _ATTEMPTS:
            return Later(pending, float(attempt), why, failed=True)
        return self._answered(pending, 500, refusal(Unavailable(why)).body, httpx.Headers(), began_ns)


async def _read(answer: httpx.Response) -> bytes:
    """The body, decoded. Raises Unavailable for one without end."""
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            raise JoulekeeperError(f"the answer has more than {_MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _retry_after_s(answer: httpx.Response) -> float:
    """As the model says; of a quota of the day until midnight."""
    with contextlib.suppress(ValueError):
        return min(86_400.0, max(0.5, float(answer.headers.get("retry-after", ""))))
    return 2.0


def _whole(text: str | None) -> int:
    with contextlib.suppress(ValueError):
        return int(text or 0)
    return 0
