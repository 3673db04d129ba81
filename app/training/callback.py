"""Puts a Ray Train run on the books without a change to its script: job, attempt, workers and epochs.

    RAY_TRAIN_CALLBACKS=app.training.callback.EnergyCallback python train.py

The run is charged to the job named `RunConfig.name`, each start of its workers to an attempt of its own. On a worker an
epoch lasts from one `ray.train.report` to the next. Workers wait, 20 s at most, until a meter watches their node. Never
raises: a callback that does fails the run. Runs whose `train_loop_config` holds METERS_ITSELF, as those of `joulekeeper
train` do, are left alone.

Written against Ray 2.60, `ray.train.v2._internal.execution.callback`.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from ray.train.v2._internal.execution.callback import TrainContextCallback, WorkerCallback, WorkerGroupCallback

from app.domain.account import Account, job_account
from app.training.phases import OpenSlice

METERS_ITSELF = "joulekeeper_meters_itself"
"""Key in `train_loop_config`: the training function opens a client of its own."""

_MAX_NAME = 200  # what the ledger holds
_METER_WITHIN_S = 20.0  # the first run on a fresh cluster starts the accountant and its meter, which takes seconds
_log = logging.getLogger(__name__)
Hook = TypeVar("Hook", bound=Callable[..., None])


class Piece(OpenSlice, Protocol):
    """An epoch's slice (`OpenSlice` of the metering client)."""

    @property
    def duration_ns(self) -> int: ...
    def assign(self, part: int) -> None: ...


class Client(Protocol):
    """What is used of `WorkClient`."""

    def begin(self, account: Account, weight: float = 1.0, part: int = 0) -> Piece: ...
    def close(self) -> None: ...


class Epochs:
    """The epochs of one worker as slices without gaps, from its start to the end of its training function."""

    def __init__(self, client: Client, account: Account, first: int, settle_lag_ns: int) -> None:
        self._client, self._account, self._settle_lag_ns = client, account, settle_lag_ns
        self._lock = threading.Lock()
        self._piece: Piece | None = client.begin(account, part=first)

    def next(self, epoch: int) -> None:
        """The epoch that runs has ended with a report; `epoch` follows."""
        with self._lock:
            if self._piece is not None:
                self._piece.end()
                self._piece = self._client.begin(self._account, part=epoch)

    def finish(self, reported: bool) -> None:
        """The training function is done.

        What followed its last report is no epoch unless it took so long that the meter has booked some of it as one.
        """
        with self._lock:
            piece, self._piece = self._piece, None
            if piece is not None:
                piece.end()
                if reported and piece.duration_ns < self._settle_lag_ns:
                    piece.assign(0)

    def close(self) -> None:
        """The worker goes."""
        self.finish(reported=False)
        self._client.close()


def _never_raises(hook: Hook) -> Hook:
    @functools.wraps(hook)
    def careful(*args: Any, **kwargs: Any) -> None:
        try:
            hook(*args, **kwargs)
        except Exception as error:
            _log.warning("this run is metered in part or not at all: %s", error)

    return careful  # type: ignore[return-value]


class EnergyCallback(WorkerGroupCallback, WorkerCallback, TrainContextCallback):
    """Made in the driver, copied to the controller, which counts attempts, and from there to every worker."""

    def __init__(self) -> None:
        self._attempt = 0
        self._epochs: Epochs | None = None
        self._watched = False

    def before_init_train_context(self, workers: list[Any]) -> dict[str, list[Any]]:
        """On the controller, before the workers get their copies."""
        self._attempt += 1
        return {}

    @_never_raises
    def after_init_train_context(self) -> None:
        """On a worker that is ready to train."""
        context = _context()
        config = context.train_run_context.train_loop_config
        if isinstance(config, dict) and METERS_ITSELF in config:
            return
        self._epochs = _open(context, max(1, self._attempt))

    @contextmanager
    def on_report(self) -> Iterator[None]:
        """On a worker, around `ray.train.report`: the report still belongs to the epoch that it ends."""
        yield
        self._after_report()

    @_never_raises
    def _after_report(self) -> None:
        epochs = self._epochs
        if epochs is None:
            return
        epochs.next(_context().report_call_index + 1)
        if not self._watched:
            self._watched = True
            training = threading.current_thread()
            threading.Thread(target=_finish_after, args=(training, epochs), name="joulekeeper-end", daemon=True).start()

    @_never_raises
    def before_worker_shutdown(self) -> None:
        """On a worker that is let go."""
        if self._epochs is not None:
            self._epochs.close()


def _finish_after(training: threading.Thread, epochs: Epochs) -> None:
    """The worker waits for the controller once its training function is done: no epoch's time."""
    training.join()
    epochs.finish(reported=True)


def _context() -> Any:
    """Ray Train's own context of this worker."""
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context()


def _open(context: Any, attempt: int) -> Epochs:
    from app.config import settings
    from app.metering.client import WorkClient
    from app.metering.devices import visible_accelerators
    from app.units import NS_PER_S

    account = job_account("default", str(context.get_experiment_name())[:_MAX_NAME], attempt)
    client = WorkClient.open(account, devices=visible_accelerators(), worker=context.get_world_rank())
    if not client.await_meter(_METER_WITHIN_S):
        _log.warning("no meter watches this node yet: the first seconds of this run may not be on the books")
    return Epochs(client, account, context.report_call_index + 1, round(settings().settle_lag_s * NS_PER_S))
