"""What a worker tells of its run while it trains: within an epoch, after each, to loggers, and into its checkpoints.

Knows nothing of Ray, models or files. Every worker has one, since epochs are told with the figures of all; worker 0
alone speaks. Nothing here steers the training, and a logger that fails costs its figures only.

    telling = Telling(phases, StepWatch(device), History.read(directory), attempt=1, epochs=20)
    telling.step_begins(); ...; telling.step_ended(epoch, steps_done, samples)
    telling.steps_ended()
    telling.epoch_ended(figures)                      # before its checkpoint, which keeps `files`
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.training.history import HISTORY_FILE, History
from app.training.live import Live, Silent
from app.training.phases import Phase, Phases, Usage
from app.training.progress import EpochFigures, line, worker_lines
from app.training.tracking import Trackers
from app.training.waiting import StepTimes, StepWatch

Share = tuple[dict[Phase, Usage], StepTimes]
"""What a worker says of its epoch to the others."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Who hears: people, a bar or lines within an epoch, loggers. Of workers other than the first nobody."""

    tell: Callable[[str], None] = lambda text: None
    live: Live = field(default_factory=Silent)
    trackers: Trackers = field(default_factory=lambda: Trackers({}, lambda text: None))


class Telling:
    """One attempt of one worker."""

    def __init__(self, phases: Phases, watch: StepWatch, history: History, *, attempt: int, epochs: int) -> None:
        self.watch, self.history = watch, history
        self.voice = Voice()
        """Nobody hears, until the first worker is given one."""
        self._phases, self._attempt, self._epochs = phases, attempt, epochs
        self._times = watch.take()

    def step_begins(self) -> None:
        """An optimiser step begins."""
        self.watch.begin()

    def step_ended(self, epoch: int, steps_done: int, samples: int) -> None:
        """The `steps_done`th step of `epoch`, from 1, has ended, with `samples` rows of this worker."""
        self.watch.end()
        self.voice.live.step(epoch, steps_done, samples)

    def interrupted(self) -> None:
        """Something else was done between two steps."""
        self.watch.interrupt()

    def steps_ended(self) -> None:
        """The last step of an epoch has ended, on a GPU too."""
        self._times = self.watch.take()

    def share(self) -> Share:
        """For the other workers: since the last call."""
        return self._phases.usage_since_last(), self._times

    def epoch_ended(self, figures: EpochFigures) -> None:
        """All workers' figures of an epoch are together."""
        row = self.history.add(figures, self._attempt)
        self.voice.tell(line(figures, self._epochs))
        for text in worker_lines(figures):
            self.voice.tell(text)
        self.voice.trackers.epoch(row, sum(each.energy_uj for each in self.history.rows))

    @property
    def files(self) -> Mapping[str, str]:
        """What belongs into a checkpoint, by name."""
        return {HISTORY_FILE: self.history.to_json()}

    def close(self, finished: bool) -> None:
        """Nothing follows; `finished` unless the run will go on or has failed."""
        self.voice.live.close()
        self.voice.trackers.close(finished)
