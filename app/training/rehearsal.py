"""A run on paper: the conductor's own decisions, workers that are nothing but a pace, a clock that is moved by hand.

What it emits is what the same run would emit live, if paces and prices are those given: for trying a plan, for tests,
and to compare a real run with. Knows nothing of Ray.

    paper = PaperRun(job, files, pace, ManualClock(), board)
    conductor = Conductor(planner, run, board, paper.clock, print, sleep=paper.sleep, in_background=False)
    conductor.conduct(lambda: paper.fit(conductor.watch_once))
    paper.grams(series)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.carbon.intensity import LocationAverageSeries
from app.clock import ManualClock
from app.training.attempts import Attempt, Seen
from app.training.job import TrainJob
from app.training.pace import Pace, WorldPace
from app.training.run_files import RunFiles
from app.units import NS_PER_S

_J_PER_KWH = 3_600_000.0
_NOBODY_METERED_W = 0.0


class PaperBoard:
    """What board.py does, in memory."""

    def __init__(self) -> None:
        self.stop = self.progress = ""
        self.bounds: list[int] = []
        """Numbers of workers, as they were asked for."""

    def set_aside(self, run: str) -> None:
        self.stop = self.progress = ""

    def ask_to_stop(self, run: str, reason: str) -> None:
        self.stop = reason

    def reason_to_stop(self, run: str) -> str:
        return self.stop

    def bound_workers(self, run: str, most: int) -> None:
        self.bounds.append(most)

    def progress_of(self, run: str) -> str:
        return self.progress


@dataclass(frozen=True, slots=True)
class PaperResult:
    """As Ray Train's Result."""

    return_value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Joules over an interval, evenly. Unix seconds."""

    start_s: float
    end_s: float
    joules: float


class PaperRun:
    """Workers on paper; a number of them that the pace does not know is as fast as the largest that it knows."""

    def __init__(
        self, job: TrainJob, files: RunFiles, pace: Pace, clock: ManualClock, board: PaperBoard, look_s: float = 1.0
    ) -> None:
        """`look_s`: seconds between two looks of the conductor."""
        self._job, self._files, self._pace, self._board, self._look_s = job, files, pace, board, look_s
        self.clock = clock
        self.drawn: list[Drawn] = []
        self._steps = 0.0

    def sleep(self, seconds: float) -> None:
        """Time goes by without workers."""
        self.clock.advance(round(seconds * NS_PER_S))

    def fit(self, look: Callable[[], bool]) -> PaperResult:
        """From one start of the workers to their end; `look` is called as time goes by."""
        pace, world = self._pace, self._world()
        self._draw(pace.waiting_s, 0.0)
        begun_s, number = self._now_s(), self._files.claim_attempt()
        self._draw(pace.setup_s - pace.waiting_s, pace.setup_j or 0.0)
        attempt = Attempt(
            world=world.world,
            begun_s=begun_s,
            epoch=int(self._steps) // pace.epoch_steps,
            step=int(self._steps) % pace.epoch_steps,
            epoch_steps=pace.epoch_steps,
            first_step_s=self._now_s(),
        )
        total = self._job.epochs * pace.epoch_steps
        while self._steps < total and not self._board.stop:
            seconds = min(self._look_s, (total - self._steps) * world.step_s)
            self._draw(seconds, (world.power_w or _NOBODY_METERED_W) * seconds)
            self._steps = min(float(total), self._steps + seconds / world.step_s)
            if total - self._steps < 1e-6:
                self._steps = total
            seen = self._seen(number)
            self._files.write_attempt(number, attempt.model_copy(update={"last": seen}).model_dump_json())
            self._board.progress = seen.model_dump_json()
            look()
        stopped = self._board.stop if self._steps < total else ""
        self.clock.advance(round(pace.closing_s * NS_PER_S))
        return PaperResult({"stopped": stopped})

    @property
    def joules(self) -> float:
        """Drawn up to now."""
        return sum(each.joules for each in self.drawn)

    def grams(self, series: LocationAverageSeries, pue: float = 1.0) -> float:
        """Emitted up to now."""
        return pue * sum(
            each.joules
            * series.mean_between(round(each.start_s * NS_PER_S), round(each.end_s * NS_PER_S)).g_per_kwh
            / _J_PER_KWH
            for each in self.drawn
            if each.end_s > each.start_s
        )

    def _world(self) -> WorldPace:
        wanted = self._board.bounds[-1] if self._board.bounds else self._job.workers.max
        return self._pace.of(wanted) or self._pace.worlds[-1]

    def _draw(self, seconds: float, joules: float) -> None:
        start_s = self._now_s()
        self.clock.advance(round(seconds * NS_PER_S))
        self.drawn.append(Drawn(start_s, self._now_s(), joules))

    def _seen(self, number: int) -> Seen:
        epoch, step = divmod(int(self._steps), self._pace.epoch_steps)
        return Seen(attempt=number, epoch=epoch, step=step, at_s=self._now_s())

    def _now_s(self) -> float:
        return self.clock.wall_ns() / NS_PER_S
