"""Our training loop against its own promises and against a bare loop of torch's DDP, for the jobs that ship.

    python scripts/bench/training.py [--quick] [--jobs NAME...] [--turns N] [--json FILE]

Every job of deployments/jobs that is named in JOBS, in float32 and without dropout, learns its first 20 steps from
the same rows: alone, as two copies (ddp), and as two shards (fsdp), on CPUs with gloo. Then two workers train, our loop
with all that it does between steps (slices of the books, agreeing on stops, timing of waiting workers) and a bare loop
over data in memory, in turns within the same processes. What a run does beside its steps (evaluation, checkpoints) is
in neither.

Bars: |loss of ddp - loss alone| <= 1e-5 and |fsdp - ddp| <= 1e-4 in each of 20 steps; rows/s of ours over rows/s of the
bare loop, median over turns, >= 0.95. `by CPU` is the same by the CPU time that both took, which other work on the
machine does not touch; waiting is not in it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JOBS = ("digits", "mlp", "minilm", "pycoder")
STEPS = 20
DDP_BAR, FSDP_BAR, RATE_BAR = 1e-5, 1e-4, 0.95
TURNS, TURN_S = 15, 1.0
QUICK_JOBS, QUICK_TURNS, QUICK_TURN_S = ("digits", "mlp"), 9, 1.0
_PATIENCE_S = 1500


def main() -> int:
    arguments = _arguments()
    jobs, turns, turn_s = (QUICK_JOBS, QUICK_TURNS, QUICK_TURN_S) if arguments.quick else (JOBS, TURNS, TURN_S)
    jobs, turns = arguments.jobs or jobs, arguments.turns or turns
    began = time.monotonic()
    alone = _gang(1, [_entry(job, ["ddp"], 0, 0.0) for job in jobs])
    both = _gang(2, [_entry(job, ["ddp", "fsdp"], turns, turn_s) for job in jobs])
    rows = [_row(job, alone[job], both[job]) for job in jobs]
    _print(rows)
    figures = {"jobs": rows, "steps": STEPS, "seconds": round(time.monotonic() - began), **_place()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))
    return 0 if all(row["met"] for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{' and '.join(QUICK_JOBS)} alone, shorter turns")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, help="these alone")
    parser.add_argument("--turns", type=int, help=f"of both loops; else {TURNS}, or {QUICK_TURNS} with --quick")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser.parse_args()


def _entry(job: str, strategies: list[str], rounds: int, round_s: float) -> dict[str, Any]:
    path = ROOT / "deployments" / "jobs" / f"{job}.yaml"
    return {"job": str(path), "strategies": strategies, "steps": STEPS, "rounds": rounds, "round_s": round_s}


def _gang(workers: int, plan: list[dict[str, Any]]) -> dict[str, Any]:
    """What `workers` processes of training_gang.py found."""
    with tempfile.TemporaryDirectory(prefix="joulekeeper-training-") as directory:
        asked, found = Path(directory) / "plan.json", Path(directory) / "found.json"
        asked.write_text(json.dumps(plan))
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
        script = str(Path(__file__).with_name("training_gang.py"))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "JOULEKEEPER_STATE_DIR": directory}
        subprocess.run(
            [sys.executable, *launch, script, str(asked), str(found)], check=True, env=environment, timeout=_PATIENCE_S
        )
        return json.loads(found.read_text())


def _row(job: str, alone: dict[str, Any], both: dict[str, Any]) -> dict[str, Any]:
    ddp = _apart(both["losses"]["ddp"], alone["losses"]["ddp"])
    fsdp = _apart(both["losses"]["fsdp"], both["losses"]["ddp"])
    wall, cpu = ([(ours[kind], bare[kind]) for ours, bare in both["rates"]] for kind in (0, 1))
    ratio, cpu_ratio = (statistics.median(ours / bare for ours, bare in rates) for rates in (wall, cpu))
    return {
        "job": job,
        "loss_first": alone["losses"]["ddp"][0],
        "loss_last": alone["losses"]["ddp"][-1],
        "ddp_apart": ddp,
        "fsdp_apart": fsdp,
        "ours_rows_per_s": statistics.median(ours for ours, _ in wall),
        "bare_rows_per_s": statistics.median(bare for _, bare in wall),
        "ratio": ratio,
        "ratios": [round(ours / bare, 3) for ours, bare in wall],
        "cpu_ratio": cpu_ratio,
        "met": ddp <= DDP_BAR and fsdp <= FSDP_BAR and ratio >= RATE_BAR,
    }


def _apart(some: list[float], others: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(some, others, strict=True))


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"{'job':8}  {'loss 1':>8}  {f'loss {STEPS}':>8}  {'ddp-alone':>9}  {'fsdp-ddp':>9}  ", end="")
    print(f"{'ours rows/s':>11}  {'bare rows/s':>11}  {'ratio':>6}  {'by CPU':>6}")
    for row in rows:
        print(f"{row['job']:8}  {row['loss_first']:8.5f}  {row['loss_last']:8.5f}  ", end="")
        print(f"{row['ddp_apart']:9.1e}  {row['fsdp_apart']:9.1e}  {row['ours_rows_per_s']:11.1f}  ", end="")
        print(f"{row['bare_rows_per_s']:11.1f}  {row['ratio']:6.3f}  {row['cpu_ratio']:6.3f}", end="")
        print("" if row["met"] else "  MISSED")


def _place() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "numpy")}
    place = {"python": platform.python_version(), "cpus": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    return {"versions": versions, **place}


if __name__ == "__main__":
    sys.exit(main())
