"""Requests a second and latency of Joulekeeper beside bare and plain Ray Serve, LitServe, MLServer and raw FastAPI.

    python scripts/bench/serving.py [--quick] [--sides A,B] [--workloads A,B] [--rounds N] [--json FILE] [--after FILE]

Every side runs with one worker or replica; a round asks each in turn with 1, 8 and 64 clients for some seconds,
every second round backwards, while those that are not asked are stopped; plain Ray Serve, which needs a cluster of its
own, comes last. All sides read and check the same Open Inference Protocol request. Joulekeeper runs as scripts/up runs
it, metering and access on, behind Serve's plain HTTP; its answers carry a receipt beside what the others answer.
`--after FILE` adds to the rounds that an earlier run left by `--json`.
Bars: no-op and MLP >= 0.9 x bare Ray Serve with the same flags, >= 3 x LitServe, >= 0.75 x FastAPI; minilm >= the best
peer, and with 64 clients >= 0.9 x a bare torch loop; 1 MiB binary >= 2 x JSON; p50 added to bare Ray Serve <= 0.5 ms.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from peers.environments import PINS  # noqa: E402
from serving_answers import Answers  # noqa: E402
from serving_load import LoadFailed, burst, idle_share  # noqa: E402
from serving_sides import ONE_THREAD, OURS, PEERS, Stage  # noqa: E402
from serving_verdicts import Figures, print_tables, verdicts  # noqa: E402

SIDES = ("joulekeeper", "ray-same-flags", "fastapi", "litserve", "mlserver", "ray-plain")
QUICK_SIDES = ("joulekeeper", "ray-same-flags", "fastapi")
WORKLOADS = ("noop", "mlp", "minilm", "tensor-json", "tensor-binary")
QUICK_WORKLOADS = ("noop", "minilm")
CLIENTS, QUICK_CLIENTS = (1, 8, 64), (1, 64)
OURS_ALONE = frozenset({"tensor-json", "tensor-binary"})
"""A bar between two encodings of one side."""
BURST_S = {"noop": 1, "mlp": 1, "minilm": 3, "tensor-json": 2, "tensor-binary": 2}
WARM_UP_S, WARM_UP_CLIENTS = 1, 8
IDLE_S = 1.0
LOOP_S = 0.7
ROUNDS = 5
DISTURBED = 0.1
"""Of a core: what others use beside a burst without being worth a word."""


def measure(
    stage: Stage, workload: str, rounds: list[dict], clients: Sequence[int], answers: Answers, keep: Callable[[], None]
) -> None:
    """Ask every side in turns, and add what it did to `rounds`; `keep` is called after each round."""
    with stage.serving(workload) as targets:
        for side, target in targets.items():
            stage.wake(side)
            likeness = answers.check(workload, target.ask())
            rounds[0].setdefault("answers", {}).setdefault(side, {})[workload] = likeness
            burst(target, WARM_UP_CLIENTS, WARM_UP_S)
            rounds[0].setdefault("idle_share", {})[side] = idle_share(IDLE_S)
        for number, round_ in enumerate(rounds):
            if workload == "minilm":
                stage.rest()
                round_["torch_loop"] = torch_loop()
            for c in clients:
                for side in stage.sides if number % 2 == 0 else stage.sides[::-1]:
                    stage.wake(side)
                    cells = round_["sides"].setdefault(side, {"cells": {}})["cells"].setdefault(workload, {})
                    cells[str(c)] = asdict(burst(targets[side], c, BURST_S[workload]))
            say(workload, f"round {number + 1} of {len(rounds)}")
            keep()


def torch_loop() -> dict[str, float]:
    """Rows a second of the bare loop, by batch size."""
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(PEERS / "torch_loop.py"), str(LOOP_S)]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(printed))


def say(*words: str) -> None:
    print(*words, file=sys.stderr, flush=True)


def run(options: argparse.Namespace, rounds: list[dict]) -> None:
    """Add rounds to `rounds`, and keep them in the file: what fails later leaves them."""
    answers, clients = Answers(), QUICK_CLIENTS if options.quick else CLIENTS
    new: list[dict] = [{"torch_loop": {}, "sides": {}} for _ in range(options.rounds)]
    rounds += new

    def keep() -> None:
        if options.json:
            options.json.write_text(json.dumps({"rounds": rounds} | described(options), indent=1))

    for sides in ([s for s in options.sides if s != "ray-plain"], [s for s in options.sides if s == "ray-plain"]):
        asked = {w: [s for s in sides if s == OURS or w not in OURS_ALONE] for w in options.workloads}
        asked = {workload: whom for workload, whom in asked.items() if whom}
        if asked and new:
            with tempfile.TemporaryDirectory() as directory, Stage(sides, list(asked), Path(directory)) as stage:
                for workload, whom in asked.items():
                    stage.sides = tuple(whom)
                    measure(stage, workload, new, clients, answers, keep)


def described(options: argparse.Namespace) -> dict:
    """What was run, on what."""
    versions = {name: metadata.version(name) for name in ("ray", "torch", "fastapi", "uvicorn", "orjson")}
    versions |= {name: PINS[name] for name in ("litserve", "mlserver")} | {"python": platform.python_version()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "versions": versions,
        "commit": commit.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "quick": options.quick,
        "burst_s": BURST_S,
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes: one round, fewer sides, noisier")
    parser.add_argument("--sides", type=lambda text: tuple(text.split(",")), help=f"of {', '.join(SIDES)}")
    parser.add_argument("--workloads", type=lambda text: tuple(text.split(",")), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} by default")
    parser.add_argument("--json", type=Path, help="write all figures to this file after each round")
    parser.add_argument("--after", type=Path, help="go on with the rounds of this file")
    options = parser.parse_args(arguments)
    options.sides = options.sides or (QUICK_SIDES if options.quick else SIDES)
    options.workloads = options.workloads or (QUICK_WORKLOADS if options.quick else WORKLOADS)
    options.rounds = options.rounds if options.rounds is not None else 1 if options.quick else ROUNDS
    unknown = {*options.sides} - {*SIDES} | {*options.workloads} - {*WORKLOADS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*SIDES, *WORKLOADS))}")
    return options


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    rounds: list[dict] = json.loads(options.after.read_text())["rounds"] if options.after else []
    try:
        run(options, rounds)
    except LoadFailed as error:
        say(f"void: {error}")
        return 1
    figures = Figures(rounds, SIDES, WORKLOADS)
    print_tables(figures)
    print_checks(rounds)
    judged = verdicts(figures)
    print(json.dumps({verdict.what: round(verdict.measured, 3) for verdict in judged}))
    return 0 if all(verdict.met for verdict in judged) else 1


def print_checks(rounds: Sequence[dict]) -> None:
    """How far the run is to be trusted: the answers, the load generator, and who else used the machine."""
    answers = {(side, how) for r in rounds for side, found in r.get("answers", {}).items() for how in found.values()}
    for side, how in sorted(answers):
        print(f"{side} answers {how}")
    cells = [cell for r in rounds for s in r["sides"].values() for by in s["cells"].values() for cell in by.values()]
    disturbed = [cell for cell in cells if cell["foreign_share"] > DISTURBED]
    print(f"{len(rounds)} rounds; wrk used {max(c['load_share'] for c in cells):.2f} of a core at most; ", end="")
    print(f"in {len(disturbed)} of {len(cells)} bursts others used more than {DISTURBED} of a core, ", end="")
    print(f"{max(c['foreign_share'] for c in cells):.2f} at most")


if __name__ == "__main__":
    sys.exit(main())
