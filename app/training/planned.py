"""How the driver of a job runs its workers: at once, or by a plan where the job file has a part `start`.

Puts the grid, the planner and the conductor together for one run. Knows nothing of what is trained.

    with planned(job, storage, run, clock, tell, lambda: AttemptEnergy(...)) as way:
        fitted = way.conduct(fit)
    ...
    way.ended(energy, energy_uj, carbon_ugco2e)       # once the books are settled
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast

from app.clock import Clock
from app.config import settings
from app.training import board
from app.training.fitted import Fitted
from app.training.job import TrainJob
from app.training.pace import AttemptEnergy
from app.training.pace_keeper import PaceKeeper
from app.training.placing import Placed
from app.training.run_files import RunFiles
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.training.live_queue import LiveQueue


class Way(Protocol):
    """How a run is driven."""

    waited_s: float
    """In which no workers were held."""

    def conduct(self, fit: Callable[[], Fitted]) -> Fitted:
        """Run the workers until the run has ended or was stopped."""

    def ended(self, energy: AttemptEnergy, energy_uj: int, carbon_ugco2e: int) -> None:
        """The books are settled: what the run took and came to is kept."""


class AtOnce:
    """Without a plan. What the run took is kept for later ones, which may have one."""

    waited_s = 0.0

    def __init__(self, keeper: PaceKeeper, clock: Clock) -> None:
        self._keeper, self._clock = keeper, clock

    def conduct(self, fit: Callable[[], Fitted]) -> Fitted:
        self._keeper.begins(self._clock.wall_ns() / NS_PER_S)
        fitted = fit()
        self._keeper.has_ended(self._clock.wall_ns() / NS_PER_S)
        return fitted

    def ended(self, energy: AttemptEnergy, energy_uj: int, carbon_ugco2e: int) -> None:
        self._keeper.keep(energy)


@contextmanager
def planned(
    job: TrainJob,
    storage: str,
    run: str,
    clock: Clock,
    tell: Callable[[str], None],
    energy: Callable[[], AttemptEnergy],
    placed: Placed | None = None,
) -> Iterator[Way]:
    """The way `run` is driven, by the grid of its zone where it has one. Raises InvalidInput for a plan that cannot be
    made."""
    if job.start is None:
        yield AtOnce(PaceKeeper(RunFiles.open(storage, run)), clock)
        return
    from app.training.conductor import Board, Conductor
    from app.training.live_grid import live_grid
    from app.training.planner import Planner
    from app.training.sized_group import sized_group

    pue = placed.pue if placed else settings().pue
    with (
        live_grid(clock, placed.grid if placed else None) as grid,
        sized_group(settings().worker_group, board, tell) as (told_board, sized),
    ):
        planner = Planner.open(job, storage, run, grid, clock.wall_ns() / NS_PER_S, pue)
        queue = _queue(job, run, planner.terms.submitted_s, clock) if job.start.queue else None
        told = cast(Board, told_board)
        yield sized(Conductor(planner, run, told, clock, tell, energy=energy, sleep=time.sleep, queue=queue))


def _queue(job: TrainJob, run: str, submitted_s: float, clock: Clock) -> "LiveQueue":
    from app.training.live_queue import LiveQueue, QueueBoard, cluster_resources

    # An elastic group begins with its least number, and grows into what others leave.
    workers, each = job.workers.min, job.resources
    needs = {"CPU": each.cpu * workers, "GPU": each.gpu * workers}
    return LiveQueue(run, needs, cast(QueueBoard, board), cluster_resources, clock, submitted_s)
