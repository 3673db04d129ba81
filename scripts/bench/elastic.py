"""A job on one to four workers while nodes come, go and are killed: does it finish, as good, and what did it cost.

    python scripts/bench/elastic.py [--quick] [--json FILE]

The digits network, first undisturbed on four nodes, then with events at fixed places of the run: nodes added, a node
warned and taken away, one shut down, raylets killed with SIGKILL. Each node is a raylet on this host with room for one
worker; a step learns from the same rows whatever the number of workers. Steps that were done again are what the run's
own record says: the last step that the cluster was told of (four times a second) against the step it went on from.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.training.job import TrainJob, load_job  # noqa: E402
from app.training.summary import TrainResult, summary  # noqa: E402
from tests.fixtures.node_group import NodeGroup  # noqa: E402

JOB = ROOT / "deployments" / "jobs" / "digits.yaml"
WITHIN_POINTS = 0.5
EVENTS = ("add", "kill", "add", "add", "warn", "remove", "add", "kill")
QUICK_EVENTS = ("add", "kill", "add")
_GIVE_UP_S = 240.0


def job_of(epochs: int) -> TrainJob:
    """The digits job on one to four workers, a CPU each, a checkpoint after every epoch."""
    job = load_job(JOB)
    workers = job.workers.model_copy(update={"min": 1, "max": 4, "resize_every_s": 4.0})
    resources = job.resources.model_copy(update={"cpu": 1.0})
    changes = {"epochs": epochs, "workers": workers, "resources": resources, "max_failures": 20}
    return job.model_copy(update=changes | {"publish": None, "target": None})


@dataclass(frozen=True, slots=True)
class Event:
    """What was done to the cluster."""

    what: str
    node: str
    nodes_after: int
    epoch: int
    """Epochs that the run had done."""


class Disturber:
    """Does what is planned, one event after the other: each when the run has come so far."""

    def __init__(self, nodes: NodeGroup, run: str, events: tuple[str, ...], epochs: int) -> None:
        self._nodes, self._run, self._events, self._epochs = nodes, run, events, epochs
        self.done: list[Event] = []
        self.trouble = ""

    def play(self) -> None:
        """In the main thread, where alone Ray starts nodes."""
        try:
            for number, what in enumerate(self._events, 1):
                place = number * self._epochs // (len(self._events) + 2)
                self._await(lambda place=place: self._epoch() >= place, f"epoch {place}")
                attempt = self._seen().get("attempt", 0)
                node = self._do(what)
                self.done.append(Event(what, node, len(self._nodes.names), self._epoch()))
                self._await(
                    lambda attempt=attempt: self._seen().get("attempt", 0) > attempt, f"a new group after {what}"
                )
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"

    def _do(self, what: str) -> str:
        if what == "add":
            return self._nodes.add()
        node = self._nodes.names[0]  # of the oldest: the first worker's as often as not
        if what == "warn":
            self._nodes.warn(node, deadline_s=20)
            time.sleep(20)
        {"kill": self._nodes.kill, "warn": self._nodes.kill, "remove": self._nodes.remove}[what](node)
        return node

    def _seen(self) -> dict[str, Any]:
        from app.training.board import progress_of

        return json.loads(progress_of(self._run) or "{}")

    def _epoch(self) -> int:
        return int(self._seen().get("epoch", 0))

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _GIVE_UP_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {_GIVE_UP_S:.0f} s in vain for {what}")
            time.sleep(0.1)


def measure(quick: bool) -> dict[str, Any]:
    """Both runs and what is to be said of them."""
    from app.training.run import run_job

    events, job = (QUICK_EVENTS, job_of(40)) if quick else (EVENTS, job_of(120))
    with tempfile.TemporaryDirectory(prefix="elastic-") as directory, NodeGroup(Path(directory)) as nodes:
        job = job.model_copy(update={"storage": directory + "/jobs"})
        for _ in range(4):
            nodes.add()
        undisturbed = run_job(job, run="undisturbed")
        for name in nodes.names[2:]:
            nodes.remove(name)
        disturber = Disturber(nodes, "disturbed", events, job.epochs)
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(run_job, job, run="disturbed")
            disturber.play()
            disturbed = running.result()
    return {
        "trouble": disturber.trouble,
        "events": [asdict(event) for event in disturber.done],
        "planned": list(events),
        "undisturbed": figures(undisturbed),
        "disturbed": figures(disturbed),
        "epoch_steps": epoch_steps(job),
        "report": summary(disturbed, formulas=False),
    }


def epoch_steps(job: TrainJob) -> int:
    """Of the digits: 1,347 rows, batch_size for each of the most workers."""
    from app.training.data import load_data

    rows = len(load_data(job.data.source, test_share=job.data.test_share, seed=job.data.seed).train_x)
    return -(-rows // (job.batch_size * job.workers.max))


def figures(result: TrainResult) -> dict[str, Any]:
    costs = result.restarts
    return {
        "accuracy": result.metrics["accuracy"],
        "seconds": result.seconds,
        "attempts": result.attempts,
        "energy_j": result.energy.energy_uj / 1e6,
        "lost_steps": costs.lost_steps,
        "lost_j": costs.lost_uj / 1e6,
        "setup_j": costs.setup_uj / 1e6,
        "idle_s": costs.seconds,
        "restarts": [asdict(each) for each in costs.restarts],
    }


def judged(result: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """(what, measured, bar, met)."""
    bad, good = result["disturbed"], result["undisturbed"]
    points = (good["accuracy"] - bad["accuracy"]) * 100
    lost = [each["lost_steps"] for each in bad["restarts"]]
    most, interval = max((each for each in lost if each is not None), default=0), result["epoch_steps"]
    done = f"{len(result['events'])} of {len(result['planned'])}"
    apart = 0 <= bad["lost_j"] + bad["setup_j"] < bad["energy_j"] and None not in lost
    return [
        ("finished, all events met", done, "all", not result["trouble"] and len(lost) >= len(result["planned"])),
        ("accuracy lost", f"{points:+.2f} points", f"<= {WITHIN_POINTS}", points <= WITHIN_POINTS),
        ("steps done again, at most", f"{most}", f"<= {interval} (one checkpoint interval)", most <= interval),
        (
            "lost work stands apart",
            f"{bad['lost_j']:.1f} J of {bad['energy_j']:.1f} J",
            "known for each restart",
            apart,
        ),
    ]


def print_table(result: dict[str, Any]) -> None:
    print(f"{'':12} {'accuracy':>8} {'attempts':>8} {'seconds':>8} {'energy J':>9} {'lost J':>7} {'set up J':>8}")
    for side in ("undisturbed", "disturbed"):
        row = result[side]
        print(
            f"{side:12} {row['accuracy']:8.4f} {row['attempts']:8d} {row['seconds']:8.1f} {row['energy_j']:9.1f} "
            f"{row['lost_j']:7.1f} {row['setup_j']:8.1f}"
        )
    for event in result["events"]:
        print(f"after epoch {event['epoch']:3d}: {event['what']} {event['node']}, {event['nodes_after']} nodes then")
    for text in result["report"]:
        print(text)
    if result["trouble"]:
        print(f"trouble: {result['trouble']}")
    for what, measured, bar, met in judged(result):
        print(f"{what}: {measured} (bar {bar}) {'met' if met else 'MISSED'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three events instead of eight")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    result = measure(options.quick)
    versions = {name: metadata.version(name) for name in ("ray", "torch")} | {"python": platform.python_version()}
    result |= {"versions": versions, "date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "quick": options.quick}
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({what: measured for what, measured, _, _ in judged(result)}))
    return 0 if all(met for *_, met in judged(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
