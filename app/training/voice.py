"""Who hears of a run of Ray Train: the voice of worker 0, made from what its job asks for.

open_voice(job, run, attempt, phases, epoch_steps, steps_done, tell=print, bar=True)
"""

from collections.abc import Callable

from app.clock import SystemClock
from app.training.job import TrainJob
from app.training.live import Bar, Lines, Live, ray_bar
from app.training.phases import Phases
from app.training.telling import Voice
from app.training.tracking import open_trackers


def open_voice(
    job: TrainJob,
    run: str,
    attempt: int,
    phases: Phases,
    *,
    epoch_steps: int,
    steps_done: int,
    tell: Callable[[str], None],
    bar: bool,
) -> Voice:
    """The voice of the first worker; `bar`: somebody sits at the driver's terminal. `steps_done` of the whole run."""
    clock = SystemClock()
    live: Live
    if bar:
        live = Bar(ray_bar(job.epochs * epoch_steps), phases, clock, job.epochs, steps_done)
    else:
        live = Lines(tell, phases, clock, job.report.every_s, job.epochs, epoch_steps)
    params = {
        "epochs": str(job.epochs),
        "batch_size": str(job.batch_size),
        "workers": str(job.workers),
        "precision": job.precision,
        "optimiser": job.optimiser.name,
        "lr": str(job.optimiser.lr),
        "seed": str(job.seed),
    }
    trackers = open_trackers(job.tracking, job=job.name, run=run, attempt=attempt, params=params, tell=tell)
    return Voice(tell, live, trackers)
