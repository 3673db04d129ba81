"""What a request to a language model cost when it was batched with forty others: attribution against a known truth.

    python scripts/bench/tokens.py [--quick] [--json FILE] [--seed N] [--nvml-lib FILE] [--truth FILE] [--live]

Simulated engines of continuous batching serve requests by chance (tests/fixtures/token_truth.py); each is told to the
books as an engine tells it, step by step, while a stand-in GPU draws what the phase of the step needs: prefill, decode
and the time between steps differ, and nobody who measures is told these powers, nor how long a phase takes by itself.
The truth of a request is the energy of its own kernels and its part of what several used at once. `--truth` takes power
over time from a file as accuracy.py does (`devices tick_ms`, then `device monotonic_seconds watts`): of the powers
above a device's floor the higher ones are prefill of one prompt each, the lower ones decode of all that are open.

Then what recording costs, and with `--live` a real engine on this machine: 64 streams at once against one at a
time, and the receipts of all of them against the ledger. Exit 1 when a bar is missed.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

from judgement import Spread  # noqa: E402
from token_costs import recording_us  # noqa: E402
from token_file import plans_of_truth  # noqa: E402
from token_runs import NS_PER_S, TokenRun, run_plans  # noqa: E402

from tests.fixtures.token_truth import SCENES, Truth  # noqa: E402
from tests.stubs.nvml.stub import read_truth  # noqa: E402

MEDIAN_BAR, P99_BAR = 0.03, 0.08
LEARNING_S = 10.0
"""Requests that begin in the first seconds of an engine's life are priced by guesses, and are a row of their own."""
RECORDING_BAR = 0.03
"""Of the duration of a step."""
TICK_MS = 20
QUICK = ("steady", "bursts", "long prompts, long answers", "power grows with the batch")
MAX_LATE_MS = 1_000.0
"""A step has to be told within a second. Requests with one that the busy machine told later are left out."""
Told = Mapping[str, float | None]


@dataclass(frozen=True)
class Row:
    """Errors of one scene's requests, by who divides."""

    name: str
    requests: int
    left_out: int
    """Told too late by this machine."""
    ours: Spread
    prefill: Spread
    decode: Spread
    by_tokens: Spread
    """Each step's true energy by its tokens."""
    by_mean: Spread
    """The run's true energy per token, times the request's tokens."""
    early: Spread | None
    """Ours, of requests while the prices were being learned."""
    provisional: Spread | None
    """What was told at the end of a request, against its settled receipt."""


def main() -> int:
    options = parsed()
    versions = {name: metadata.version(name) for name in ("joulekeeper", "nvidia-ml-py", "numpy")}
    result: dict = {"versions": versions | {"python": platform.python_version()}, "date": time.strftime("%Y-%m-%d")}
    result |= {"cpus": os.cpu_count(), "quick": options.quick, "seed": options.seed}
    print(", ".join(f"{name} {version}" for name, version in result["versions"].items()), "-", result["date"])
    found: list[tuple[str, str, str, bool]] = []
    if not options.live:
        with tempfile.TemporaryDirectory(prefix="tokens-") as directory:
            runs = measured(options, Path(directory))
        rows = [row_of(run) for run in runs]
        print_rows(rows)
        costs = recording_us()
        print(f"\nrecording a step of 64 sequences: {costs['step_us']:.0f} us, of which prices {costs['price_us']:.0f}")
        print(f"a meter's tick with such steps at {costs['steps_per_s']:.0f} a second: {costs['tick_ms']:.1f} ms")
        result |= {"rows": [asdict(row) for row in rows], "costs": costs}
        result["powers_mw"] = {run.plan.name: dict(run.powers_mw) for run in runs}
        found += verdicts(rows, runs, costs)
    else:
        import token_live  # torch and Ray only where they are asked for

        live = token_live.measured(options.quick)
        token_live.print_table(live)
        result["live"] = live
        found += token_live.verdicts(live)
    print()
    for what, value, bar, met in found:
        print(f"{what}: {value} (bar {bar}) {'met' if met else 'MISSED'}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({what: value for what, value, _, _ in found}))
    return 0 if all(met for *_, met in found) else 1


def measured(options: argparse.Namespace, directory: Path) -> list[TokenRun]:
    if options.truth:
        script = read_truth(options.truth.read_text())
        return run_plans(directory, plans_of_truth(script), script.tick_ms, options.nvml_lib)
    names = QUICK if options.quick else tuple(SCENES)
    span_s = 45.0 if options.quick else 90.0
    return run_plans(directory, [SCENES[name](options.seed, span_s) for name in names], TICK_MS, options.nvml_lib)


def row_of(run: TokenRun) -> Row:
    first_ns = run.plan.steps[0].start_ns
    begun_ns = {name: run.plan.steps[n].start_ns for n, names in run.plan.first_in.items() for name in names}
    late, early = [], []
    punctual = [(truth, told) for truth, told in run.pairs if (told["late_ms"] or 0.0) <= MAX_LATE_MS]
    for truth, told in punctual:
        is_late = begun_ns[truth.request.id] - first_ns >= LEARNING_S * NS_PER_S
        (late if is_late else early).append((truth, told))
    total_uj = sum(truth.energy_uj for truth, _ in run.pairs)
    total_tokens = sum(_tokens(truth) for truth, _ in run.pairs)
    return Row(
        run.plan.name,
        len(late),
        len(run.pairs) - len(punctual),
        _spread(late, lambda truth, told: _error(_booked(told), truth.energy_uj)),
        _spread(late, lambda truth, told: _error(told["prefill_uj"], truth.prefill_uj)),
        _spread(late, lambda truth, told: _error(told["decode_uj"], truth.decode_uj)),
        _spread(late, lambda truth, _: _error(truth.by_tokens_uj, truth.energy_uj)),
        _spread(late, lambda truth, _: _error(total_uj * _tokens(truth) / total_tokens, truth.energy_uj)),
        _spread(early, lambda truth, told: _error(_booked(told), truth.energy_uj)) if early else None,
        _provisional(late),
    )


def _tokens(truth: Truth) -> int:
    return truth.request.prompt - truth.request.cached + truth.request.made


def _booked(told: Told) -> float | None:
    return None if told["prefill_uj"] is None or told["decode_uj"] is None else told["prefill_uj"] + told["decode_uj"]


def _error(found_uj: float | None, true_uj: float) -> float:
    if true_uj <= 0:
        return 0.0 if not found_uj else 1.0
    return 1.0 if found_uj is None else abs(found_uj - true_uj) / true_uj


def _spread(pairs: Sequence[tuple[Truth, Told]], error: Callable[[Truth, Told], float]) -> Spread:
    lost = sum(_booked(told) is None for _, told in pairs)
    return Spread.of([error(truth, told) for truth, told in pairs], lost)


def _provisional(pairs: Sequence[tuple[Truth, Told]]) -> Spread | None:
    errors = [
        _error(told["provisional_uj"], booked_uj)
        for _, told in pairs
        if told["provisional_uj"] is not None and (booked_uj := _booked(told))
    ]
    return Spread.of(errors) if errors else None


def print_rows(rows: Sequence[Row]) -> None:
    columns = ("ours", "prefill", "decode", "by_tokens", "by_mean", "early", "provisional")
    titles = ("Joulekeeper", "prefill", "decode", "step by tokens", "mean per token", "first 10 s", "provisional")
    print(f"\n{'error: median / p99':30}{'requests':>9}{'late':>6}" + "".join(f"{title:>18}" for title in titles))
    for row in rows:
        cells = [getattr(row, column) for column in columns]
        shown = "".join(f"{f'{c.median:.2%} / {c.p99:.1%}' if c else '-':>18}" for c in cells)
        print(f"{row.name:30}{row.requests:>9}{row.left_out:>6}{shown}")


def verdicts(rows: Sequence[Row], runs: Sequence[TokenRun], costs: dict) -> list[tuple[str, str, str, bool]]:
    median = max(row.ours.median for row in rows)
    p99 = max(row.ours.p99 for row in rows)
    lost = sum(row.ours.failed + (row.early.failed if row.early else 0) for row in rows)
    sums = max((abs(run.sum_error_uj) for run in runs), default=0)
    tokens = statistics.median(row.by_mean.median for row in rows)
    found = [
        ("worst scene's median error", f"{median:.2%}", f"<= {MEDIAN_BAR:.0%}", median <= MEDIAN_BAR),
        ("worst scene's p99 error", f"{p99:.2%}", f"<= {P99_BAR:.0%}", p99 <= P99_BAR),
        ("receipts against the account of requests, uJ", str(sums), "0", sums == 0),
        ("receipts not settled", str(lost), "0", lost == 0),
        ("median error of shares by tokens", f"{tokens:.1%}", "> ours", tokens > median),
    ]
    cost = costs["step_us"] * costs["steps_per_s"] / 1e6
    bar = f"<= {RECORDING_BAR:.0%} of it"
    return [*found, ("recording a step of 64 sequences, CPU time", f"{cost:.1%}", bar, cost <= RECORDING_BAR)]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four scenes, under two minutes")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nvml-lib", type=Path, help="a libnvidia-ml.so.1 to measure on; default: ours, compiled")
    parser.add_argument("--truth", type=Path, help="power over time from a file instead of the scenes")
    parser.add_argument("--live", action="store_true", help="a real engine on this machine instead")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
