"""What every measuring process of accuracy.py is told: which windows to measure, and when; and how it answers.

Standard library only, as it runs in the peers' own environments too. Knows nothing of power, truth or owners.

    room = Room(Path(sys.argv[1]), "zeus")
    room.ready()                                   # after everything slow
    plan = room.plan()                             # waits for it
    room.answer(measure(plan, lanes))              # {window id: record}
"""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NS_PER_S = 1_000_000_000
_LOOK_S = 0.02


@dataclass(frozen=True)
class Room:
    """The directory in which a process and accuracy.py leave each other files; `name` is the process's."""

    directory: Path
    name: str

    def ready(self) -> None:
        """Say that this process can measure at once."""
        self._write("ready", {"pid": os.getpid()})

    def plan(self) -> dict:
        """The plan, once it is there."""
        return self.wait("plan")

    def tell(self, topic: str) -> None:
        """Say that this process is as far as `topic`."""
        self._write(topic, {})

    def answer(self, records: dict) -> None:
        """Leave the result."""
        self._write("answer", records)

    def wait(self, topic: str) -> dict:
        """The content of the file `topic`, waited for."""
        path = self.directory / f"{topic}.json"
        while not path.exists():
            time.sleep(_LOOK_S)
        return json.loads(path.read_text())

    def _write(self, topic: str, content: dict) -> None:
        path = self.directory / f"{self.name}.{topic}.json"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(content))
        draft.replace(path)


def sleep_until(at_ns: int) -> None:
    """Sleep until `at_ns` of CLOCK_MONOTONIC; nobody spins, as all processes share the cores."""
    while (left_ns := at_ns - time.monotonic_ns()) > 0:
        time.sleep(left_ns / NS_PER_S)


def run_lane(lane: list, begin: Callable[[str], object], end: Callable[[str, object], object], records: dict) -> None:
    """Measure the windows of one lane, `[id, start_ns, end_ns]` in order; what fails is recorded, not raised."""
    for window, start_ns, end_ns in lane:
        sleep_until(start_ns)
        begun_ns, token, fault = time.monotonic_ns(), None, ""
        try:
            token = begin(window)
        except Exception as error:
            fault = f"begin: {type(error).__name__}: {error}"
        entered_ns = time.monotonic_ns()
        sleep_until(end_ns)
        ended_ns, energy = time.monotonic_ns(), None
        try:
            energy = end(window, token) if not fault else None
        except Exception as error:
            fault = f"end: {type(error).__name__}: {error}"
        records[window] = {
            "energy": energy,
            "fault": fault,
            "late_ns": [begun_ns - start_ns, ended_ns - end_ns],
            "wall_ns": entered_ns - begun_ns + time.monotonic_ns() - ended_ns,
        }


def measure(lanes: list, open_lane: Callable[[dict], tuple[Callable, Callable]]) -> dict:
    """All lanes at once, a thread each; `open_lane` gives the begin and end of a lane. Returns the records."""
    records: dict = {}
    calls = [open_lane(lane) for lane in lanes]
    threads = [
        threading.Thread(target=run_lane, args=(lane["windows"], begin, end, records))
        for lane, (begin, end) in zip(lanes, calls, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return records
