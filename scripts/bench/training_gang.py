"""One worker of what training.py compares: losses of the same job in several divisions, and our loop beside a bare one.

Started by torch.distributed.run, which says who it is; the first worker writes what was found as JSON.

    python -m torch.distributed.run --standalone --nproc-per-node 2 scripts/bench/training_gang.py PLAN.json OUT.json

A plan lists {"job": FILE, "strategies": [...], "steps": 20, "rounds": 5, "round_s": 2}; 0 rounds: losses alone.
"""

import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("JOULEKEEPER_STATE_DIR", tempfile.mkdtemp(prefix="joulekeeper-bench-"))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from peers.torch_ddp import bare_loop  # noqa: E402

from app.domain.account import job_account  # noqa: E402
from app.metering.client import WorkClient  # noqa: E402
from app.training.fabric import SoloFabric  # noqa: E402
from app.training.job import TrainJob, load_job  # noqa: E402
from app.training.parts import Workers  # noqa: E402
from app.training.phases import Phases  # noqa: E402
from app.training.position import Position  # noqa: E402
from app.training.strategy import copies  # noqa: E402
from app.training.task import Task, open_task  # noqa: E402
from app.training.worker import Training, assemble, run_steps  # noqa: E402
from tests.fixtures.gang import losses_of  # noqa: E402

WORKERS = 2
"""Whose batch every division learns from, however many there are."""
Rate = tuple[float, float]
"""Rows a second of the group, and rows for a second of CPU time of its members together."""
_EPOCH_STEPS = 4
"""Of jobs over texts, whose steps take long; a turn is of whole epochs."""


def main(plan: list[dict[str, Any]], out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    with tempfile.TemporaryDirectory() as directory:
        fabric = SoloFabric(Path(directory))
        found = {Path(entry["job"]).stem: _entry(entry, fabric) for entry in plan}
    if fabric.rank == 0:
        out.write_text(json.dumps(found))
    dist.destroy_process_group()


def _entry(entry: dict[str, Any], fabric: SoloFabric) -> dict[str, Any]:
    job = _plain(load_job(Path(entry["job"])))
    task = open_task(job, copies(job, fabric), None)
    torch.manual_seed(job.seed)
    fresh = task.build()
    # One process takes the rows of a step in one pass: in parts, a question would be asked of fewer answers.
    learnt = (
        job
        if fabric.world > 1
        else job.model_copy(update={"batch_size": job.step_rows, "workers": Workers(min=1, max=1)})
    )
    losses = {
        strategy: losses_of(
            learnt.model_copy(update={"strategy": strategy}), task, copy.deepcopy(fresh), fabric, entry["steps"]
        )
        for strategy in entry["strategies"]
    }
    rates = _rates(job, task, fresh, fabric, entry) if entry["rounds"] else []
    return {"losses": losses, "rates": rates}


def _plain(job: TrainJob) -> TrainJob:
    """The job of a file for a fixed group, without what is drawn anew for each worker, in full precision."""
    model = job.model.model_copy(update={"dropout": 0.0}) if hasattr(job.model, "dropout") else job.model
    fixed = {"workers": Workers(min=WORKERS, max=WORKERS), "precision": "float32", "model": model, "budget": None}
    short = {"epoch_steps": _EPOCH_STEPS} if job.epoch_steps else {}
    return job.model_copy(update={**fixed, **short})


def _rates(job: TrainJob, task: Task, fresh: torch.nn.Module, fabric: SoloFabric, entry: dict[str, Any]) -> list[Any]:
    """Of our loop and the bare one, in turns; the first turn of each warms up."""
    account = job_account("default", job.name, 1)
    client = WorkClient.open(account, worker=fabric.rank)
    phases = Phases(client, account)
    bare = bare_loop(job, task, copy.deepcopy(fresh), fabric.rank, fabric.world)
    training = assemble(job, fabric, phases, task)
    turns: list[tuple[Rate, Rate]] = []
    try:
        for turn in range(entry["rounds"] + 1):
            seconds = entry["round_s"] if turn else 0.0
            # Who comes first takes turns, too.
            first, second = (_ours, _bare) if turn % 2 else (_bare, _ours)
            rates = {each: each(training, bare, seconds) for each in (first, second)}
            turns += [(rates[_ours], rates[_bare])] if turn else []
    finally:
        phases.close()
        client.close()
    return turns


def _bare(training: Training, epoch: Callable[[], int], seconds: float) -> Rate:
    return _timed(training.fabric, epoch, seconds)


def _ours(training: Training, bare: Callable[[], int], seconds: float) -> Rate:
    def epoch() -> int:
        training.state.position = Position(0, 0)
        samples, _ = run_steps(training, 0)
        training.phases.usage_since_last()
        return samples

    return _timed(training.fabric, epoch, seconds)


def _timed(fabric: Any, epoch: Callable[[], int], seconds: float) -> Rate:
    """Epochs until the first worker says that `seconds` are over."""
    fabric.gather(None)
    began, began_cpu, rows = time.perf_counter(), time.process_time(), 0
    while True:
        rows += epoch()
        if fabric.gather(time.perf_counter() - began >= seconds)[0]:
            elapsed, used = fabric.gather(time.perf_counter() - began), fabric.gather(time.process_time() - began_cpu)
            return rows / max(elapsed), rows / sum(used)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
