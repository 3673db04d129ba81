"""How true the books are: Joulekeeper, Zeus and CodeCarbon measure the same windows of a known truth side by side.

    python scripts/bench/accuracy.py [--quick] [--json FILE] [--seed N] [--nvml-lib FILE] [--truth FILE]

Without arguments the NVML stand-in is compiled and tells truths made from the seed (scenarios.py). `--nvml-lib` takes
another libnvidia-ml.so.1; `--truth` a file of `devices tick_ms`, then `device monotonic_seconds watts`, piecewise
constant, seconds of CLOCK_MONOTONIC. A truth that still goes on for 35 s is measured where it stands, from 25 s after
the start of this script; one that has passed is moved to the present, its first power extended by 25 s. The library
finds the file by NVML_STUB_SCRIPT. Every step above the floor of a device is then a request; nobody who measures is
told the watts.

The peers live in environments of their own (peers/environments.py), made at the first run; `--quick` takes less than
two minutes once they exist. Exit 1 when a bar is missed.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

import costs  # noqa: E402
from judgement import (  # noqa: E402
    Spread,
    kept,
    lateness_ms,
    pooled,
    short_rows,
    spreads,
    sum_errors_uj,
    total_errors,
    verdicts,
)
from peers.environments import PINS, peer_python  # noqa: E402
from scenarios import scenes  # noqa: E402
from side_by_side import OURS, TOOLS, Outcome, run_scenes, run_truth  # noqa: E402

TITLES = {
    OURS: "Joulekeeper",
    "zeus": "Zeus",
    "zeus_approx": "Zeus, approx",
    "codecarbon": "CodeCarbon",
    "codecarbon_default": "CodeC. 15 s",
}
TICK_MS = 20


def measured(options: argparse.Namespace) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="accuracy-") as directory:
        if options.truth:
            return run_truth(Path(directory), options.truth, options.nvml_lib)
        span_s = 30.0 if options.quick else 90.0
        return run_scenes(Path(directory), scenes(options.seed, span_s), span_s, TICK_MS, options.nvml_lib)


def cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    failed = f" {spread.failed} lost" if spread.failed else ""
    return f"{spread.median:.2%} / {spread.p99:.1%}{failed}"


def print_totals(outcome: Outcome) -> None:
    print(f"\n{'total energy, error':24}" + "".join(f"{TITLES[tool]:>14}" for tool in TOOLS) + f"{'sum error uJ':>15}")
    for device, scene in enumerate(outcome.scenes):
        errors = total_errors(outcome, device)
        sums = "/".join(map(str, sum_errors_uj(outcome, device)))
        print(f"{scene.name:24}" + "".join(f"{errors[tool]:>14.4%}" for tool in TOOLS) + f"{sums:>15}")


def print_windows(outcome: Outcome) -> None:
    tools = TOOLS[:4]
    title = "windows: median / p99"
    print(f"\n{title:26}{'kept':>9}" + "".join(f"{TITLES[tool]:>24}" for tool in tools))
    rows = [(scene.name, kept(outcome, scene), len(scene.windows)) for scene in outcome.scenes]
    long = pooled(outcome, long=True)
    rows.append(("all >= 500 ms, use told", long, len(long)))
    for name, windows, count in rows:
        if windows:
            found = spreads(outcome, windows)
            cells = "".join(f"{cell(found.get(tool)):>24}" for tool in tools)
            print(f"{name:26}{f'{len(windows)}/{count}':>9}{cells}")
    for row in short_rows(outcome):
        cells = "".join(f"{cell(row['spreads'].get(tool)):>24}" for tool in tools)
        name = f"{row['bin']}, tick bound {row['bound']:.1%}"
        print(f"{name:30}{row['count']:>5}{cells}")
    late = ", ".join(f"{TITLES[tool]} {median:.2f} / {p99:.2f}" for tool, (median, p99) in lateness_ms(outcome).items())
    print(f"called late by (ms, median / p99): {late}")


def figures_of(outcome: Outcome) -> dict:
    return {
        "totals": {scene.name: total_errors(outcome, n) for n, scene in enumerate(outcome.scenes)},
        "windows": {
            scene.name: {tool: asdict(spread) for tool, spread in spreads(outcome, windows).items()}
            for scene in outcome.scenes
            if (windows := kept(outcome, scene))
        },
        "records": {
            window.id: {
                "length_ms": window.length_ms,
                "true_uj": window.energy_uj,
                "start_ns": window.start_ns,
                **{tool: outcome.records[tool].get(window.id) for tool in TOOLS},
            }
            for scene in outcome.scenes
            for window in scene.windows
        },
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes once the peers' environments exist")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--seed", type=int, default=1, help="of the truths made here")
    parser.add_argument("--nvml-lib", type=Path, help="a libnvidia-ml.so.1 to measure on; default: ours, compiled")
    parser.add_argument("--truth", type=Path, help="a truth file instead of the scenarios")
    parser.add_argument("--only", choices=("accuracy", "costs"), help="one part of it")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    for peer in PINS:
        peer_python(peer)
    result: dict = {"versions": PINS | {name: metadata.version(name) for name in ("joulekeeper", "ray")}}
    result["versions"] |= {"python": platform.python_version(), "nvidia-ml-py": metadata.version("nvidia-ml-py")}
    result |= {"date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "quick": options.quick, "seed": options.seed}
    found = []
    print(", ".join(f"{name} {version}" for name, version in result["versions"].items()), "-", result["date"])
    if options.only != "costs":
        outcome = measured(options)
        print_totals(outcome)
        print_windows(outcome)
        result |= figures_of(outcome)
        found += verdicts(outcome)
    if options.only != "accuracy":
        result["costs"] = costs.measured(options.quick)
        costs.print_table(result["costs"])
        found += costs.verdicts(result["costs"])
    print()
    for what, value, bar, met in found:
        print(f"{what}: {value} (bar {bar}) {'met' if met else 'MISSED'}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({what: value for what, value, _, _ in found}))
    return 0 if all(met for *_, met in found) else 1


if __name__ == "__main__":
    sys.exit(main())
