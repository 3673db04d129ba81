"""What a worker of a cluster does around its training loop: it opens its books, hears the ledger, and speaks.

Knows nothing of models or data; the loop is worker.py. A budget of energy without a meter is refused: Unavailable.

    TorchTrainer(train_worker, train_loop_config={"job": job.model_dump(mode="json"), "run": run}, ...)
"""

import sys
from typing import TYPE_CHECKING, Any

from app.domain.account import job_account
from app.errors import Unavailable
from app.training.booked import Booked
from app.training.job import TrainJob
from app.training.phases import Phases
from app.training.position import Position
from app.training.telling import Voice
from app.training.worker import train

if TYPE_CHECKING:
    from app.metering.client import WorkClient

_METER_WITHIN_S = 60.0


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What every worker of a TorchTrainer runs. `config`: `job` as plain values, `run`, the job's name in the books."""
    from app.config import settings
    from app.metering.client import WorkClient
    from app.metering.devices import visible_accelerators
    from app.training.held_limit import held_limit
    from app.training.ray_fabric import RayFabric
    from app.training.voice import open_voice

    job, run, fabric = TrainJob.model_validate(config["job"]), str(config["run"]), RayFabric()
    attempt = fabric.next_attempt()
    account = job_account(job.tenant, run, attempt, job.kind)
    devices = visible_accelerators()
    client = WorkClient.open(account, devices=devices, worker=fabric.rank)
    phases, booked = Phases(client, account), Booked(run)

    def speak(epoch_steps: int, begun: Position) -> Voice:
        done = begun.epoch * epoch_steps + begun.step
        bar = bool(config.get("bar"))
        return open_voice(job, run, attempt, phases, epoch_steps=epoch_steps, steps_done=done, tell=_print, bar=bar)

    try:
        _check_meter(job, client)
        if job.budget and fabric.rank == 0:
            booked.start()
        with held_limit(job.resources.power_limit_w, devices, settings().state_dir, _print):
            return train(job, fabric, phases, attempt=attempt, tell=_print, booked=booked.latest, speak=speak)
    finally:
        booked.stop()
        fabric.close()
        phases.close()
        client.close()


def _check_meter(job: TrainJob, client: "WorkClient") -> None:
    """A bound of energy that nobody measures bounds nothing."""
    budget = job.budget
    if budget and (budget.kwh or budget.gco2e) and not client.await_meter(_METER_WITHIN_S):
        raise Unavailable(
            f"budget: no meter watched this node within {_METER_WITHIN_S:.0f} s, so nobody could say when it is used "
            "up; switch metering on (JOULEKEEPER_METERING), or bound the job by budget.hours alone"
        )


def _print(text: str) -> None:
    # Ray Train replaces print() in workers by one that writes every line twice.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
