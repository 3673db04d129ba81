"""The load of a chaos run: clients that keep every receipt id they were given, and training jobs one after another.

Clients ask in a closed loop while the schedule is busy. A failed request is counted and asked again; what counts is
that an answered one has a receipt.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts.chaos.schedule import Schedule
from tests.fixtures.ray_cluster import ROOT

MODEL = "pulse"
_BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]})
_TIMEOUT_S = 15.0
_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that was answered with status 200."""

    receipt_id: str
    at_ns: int


class Clients:
    """Threads that ask until told to stop."""

    def __init__(self, count: int, schedule: Schedule) -> None:
        self._schedule = schedule
        self._stop = threading.Event()
        self.answered: list[Answered] = []
        self.without_id = 0
        """Answers that carried no receipt id."""
        self.refused: Counter[str] = Counter()
        """Requests without an answer, by why."""
        self._threads = [threading.Thread(target=self._ask_for_ever, daemon=True) for _ in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * _TIMEOUT_S)

    def figures(self) -> dict[str, Any]:
        """What became of the requests."""
        return {
            "answered": len(self.answered),
            "without_receipt_id": self.without_id,
            "refused": dict(self.refused),
        }

    def _ask_for_ever(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            if not self._schedule.is_busy(time.monotonic_ns()):
                self._stop.wait(0.1)
                continue
            connection = connection or http.client.HTTPConnection("127.0.0.1", 8000, timeout=_TIMEOUT_S)
            try:
                self._ask(connection)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.refused[type(error).__name__] += 1
                connection.close()
                connection = None
                self._stop.wait(_PAUSE_S)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        connection.request("POST", f"/v2/models/{MODEL}/infer", _BODY, {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            self.refused[f"HTTP {response.status}"] += 1
            self._stop.wait(_PAUSE_S)
            return
        receipt_id = json.loads(content).get("parameters", {}).get("receipt_id", "")
        if receipt_id:
            self.answered.append(Answered(receipt_id, time.monotonic_ns()))
        else:
            self.without_id += 1


class Training:
    """The digits job on two workers, again and again, each run by a driver of its own."""

    def __init__(self, directory: Path, environment: Mapping[str, str], epochs: int) -> None:
        job = yaml.safe_load((ROOT / "deployments" / "jobs" / "digits.yaml").read_text())
        job |= {"epochs": epochs, "max_failures": 1000, "storage": str(directory / "jobs")}
        job.pop("publish")
        job.pop("target")
        self._job_path = directory / "job.yaml"
        self._job_path.write_text(yaml.safe_dump(job))
        self._environment, self._log_path = dict(environment), directory / "training.log"
        self._stop = threading.Event()
        self._driver: subprocess.Popen[bytes] | None = None
        self.finished = self.failed = 0
        self._thread = threading.Thread(target=self._run_for_ever, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the present run; its workers end with its driver."""
        self._stop.set()
        if self._driver is not None and self._driver.poll() is None:
            self._driver.terminate()
        self._thread.join(60)

    def _run_for_ever(self) -> None:
        command = [sys.executable, "-m", "app", "train", str(self._job_path)]
        while not self._stop.is_set():
            with self._log_path.open("ab") as log:
                self._driver = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
                status = self._driver.wait()
            if self._stop.is_set():
                return
            if status == 0:
                self.finished += 1
            else:
                self.failed += 1
                self._stop.wait(5)
