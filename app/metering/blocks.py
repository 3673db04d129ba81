"""Blocks of user code on the same ledger as requests and jobs: what `app.energy.measure` is.

For code outside Serve and Train: a notebook, a Ray task or actor, a Dask-on-Ray graph, a script. Each block is charged
to account `job`, kind `measure`. Without a cluster or a meter the code runs as it is and there are no figures; nothing
of metering is ever raised. docs/measure.md tells the rules.

    from app.energy import measure

    with measure("prepare") as block:
        ...
    block.receipt_id, block.settle(5)          # its energy once the meter has booked it, None without a meter

    @measure("clean")                          # also on `async def`; bare `@measure` takes the function's name
    def clean(rows): ...

Raises InvalidInput for a name, tenant or weight that the books cannot hold, TypeError on a generator function.
"""

import functools
import inspect
import math
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

from app.domain.account import Account, job_account
from app.errors import InvalidInput
from app.metering import lent_client
from app.metering.client import OpenSlice, SliceEnergy, WorkClient

Function = TypeVar("Function", bound=Callable[..., Any])

_MAX_NAME, _MAX_TENANT = 200, 64
_KIND = "measure"
_POLL_S = 0.05
_KEPT_SLICES = 64  # an outer block with many inner ones folds those of its slices that are settled

_innermost: ContextVar["Block | None"] = ContextVar("joulekeeper_block", default=None)


class Block:
    """One run of a measured block. While a block inside it runs, on the same thread or task, it is paused."""

    def __init__(self, account: Account, weight: float, outer: "Block | None") -> None:
        self.account = account
        self._weight, self._outer = weight, outer
        self._lock = threading.Lock()
        self._client: WorkClient | None = None
        self._slices: list[OpenSlice] = []
        self._folded = SliceEnergy(0, 0.0, "", False)
        self._inner = 0

    @property
    def name(self) -> str:
        """The job it is charged to."""
        return self.account.job

    @property
    def receipt_id(self) -> str:
        """Receipt of its first, mostly only, slice; empty with metering off."""
        return self._slices[0].receipt_id if self._slices else ""

    @property
    def receipt_ids(self) -> tuple[str, ...]:
        """One for each time it ran without a block inside it; of a great many the newest."""
        return tuple(piece.receipt_id for piece in self._slices)

    def energy(self) -> SliceEnergy | None:
        """What its job is charged for this run, as far as it is known; None if no meter tells anything.

        Provisional until the meter has booked all of it, a few seconds after its end. Blocks inside it are not in it.
        """
        with self._lock:
            known = [figures for piece in self._slices if (figures := piece.energy()) is not None]
            complete = len(known) == len(self._slices)
            if self._folded.grade:
                known.append(self._folded)
        return _sum(known, complete) if known else None

    def settle(self, timeout_s: float = 10.0) -> SliceEnergy | None:
        """Wait up to `timeout_s` for the settled figure, and return what is known then; for after its end.

        Blocks the thread: on an event loop, `await asyncio.to_thread(block.settle, 5)`.
        """
        deadline = time.monotonic() + timeout_s
        figures = self.energy()
        while self.receipt_id and (figures is None or figures.provisional) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            figures = self.energy()
        return figures

    def _begin(self) -> None:
        if self._outer is not None:
            self._outer._pause()
        self._client = lent_client.borrow()
        with self._lock:
            self._open()

    def _end(self) -> None:
        with self._lock:
            self._slices[-1].end()
            client, self._client = self._client, None
        if client is not None:
            lent_client.give_back(client)
        if self._outer is not None:
            self._outer._resume()

    def _pause(self) -> None:
        with self._lock:
            self._inner += 1
            self._slices[-1].end()
            self._fold()

    def _resume(self) -> None:
        with self._lock:
            self._inner -= 1
            if not self._inner and self._client is not None:
                self._open()

    def _open(self) -> None:
        if self._client is not None:
            self._slices.append(self._client.begin(self.account, self._weight))

    def _fold(self) -> None:
        """Keep few slices: sum up the oldest that are settled."""
        while len(self._slices) > _KEPT_SLICES:
            figures = self._slices[0].energy()
            if figures is None or figures.provisional:
                return
            self._folded = _sum([self._folded, figures], complete=True)
            del self._slices[0]


def _sum(parts: list[SliceEnergy], complete: bool) -> SliceEnergy:
    grades = {grade for part in parts for grade in part.grade.split("+") if grade}
    return SliceEnergy(
        sum(part.energy_uj for part in parts),
        sum(part.carbon_ugco2e for part in parts),
        "+".join(sorted(grades)),
        not complete or any(part.provisional for part in parts),
    )


class Measure:
    """What `measure(...)` gives: a context manager and a decorator, to be used as often as wanted."""

    def __init__(self, name: str, tenant: str, weight: float) -> None:
        _check("name", name, _MAX_NAME, empty=True)
        _check("tenant", tenant, _MAX_TENANT)
        if not (math.isfinite(weight) and weight > 0):
            raise InvalidInput(f"weight must be > 0 and finite, got {weight!r}: rows, tokens or FLOPs of the block")
        self._name, self._tenant, self._weight = name, tenant, weight

    def __enter__(self) -> Block:
        return self._enter(self._name or _program())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block = _innermost.get()
        if block is not None:
            block._end()
            _innermost.set(block._outer)

    def _enter(self, name: str) -> Block:
        block = Block(job_account(self._tenant, name, 1, _KIND), self._weight, _innermost.get())
        block._begin()
        _innermost.set(block)
        return block

    def __call__(self, function: Function) -> Function:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"measure cannot decorate {function!r}, a generator: put `with measure(...)` around its use"
            )
        name = self._name or function.__qualname__.replace("<locals>.", "")[-_MAX_NAME:]
        wrap = self._wrap_async if inspect.iscoroutinefunction(function) else self._wrap
        measured: Function = wrap(function, name)
        return measured

    def _wrap(self, function: Any, name: str) -> Any:
        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            self._enter(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.__exit__(None, None, None)

        return measured

    def _wrap_async(self, function: Any, name: str) -> Any:
        @functools.wraps(function)
        async def measured(*args: Any, **kwargs: Any) -> Any:
            self._enter(name)
            try:
                return await function(*args, **kwargs)
            finally:
                self.__exit__(None, None, None)

        return measured


@overload
def measure(name: Function) -> Function: ...
@overload
def measure(name: str = "", *, tenant: str = "default", weight: float = 1.0) -> Measure: ...
def measure(name: Any = "", *, tenant: str = "default", weight: float = 1.0) -> Any:
    """Charge a block to the job `name` of `tenant`: `with measure("prepare") as block:` or a decorator.

    Without a name it is the function's, or that of the program. Blocks that run at once in one process share what it
    uses by `weight` > 0.
    """
    if callable(name):
        return Measure("", tenant, weight)(name)
    return Measure(name, tenant, weight)


def _check(what: str, text: object, most: int, empty: bool = False) -> None:
    if not isinstance(text, str) or len(text) > most or not (text or empty):
        raise InvalidInput(f"{what} must be text of {0 if empty else 1} to {most} characters, got {text!r}")


def _program() -> str:
    """The script's name; `notebook` in Jupyter, `python` where nothing has a name."""
    stem = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] not in ("", "-c", "-m") else "python"
    return ("notebook" if stem.startswith(("ipykernel", "colab_kernel")) else stem)[:_MAX_NAME]
