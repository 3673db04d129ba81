"""The search for batch size and power limit against a sweep of them all, on GPUs with published curves.

    python scripts/bench/power_search.py [--quick] [--data DIR] [--json FILE]

The curves are those that Zeus measured (You, Chung, Chowdhury, NSDI 2023; github.com/ml-energy/zeus, directory
examples/research_reproducibility/zeus_nsdi23/trace, Apache-2.0): seconds and watts of an epoch of six trainings on four
GPUs, by batch size and power limit. Each is a device of the NVML stand-in, which pynvml and app/sensors/nvml_limits.py
take for a GPU: a window sets the limit through NVML, draws what was published for the limit that NVML then tells, and
is measured by the energy counter. A window lasts 40 ms there instead of an epoch; its samples are scaled alike.

Two goals: least joules per sample, and least joules to the target with the epochs that the batch size needs (both sides
know those: the median of the published runs, without batch sizes of which most missed the target).
`with noise`: no stand-in; each window's energy and time are 2 % off (standard deviation), 20 times over; the setting
found counts with what was published for it.
Bars, for every curve with 12 settings or more and both goals: cost <= 1.03 x that of the best setting of the sweep;
windows <= 25 % of its. Smaller ones are shown: a quarter of 6 settings is one window, which is no search; among them
the windows by power limit that Zeus's optimizer measured of four networks, for one batch size each.
"""

import argparse
import csv
import ctypes
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.policy.power_search import PowerSearch, PowerSetting, SearchGoal  # noqa: E402
from app.sensors.nvml_limits import PowerLimits, open_power_limits  # noqa: E402
from app.units import NS_PER_S  # noqa: E402
from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubScript  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "power_zeus_nsdi23"
COST_BAR, WINDOW_BAR, LEAST_SETTINGS = 1.03, 0.25, 12
GPUS = {
    "v100": ("Tesla V100-PCIE-32GB", 250_000),
    "a40": ("NVIDIA A40", 300_000),
    "p100": ("Tesla P100-PCIE-16GB", 250_000),
    "rtx6000": ("Quadro RTX 6000", 260_000),
}
"""Name and highest limit in milliwatts."""
# Batch sizes of the models' own publications and targets, as Zeus has them (table 1).
DEFAULT_BATCH = {"cifar100": 1024, "movielens-1m": 1024, "squad": 32, "sentiment140": 128, "librispeech": 192}
DEFAULT_BATCH |= {"imagenet": 256}
TARGETS = {"cifar100": 0.6, "movielens-1m": 0.41, "squad": 84.0, "sentiment140": 0.84, "librispeech": 40.0}
TARGETS |= {"imagenet": 0.65}
WINDOW_NS, LEAD_NS = 40_000_000, 3_000_000
SAMPLES = 1_000_000_000  # of an epoch: the same for all settings, so any number that is not rounded away does
NOISE, NOISY_RUNS, QUICK_NOISY_RUNS = 0.02, 20, 5
GOALS = ("sample", "target")


@dataclass(frozen=True)
class Epoch:
    """What was published of one setting."""

    seconds: float
    watts: float

    @property
    def energy_j(self) -> float:
        return self.seconds * self.watts


@dataclass(frozen=True)
class Curve:
    """One training on one GPU."""

    gpu: str
    training: str
    epochs: Mapping[PowerSetting, Epoch]
    to_target: Mapping[int, float]
    """Epochs by batch size; a batch size that missed the target is not in it."""

    def settings(self, goal: str) -> list[PowerSetting]:
        """All of them, the customary batch size at the highest limit first."""
        dataset = self.training.split(",")[0]
        able = [one for one in self.epochs if goal == "sample" or one.batch_size in self.to_target]
        octaves = {one: abs(math.log2(one.batch_size / DEFAULT_BATCH.get(dataset, 1))) for one in able}
        return sorted(able, key=lambda one: (octaves[one], -one.limit_mw, one.batch_size))

    def goal(self, goal: str) -> SearchGoal:
        return SearchGoal(samples_to_target=self.to_target if goal == "target" else {})

    def cost(self, setting: PowerSetting, goal: str) -> float:
        """Joules per epoch, or to the target, as published."""
        return self.epochs[setting].energy_j * (self.to_target[setting.batch_size] if goal == "target" else 1)


def read_curves(data: Path) -> list[Curve]:
    targets = _epochs_to_target(data / "summary_train.csv")
    curves = []
    for gpu in GPUS:
        found: dict[str, dict[PowerSetting, Epoch]] = defaultdict(dict)
        for row in _rows(data / f"summary_power_{gpu}.csv"):
            setting = PowerSetting(int(row["batch_size"]), round(float(row["power_limit"]) * 1000))
            epoch = Epoch(float(row["time_per_epoch"]), float(row["average_power"]))
            found[_training(row)][setting] = epoch
        curves += [Curve(gpu, name, epochs, targets.get(name, {})) for name, epochs in sorted(found.items())]
    return curves


def read_profiles(data: Path) -> list[Curve]:
    """Windows that Zeus itself measured by power limit, of one batch size: curves without a bar."""
    curves = []
    for path in sorted((data / "powerlimit_profiles").glob("*.csv")):
        gpu, network, gpus = path.stem.split("+")
        epochs = {}
        for row in _rows(path):
            seconds = float(row["elapsed_time"])
            energy_j = sum(float(value) for name, value in row.items() if name.endswith("_energy"))
            limit_mw = int(row["window_name"].rpartition("_")[2]) * 1000
            epochs[PowerSetting(1, limit_mw)] = Epoch(seconds, energy_j / seconds)
        curves.append(Curve(gpu.lower(), f"{network} on {gpus}", epochs, {}))
    return curves


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _training(row: Mapping[str, str]) -> str:
    return ",".join(row[name] for name in ("dataset", "network", "optimizer"))


def _epochs_to_target(path: Path) -> dict[str, dict[int, float]]:
    """Median epochs to the target of a training, by batch size, at its better learning rate; none where missed."""
    runs: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for row in _rows(path):
        if float(row["target_metric"]) == TARGETS[row["dataset"]]:
            reached = float(row["target_epoch"])
            key = (_training(row), int(row["batch_size"]), row["learning_rate"])
            runs[key].append(reached if math.isfinite(reached) else math.inf)
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for (name, size, _), epochs in runs.items():
        median = statistics.median_high(epochs)
        if median < found[name].get(size, math.inf):
            found[name][size] = median
    return found


class StubGpu:
    """A device of the stand-in that draws what was published for the limit that NVML tells."""

    def __init__(self, stub: NvmlStub, curve: Curve) -> None:
        self._stub, self._curve = stub, curve
        self._index = list(GPUS).index(curve.gpu)
        self.uuid = StubScript().uuid(0)[:-1] + str(self._index)
        self._write(())

    def _write(self, phases: tuple[tuple[int, int], ...]) -> None:
        devices = [StubDevice(name=name, limit_mw=limit_mw) for name, limit_mw in GPUS.values()]
        devices[self._index] = replace(devices[self._index], phases=phases)
        self._stub.write(StubScript(tuple(devices), tick_ms=0))

    def run(self, limits: PowerLimits, vendor: Any, setting: PowerSetting) -> tuple[int, float, int]:
        """One window: samples, seconds and microjoules."""
        limits.set(setting.limit_mw)
        handle = vendor.nvmlDeviceGetHandleByIndex(self._index)
        told_mw = vendor.nvmlDeviceGetPowerManagementLimit(handle)
        epoch = self._curve.epochs[PowerSetting(setting.batch_size, told_mw)]
        start_ns = before_mj = 0
        while time.monotonic_ns() >= start_ns:  # once, unless this process was held up
            start_ns = time.monotonic_ns() + LEAD_NS
            self._write(((start_ns, round(epoch.watts * 1000)), (start_ns + WINDOW_NS, 0)))
            before_mj = vendor.nvmlDeviceGetTotalEnergyConsumption(handle)
        while time.monotonic_ns() <= start_ns + WINDOW_NS:
            time.sleep(0.002)
        energy_uj = (vendor.nvmlDeviceGetTotalEnergyConsumption(handle) - before_mj) * 1000
        seconds = WINDOW_NS / NS_PER_S
        return round(SAMPLES * seconds / epoch.seconds), seconds, energy_uj


def load_stub(directory: Path) -> tuple[NvmlStub, Any]:
    """The compiled stand-in, loaded under this process's pynvml."""
    import pynvml

    stub = NvmlStub.compile(directory)
    os.environ["NVML_STUB_SCRIPT"] = str(stub.script_path)
    pynvml.nvmlLib = ctypes.CDLL(str(stub.library))
    return stub, pynvml


def on_the_stub(curve: Curve, goal: str, stub: NvmlStub, vendor: Any, directory: Path) -> PowerSearch:
    gpu = StubGpu(stub, curve)
    search = PowerSearch(curve.settings(goal), curve.goal(goal))
    with open_power_limits([gpu.uuid], directory) as limits:
        assert not limits.refusal, limits.refusal
        while (setting := search.next()) is not None:
            search.observe(setting, *gpu.run(limits, vendor, setting))
    return search


def with_noise(curve: Curve, goal: str, chance: random.Random) -> PowerSearch:
    search = PowerSearch(curve.settings(goal), curve.goal(goal))
    while (setting := search.next()) is not None:
        epoch = curve.epochs[setting]
        seconds = epoch.seconds * chance.lognormvariate(0, NOISE)
        search.observe(setting, SAMPLES, seconds, round(epoch.energy_j * 1e6 * chance.lognormvariate(0, NOISE)))
    return search


def row_of(curve: Curve, goal: str, search: PowerSearch, noisy: Sequence[PowerSearch]) -> dict[str, Any]:
    settings = curve.settings(goal)
    best = min(settings, key=lambda one: curve.cost(one, goal))
    least = curve.cost(best, goal)
    found = search.best().setting
    ratios = [curve.cost(one.best().setting, goal) / least for one in noisy]
    return {
        "gpu": curve.gpu,
        "training": curve.training,
        "goal": goal,
        "settings": len(settings),
        "windows": len(search.windows),
        "share": len(search.windows) / len(settings),
        "default": curve.cost(settings[0], goal) / least,
        "ratio": curve.cost(found, goal) / least,
        "found": [found.batch_size, found.limit_mw // 1000],
        "best": [best.batch_size, best.limit_mw // 1000],
        "noisy_mean": statistics.mean(ratios),
        "noisy_worst": max(ratios),
        "noisy_within_bar": sum(ratio <= COST_BAR for ratio in ratios) / len(ratios),
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(
        f"{'GPU':8s} {'training':38s} {'goal':7s} {'sweep':>5s} {'used':>4s} {'share':>6s} {'start':>6s} "
        f"{'found':>6s}  "
        f"{'found at':>11s} {'best at':>11s}  with noise: mean  worst  within {COST_BAR}"
    )
    for row in rows:
        places = [f"{size} x {watts} W" for size, watts in (row["found"], row["best"])]
        print(
            f"{row['gpu']:8s} {row['training']:38s} {row['goal']:7s} {row['settings']:5d} {row['windows']:4d} "
            f"{row['share']:6.1%} {row['default']:6.2f} {row['ratio']:6.3f}  {places[0]:>11s} {places[1]:>11s}  "
            f"{row['noisy_mean']:16.3f} {row['noisy_worst']:6.3f} {row['noisy_within_bar']:8.0%}"
        )


def verdict(every: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], bool]:
    rows = [row for row in every if row["settings"] >= LEAST_SETTINGS]
    figures = {
        "curves": len(rows),
        "ratio_mean": round(statistics.mean(row["ratio"] for row in rows), 4),
        "ratio_worst": round(max(row["ratio"] for row in rows), 4),
        "within_bar": sum(row["ratio"] <= COST_BAR for row in rows),
        "share_mean": round(statistics.mean(row["share"] for row in rows), 4),
        "share_worst": round(max(row["share"] for row in rows), 4),
        "saved_of_default_mean": round(statistics.mean(1 - row["ratio"] / row["default"] for row in rows), 4),
        "noisy_ratio_mean": round(statistics.mean(row["noisy_mean"] for row in rows), 4),
        "noisy_within_bar": round(statistics.mean(row["noisy_within_bar"] for row in rows), 4),
    }
    met = figures["ratio_worst"] <= COST_BAR and figures["share_worst"] <= WINDOW_BAR
    return figures, met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one GPU, fewer noisy runs")
    parser.add_argument("--offline", action="store_true", help="published figures instead of the stand-in")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: {options.data} is not there; the docstring says where the data can be had", file=sys.stderr)
        return 0
    curves = [*read_curves(options.data), *read_profiles(options.data)]
    curves = [curve for curve in curves if not options.quick or curve.gpu == "v100"]
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        stub, vendor = (None, None) if options.offline else load_stub(Path(directory))
        for curve in curves:
            for goal in (goal for goal in GOALS if goal == "sample" or curve.to_target):
                exact = random.Random(0)
                if stub is None:
                    search = with_noise(curve, goal, exact)
                else:
                    search = on_the_stub(curve, goal, stub, vendor, Path(directory))
                runs = QUICK_NOISY_RUNS if options.quick else NOISY_RUNS
                noisy = [with_noise(curve, goal, random.Random(seed)) for seed in range(runs)]
                rows.append(row_of(curve, goal, search, noisy))
    show(rows)
    figures, met = verdict(rows)
    bars = f"{COST_BAR} x the optimum, {WINDOW_BAR:.0%} of the windows, every row of {LEAST_SETTINGS} settings or more"
    print(f"bars: {bars}: {'met' if met else 'MISSED'}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, **figures}, indent=1))
    print(json.dumps(figures))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
