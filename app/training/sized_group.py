"""A run by plan on Kubernetes: its worker group has as many pods as the plan has workers, none while it is paused.

The conductor's own decisions, wherever it binds, starts or pauses workers, are passed on to a worker group of KubeRay
(kuberay.py); at the end the group is as it was. A group that cannot be sized is told and the run goes on: Ray waits for
room by itself. The group must be this job's alone. Knows nothing of plans.

    with sized_group("ray/workers/1", board, tell) as (board, sized):
        sized(Conductor(planner, run, board, ...)).conduct(fit)

Raises InvalidInput for a name that is none, Unavailable outside Kubernetes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from app.errors import InvalidInput, JoulekeeperError
from app.policy.worker_groups import Wish
from app.training.fitted import Fitted
from app.training.kuberay import KubeRay
from app.training.pace import AttemptEnergy


class Sizes(Protocol):
    """What is used of KubeRay."""

    def size(self, name: str, wishes: dict[str, Wish]) -> dict[str, Wish]: ...


class Way(Protocol):
    """What is used of a way to run a job (planned.py)."""

    waited_s: float

    def conduct(self, fit: Callable[[], Fitted]) -> Fitted: ...
    def ended(self, energy: AttemptEnergy, energy_uj: int, carbon_ugco2e: int) -> None: ...


class WorkerGroup:
    """One group of one RayCluster. Sizing it never raises: what went wrong is told."""

    def __init__(
        self, sizes: Sizes, raycluster: str, group: str, per_replica: int, tell: Callable[[str], None]
    ) -> None:
        self._sizes, self._raycluster, self._group, self._per_replica = sizes, raycluster, group, per_replica
        self._tell = tell
        self._before: Wish | None = None

    def want(self, workers: int) -> None:
        """Room for so many and no more."""
        self._size(Wish.of_workers(workers, self._per_replica))

    def restore(self) -> None:
        """As it was before the first `want`."""
        if self._before is not None:
            self._size(self._before)

    def _size(self, wish: Wish) -> None:
        try:
            before = self._sizes.size(self._raycluster, {self._group: wish})[self._group]
        except JoulekeeperError as error:
            self._tell(f"worker group {self._group} is not sized: {error}")
            return
        self._before = self._before or before


class SizedBoard:
    """The board, with the group made as large as the run may be."""

    def __init__(self, board: Any, group: WorkerGroup) -> None:
        self._board, self._sized = board, group

    def bound_workers(self, run: str, most: int) -> None:
        self._board.bound_workers(run, most)
        self._sized.want(most)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)


class SizedWay:
    """A way whose group is empty while no workers are held."""

    def __init__(self, way: Way, group: WorkerGroup) -> None:
        self._way, self._group = way, group
        self.waited_s = 0.0

    def conduct(self, fit: Callable[[], Fitted]) -> Fitted:
        self._group.want(0)
        try:
            return self._way.conduct(lambda: self._held(fit))
        finally:
            self.waited_s = self._way.waited_s
            self._group.restore()

    def ended(self, energy: AttemptEnergy, energy_uj: int, carbon_ugco2e: int) -> None:
        self._way.ended(energy, energy_uj, carbon_ugco2e)

    def _held(self, fit: Callable[[], Fitted]) -> Fitted:
        try:
            return fit()
        finally:
            self._group.want(0)


@contextmanager
def sized_group(
    named: str, board: Any, tell: Callable[[str], None], open_sizes: Callable[[], KubeRay] = KubeRay.in_cluster
) -> Iterator[tuple[Any, Callable[[Way], Way]]]:
    """The board and the wrapping of the way for the group `named`: RAYCLUSTER/GROUP or RAYCLUSTER/GROUP/WORKERS, the
    number of workers for which a replica has room. Empty: nothing is sized."""
    if not named:
        yield board, lambda way: way
        return
    raycluster, name, per_replica = _parts(named)
    with open_sizes() as sizes:
        group = WorkerGroup(sizes, raycluster, name, per_replica, tell)
        yield SizedBoard(board, group), lambda way: SizedWay(way, group)


def _parts(named: str) -> tuple[str, str, int]:
    raycluster, _, rest = named.partition("/")
    group, _, count = rest.partition("/")
    if not raycluster or not group or (count and (not count.isdecimal() or int(count) < 1)):
        raise InvalidInput(
            f"JOULEKEEPER_WORKER_GROUP must be RAYCLUSTER/GROUP or RAYCLUSTER/GROUP/WORKERS, got {named!r}; remove it "
            "to size no group"
        )
    return raycluster, group, int(count or 1)
