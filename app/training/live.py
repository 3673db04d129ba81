"""What a worker tells within an epoch: a progress bar on a terminal, else a line now and then.

Knows nothing of torch. Energy is that of this worker's latest steps, provisional as it must be; the lines at the end of
an epoch are of all workers. The bar is Ray's tqdm: worker 0 sends its state, the driver's terminal shows it.
"""

from collections.abc import Callable
from typing import Any, Protocol

from app.clock import Clock
from app.training.phases import Phases, Usage
from app.units import NS_PER_S, format_energy

_BAR_EVERY_S = 1.0


class Live(Protocol):
    """Told of every step; tells people seldom."""

    def step(self, epoch: int, steps_done: int, samples: int) -> None:
        """A step of `epoch`, from 1, has ended: the `steps_done`th of it, with `samples` rows of this worker."""

    def close(self) -> None:
        """Nothing follows."""


class Silent:
    """Of workers other than the first."""

    def step(self, epoch: int, steps_done: int, samples: int) -> None: ...

    def close(self) -> None: ...


class _Paced:
    """Speaks every `every_s` seconds at most, the first time after that long."""

    def __init__(self, phases: Phases, clock: Clock, every_s: float) -> None:
        self._phases, self._clock, self._every_ns = phases, clock, round(every_s * NS_PER_S)
        self._last_ns = clock.monotonic_ns()

    def _is_due(self) -> bool:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._last_ns < self._every_ns:
            return False
        self._last_ns = now_ns
        return True


class Lines(_Paced):
    """A line every so many seconds: for logs, where a bar is noise."""

    def __init__(
        self, tell: Callable[[str], None], phases: Phases, clock: Clock, every_s: float, epochs: int, epoch_steps: int
    ) -> None:
        super().__init__(phases, clock, every_s)
        self._tell, self._epochs, self._epoch_steps = tell, epochs, epoch_steps

    def step(self, epoch: int, steps_done: int, samples: int) -> None:
        # Of the first step nothing is known while it is the last that ended.
        if steps_done > 1 and self._is_due():
            place = f"epoch {epoch}/{self._epochs}  step {steps_done}/{self._epoch_steps}"
            self._tell(f"{place}  {of_steps(self._phases.latest('step'), samples)}, worker 0")

    def close(self) -> None: ...


class Bar(_Paced):
    """A bar over all steps of the job. `bar` is a tqdm, Ray's or another."""

    def __init__(self, bar: Any, phases: Phases, clock: Clock, epochs: int, steps_done: int) -> None:
        super().__init__(phases, clock, _BAR_EVERY_S)
        self._bar, self._epochs = bar, epochs
        bar.update(steps_done)

    def step(self, epoch: int, steps_done: int, samples: int) -> None:
        self._bar.update(1)
        if self._is_due():
            told = of_steps(self._phases.latest("step"), samples)
            self._bar.set_description(f"epoch {epoch}/{self._epochs}  {told}")

    def close(self) -> None:
        self._bar.close()


def of_steps(steps: Usage, samples: int) -> str:
    """Joules of a step and of a sample, from some steps of `samples` rows each."""
    if not steps.known:
        return "energy not known yet"
    per_step = steps.energy_uj / steps.known
    certainty = ", provisional" if steps.provisional else ""
    return (
        f"{format_energy(round(per_step))}/step  {format_energy(round(per_step / max(1, samples)))}/sample "
        f"({steps.grade}{certainty})"
    )


def ray_bar(total_steps: int) -> Any:
    """A bar that the driver shows, for a worker of Ray Train."""
    from ray.experimental.tqdm_ray import tqdm

    return tqdm(desc="training", total=total_steps, unit="step")
