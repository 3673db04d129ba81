"""A runner whose calls are slices on the books, for one request or for several at once.

Knows nothing of wires, queues or threads; called by one thread at a time, as the runner is. Requests that run together
share one interval by their weights, and each has its own slice and receipt. What cannot be read, or fails when it
runs alone too, fails by itself: its neighbours get their answers.

    metered = MeteredRunner(runner, client, counts)
    done = metered.run(Ask(inputs, account))                       # raises what the runner raises
    answers = metered.run_together([Ask(...), Ask(...)])           # Done or an exception for each
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from app.domain.account import Account
from app.protocol.model_statistics import ModelCounts
from app.serving.joining import join, rows_of, split

if TYPE_CHECKING:
    from app.metering.client import OpenSlice, WorkClient
    from app.models.runners.base import Runner

Arrays = Mapping[str, np.ndarray]

Result = TypeVar("Result")

_log = logging.getLogger("ray.serve")
_GIVE_UP_AFTER = 3


class Ask(NamedTuple):
    """Inputs that fit the model, and who is charged."""

    inputs: Arrays
    account: Account


class Done(NamedTuple):
    """All outputs, the ended slice of the work, and how much work the inputs were, in the model's own unit."""

    outputs: Arrays
    work: "OpenSlice"
    weight: float = 1.0


class MeteredRunner:
    """One loaded model version and the client of its meter."""

    def __init__(self, runner: "Runner", client: "WorkClient", counts: ModelCounts) -> None:
        self.runner, self._client, self._counts = runner, client, counts
        self._joint_faults = 0

    def run(self, ask: Ask, since: int | None = None) -> Done:
        """Run one request; its slice begins now, or at a mark: since then it was being read."""
        mark = self._client.mark() if since is None else since
        # what the runner cannot weigh it could not read either: no slice
        weight = self.runner.weight(ask.inputs)
        work = self._client.begin(ask.account, weight=weight, since=mark)
        try:
            return Done(self._run(ask.inputs), work, weight)
        finally:
            work.end()

    def run_briefly(self, ask: Ask, since: int | None) -> Done:
        """As `run`, for work that is expected to take a millisecond or less: its slice is told when it is over."""
        weight = self.runner.weight(ask.inputs)
        try:
            outputs = self._run(ask.inputs)
        except BaseException:
            self._client.done(ask.account, weight, since)
            raise
        return Done(outputs, self._client.done(ask.account, weight, since), weight)

    def run_together(self, asks: Sequence[Ask]) -> list[Done | Exception]:
        """Run requests of one kind as one call."""
        mark = self._client.mark()
        if len(asks) == 1:
            return [_or_fault(self.run, asks[0], mark)]
        weights = [_or_fault(self.runner.weight, ask.inputs) for ask in asks]
        sound = [(ask, weight) for ask, weight in zip(asks, weights, strict=True) if not isinstance(weight, Exception)]
        works = self._client.begin_together([(ask.account, weight) for ask, weight in sound], mark)
        try:
            outputs = self._outputs([ask.inputs for ask, _ in sound])
        finally:
            self._client.end_together(works)
        answers = (
            output if isinstance(output, Exception) else Done(output, work, weight)
            for output, work, (_, weight) in zip(outputs, works, sound, strict=True)
        )
        return [weight if isinstance(weight, Exception) else next(answers) for weight in weights]

    def _outputs(self, parts: Sequence[Arrays]) -> list[Arrays | Exception]:
        """The outputs of each part, or why it has none. Joined; one after the other if that fails."""
        if len(parts) < 2 or self._joint_faults >= _GIVE_UP_AFTER:
            return [_or_fault(self._run, part) for part in parts]
        try:
            joint: list[Arrays | Exception] = list(split(self._run(join(parts)), [rows_of(part) for part in parts]))
        except Exception as fault:
            outputs: list[Arrays | Exception] = [_or_fault(self._run, part) for part in parts]
            if not any(isinstance(output, Exception) for output in outputs):
                self._note_joint_fault(fault, len(parts))
            return outputs
        self._joint_faults = 0
        return joint

    def _run(self, inputs: Arrays) -> Arrays:
        self._counts.executions += 1
        return self.runner.run(inputs)

    def _note_joint_fault(self, fault: Exception, count: int) -> None:
        self._joint_faults += 1
        _log.warning(
            "%s failed on %d requests together that succeed alone (%d times in a row; after %d none are joined): %r",
            self.runner.name,
            count,
            self._joint_faults,
            _GIVE_UP_AFTER,
            fault,
        )


def energy_uj_of(answers: Sequence[Done]) -> int:
    """What the answers of one batch used together, as far as it is known at once: all of it provisional."""
    told = (done.work.energy() for done in answers)
    return sum(each.energy_uj for each in told if each)


def _or_fault(step: Callable[..., Result], *arguments: object) -> Result | Exception:
    try:
        return step(*arguments)
    except Exception as error:
        return error
