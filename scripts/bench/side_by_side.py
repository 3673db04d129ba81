"""Joulekeeper, Zeus and CodeCarbon measure the same windows of one truth at the same time, each in its own process.

Starts and ends the processes of peers/; knows nothing of verdicts. A truth begins on CLOCK_MONOTONIC: one of ours once
everybody is ready, a foreign one where its file says (`anchored`).
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from peers.environments import peer_python, shim_directory
from scenarios import FLOOR_MW, NS_PER_MS, NS_PER_S, Phases, Scene, Window, scenes_of_truth

from app.ledger.journal import read_epoch
from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubError, StubProcess, StubScript, read_truth

PEERS = Path(__file__).with_name("peers")
OURS = "joulekeeper"
TOOLS = (OURS, "zeus", "zeus_approx", "codecarbon", "codecarbon_default")
_WORKERS = ("work-0", "work-1")
_READY_S = 90.0
_NICE = -15
_FOREIGN_LEAD_NS = 25 * NS_PER_S
_TAIL_NS = 700 * NS_PER_MS


@dataclass(frozen=True)
class Books:
    """What our journal says of one device, recomputed here from its raw readings."""

    run_ns: tuple[int, int]
    """From the first batch that lies within the run to the last."""
    run_uj: int
    """Posted in these batches."""
    movement_uj: int
    """Of all batches, as is what follows."""
    posted_uj: int
    work_uj: int
    """Posted to requests."""


@dataclass
class Outcome:
    """What everybody measured. Windows and phases on CLOCK_MONOTONIC."""

    scenes: list[Scene]
    span_ns: tuple[int, int]
    tick_ms: float
    records: dict[str, dict[str, dict]] = field(default_factory=dict)
    """By tool and window: energy in uJ or None, fault, lateness."""
    books: list[Books] = field(default_factory=list)
    """By device."""

    def total_span_ns(self, device: int) -> tuple[int, int]:
        """What the peers measure as the device's total: no multiple of a tick long, which would hide its error."""
        early_ns, late_ns = (device * 37 + 11) % 100, (device * 61 + 42) % 100
        return self.span_ns[0] + early_ns * NS_PER_MS, self.span_ns[1] - late_ns * NS_PER_MS


class Cast:
    """The measuring processes of one run, ended on leaving whatever happens."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory, self.environment = directory, {**os.environ, **environment}
        self.environment["PATH"] = f"{shim_directory(directory)}:{self.environment['PATH']}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cast":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()

    def start(self, name: str, python: Path | str, script: str, *arguments: object) -> None:
        log = (self.directory / f"{name}.log").open("wb")
        command = [str(python), str(PEERS / script), str(self.directory), name, *map(str, arguments)]
        self.processes[name] = process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        with contextlib.suppress(PermissionError):  # the same for all: the method is measured, not the machine's load
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)

    def tell(self, topic: str, content: object) -> None:
        draft = self.directory / f"{topic}.draft"
        draft.write_text(json.dumps(content))
        draft.replace(self.directory / f"{topic}.json")

    def hear(self, name: str, topic: str, timeout_s: float = _READY_S) -> dict:
        """What `name` left as `topic`. Raises RuntimeError with its log when it ended or is too slow."""
        path, deadline = self.directory / f"{name}.{topic}.json", time.monotonic() + timeout_s
        while not path.exists():
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                if path.exists():
                    break
                log = (self.directory / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} left no {topic} within {timeout_s:.0f} s; its log ends: {log[-2000:]}")
            time.sleep(0.05)
        return json.loads(path.read_text())


def stand_in(directory: Path, nvml_lib: Path | None) -> NvmlStub:
    """Our library, compiled, or a foreign one under the name that pynvml loads."""
    if nvml_lib is None:
        return NvmlStub.compile(directory)
    (directory / "libnvidia-ml.so.1").symlink_to(nvml_lib.resolve())
    return NvmlStub(directory / "libnvidia-ml.so.1", directory / "nvml.script")


def our_environment(stub: NvmlStub, directory: Path) -> dict[str, str]:
    return stub.env() | {
        "JOULEKEEPER_STATE_DIR": str(directory / "state"),
        "JOULEKEEPER_MACHINE": "bench",
        "JOULEKEEPER_SENSORS": "nvml",
        "JOULEKEEPER_SAMPLE_HZ": "10",
    }


def run_scenes(directory: Path, scenes: Sequence[Scene], span_s: float, tick_ms: int, lib: Path | None) -> Outcome:
    """Our own truth: the devices idle until everybody is ready, then the scenes begin together."""
    stub = stand_in(directory, lib)
    born_ns = time.monotonic_ns()
    workers = _workers_of(scenes)

    def write(at_ns: int | None, pids: Mapping[str, int]) -> None:
        devices = tuple(_device(scene, born_ns, at_ns, workers, pids) for scene in scenes)
        errors = tuple(error for n, scene in enumerate(scenes) for error in _errors(n, scene, at_ns))
        stub.write(StubScript(devices=devices, tick_ms=tick_ms, errors=errors))

    write(None, {})
    with Cast(directory, our_environment(stub, directory)) as cast:
        pids = _start_all(cast, [f"GPU-00000000-0000-0000-0000-{n:012d}" for n in range(len(scenes))], workers)
        at_ns = time.monotonic_ns() + 2 * NS_PER_S
        write(at_ns, pids)
        placed = [_placed(scene, at_ns, born_ns) for scene in scenes]
        outcome = Outcome(placed, (at_ns, at_ns + round(span_s * NS_PER_S)), tick_ms)
        _measure(cast, outcome, workers)
    return outcome


def run_truth(directory: Path, truth: Path, lib: Path | None) -> Outcome:
    """A foreign truth file, on the clock it says or, if all of it has passed, moved to the present."""
    text = truth.read_text()
    script = anchored(read_truth(text), time.monotonic_ns())
    stub = stand_in(directory, lib)
    stub.write(script) if script != read_truth(text) else stub.write(text)
    phases_of: list[Phases] = [list(device.phases) for device in script.devices]
    first_ns = max(min(phases[0][0] for phases in phases_of), time.monotonic_ns() + _FOREIGN_LEAD_NS)
    last_ns = max(phases[-1][0] for phases in phases_of)
    scenes = scenes_of_truth(phases_of, (first_ns, last_ns))
    workers = _workers_of(scenes)
    with Cast(directory, our_environment(stub, directory)) as cast:
        _start_all(cast, _uuids(cast.environment, len(scenes)), workers)
        if time.monotonic_ns() > first_ns - NS_PER_S:
            raise RuntimeError("the peers were not ready when the truth began; let it begin later")
        outcome = Outcome(scenes, (first_ns, last_ns), script.tick_ms)
        _measure(cast, outcome, workers)
    return outcome


def anchored(script: StubScript, now_ns: int) -> StubScript:
    """The truth as it stands while it still goes on for 10 s after the processes are up; else moved to begin then."""
    ready_ns = now_ns + _FOREIGN_LEAD_NS
    if max(device.phases[-1][0] for device in script.devices) > ready_ns + 10 * NS_PER_S:
        return script
    by_ns = now_ns - min(device.phases[0][0] for device in script.devices)
    moved = [
        replace(device, phases=tuple((at_ns + by_ns + (_FOREIGN_LEAD_NS if n else 0), mw) for n, (at_ns, mw) in own))
        for device in script.devices
        if (own := list(enumerate(device.phases)))
    ]
    return replace(script, devices=tuple(moved))


def _start_all(cast: Cast, uuids: Sequence[str], workers: Mapping[str, dict[str, int]]) -> dict[str, int]:
    """Everybody started and ready; pids of our work processes."""
    count = len(uuids)
    cast.start("meter", sys.executable, "joulekeeper_meter.py")
    for name in workers:
        cast.tell(f"{name}.processes", workers[name])
        cast.start(name, sys.executable, "joulekeeper_work.py", ",".join(uuids))
    for name in TOOLS[1:]:
        peer = name.split("_")[0]
        cast.start(name, peer_python(peer), f"{peer}_peer.py", "windows", count)
    pids = {name: cast.hear(name, "ready")["pid"] for name in cast.processes}
    return {name: pids[name] for name in workers}


def _measure(cast: Cast, outcome: Outcome, workers: Mapping[str, object]) -> None:
    cast.tell("plan", _plan(outcome))
    run_s = (outcome.span_ns[1] - time.monotonic_ns()) / NS_PER_S
    time.sleep(run_s + _TAIL_NS / NS_PER_S)
    for name in TOOLS[1:]:
        outcome.records[name] = cast.hear(name, "answer")
    cast.tell("stop", {})
    cast.hear("meter", "answer")
    cast.tell("booked", {})
    outcome.records[OURS] = {}
    for name in workers:
        outcome.records[OURS] |= cast.hear(name, "answer")
    uuids = _uuids(cast.environment, len(outcome.scenes))
    outcome.books = read_books(cast.directory / "state" / "journal", uuids, outcome.span_ns[0])


def _plan(outcome: Outcome) -> dict:
    lanes: dict[tuple[int, str, int], list[Window]] = {}
    for device, scene in enumerate(outcome.scenes):
        for window in scene.windows:
            lanes.setdefault((device, window.process, window.lane), []).append(window)
    return {
        "lanes": [
            {
                "device": device,
                "process": process,
                "windows": [[window.id, window.start_ns, window.end_ns] for window in windows],
                "weights": {window.id: window.weight for window in windows},
            }
            for (device, process, _), windows in lanes.items()
        ],
        "totals": [
            {"device": device, "windows": [[f"total/{device}", *outcome.total_span_ns(device)]]}
            for device in range(len(outcome.scenes))
        ],
    }


def _workers_of(scenes: Sequence[Scene]) -> dict[str, dict[str, int]]:
    """By work process, the plan's processes it stands for and their devices; a device's second one gets the other."""
    workers: dict[str, dict[str, int]] = {}
    for device, scene in enumerate(scenes):
        for n, process in enumerate(dict.fromkeys(window.process for window in scene.windows)):
            workers.setdefault(_WORKERS[n], {})[process] = device
    return workers


def _placed(scene: Scene, at_ns: int, born_ns: int) -> Scene:
    """The scene on the clock, idle before it."""
    windows = [replace(w, start_ns=w.start_ns + at_ns, end_ns=w.end_ns + at_ns) for w in scene.windows]
    phases = [(born_ns, FLOOR_MW), *((at + at_ns, power_mw) for at, power_mw in scene.phases)]
    return replace(scene, phases=phases, windows=windows)


def _device(
    scene: Scene, born_ns: int, at_ns: int | None, workers: Mapping[str, dict[str, int]], pids: Mapping[str, int]
) -> StubDevice:
    phases: Phases = [(born_ns, FLOOR_MW)]
    if at_ns is not None:
        phases += [(at + at_ns, power_mw) for at, power_mw in scene.phases]
    known = {process: pids[name] for name in pids for process in workers[name]}
    processes = tuple(
        StubProcess(known[process], 1 << 30, percent)
        for process, percent in scene.shares_percent.items()
        if process in known
    )
    resets = (scene.reset_ns + at_ns,) if scene.reset_ns is not None and at_ns is not None else ()
    return StubDevice(phases=tuple(phases), processes=processes, resets_ns=resets)


def _errors(device: int, scene: Scene, at_ns: int | None) -> list[StubError]:
    if scene.faults_ns is None or at_ns is None:
        return []
    begin, finish = (at + at_ns for at in scene.faults_ns)
    return [StubError("nvmlDeviceGetTotalEnergyConsumption", 999, device, begin, finish)]


def _uuids(environment: Mapping[str, str], count: int) -> list[str]:
    """UUIDs by index, asked in a process that loads the library."""
    ask = f"from pynvml import *; nvmlInit(); handles = map(nvmlDeviceGetHandleByIndex, range({count})); "
    command = [sys.executable, "-c", ask + "print(*map(nvmlDeviceGetUUID, handles))"]
    found = subprocess.run(command, env=dict(environment), check=True, capture_output=True, text=True)
    return found.stdout.split()


def read_books(journal: Path, uuids: Sequence[str], from_ns: int) -> list[Books]:
    """Per device from the journal's lines alone: movement of the counter from raw readings, and what was posted."""
    batches = [batch.body for path in sorted(journal.glob("*.journal")) for batch in read_epoch(path)]
    return [_books_of(batches, uuid, from_ns) for uuid in uuids]


def _books_of(batches: Sequence[Mapping], uuid: str, from_ns: int) -> Books:
    raw: list[list[int]] = []
    posted_uj = work_uj = run_uj = run_begin_ns = 0
    for body in batches:
        own = next((device["raw"] for device in body["devices"] if device["uuid"] == uuid), [])
        raw += own[1:] if raw else own
        postings = [posting for posting in body["postings"] if posting["device"].endswith(f"/{uuid}")]
        energy_uj = sum(posting["energy_uj"] for posting in postings)
        posted_uj += energy_uj
        work_uj += sum(posting["energy_uj"] for posting in postings if posting["account"]["name"] == "request")
        if run_begin_ns or (own and own[0][0] >= from_ns):
            run_begin_ns = run_begin_ns or own[0][0]
            run_uj += energy_uj
    return Books((run_begin_ns, raw[-1][0]), run_uj, _movement_uj(raw), posted_uj, work_uj)


def _movement_uj(readings: Sequence[Sequence[int]]) -> int:
    """Forward steps; after a fall, the new value."""
    return sum(after - before if after >= before else after for (_, before), (_, after) in pairwise(readings))
