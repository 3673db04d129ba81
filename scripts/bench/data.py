"""`data prepare` on the standard library's source with planted copies: what is found, saved, spent and learned from.

    python scripts/bench/data.py [--quick] [--json FILE]

The library's files are copied to a directory and two kinds of copies planted among them: equal ones, and ones with one
word in a hundred replaced. The pipeline of deployments/data/stdlib.yaml reads them, writes to a server that speaks S3
(moto's, on this machine, in its own process, whose energy is not in the figures), and a small language model learns
from there. Records that were left out and not planted are listed: files that the library itself has twice, or nearly.
Bars: every planted copy found; the stages' joules add up to the ledger's; the model learned.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray  # noqa: E402

from app.cli.data import stages_grid  # noqa: E402
from app.cli.grid import plain_text  # noqa: E402
from app.config import settings  # noqa: E402
from app.data.outcome import Outcome  # noqa: E402
from app.data.prepare import prepare  # noqa: E402
from app.data.spec import PrepareSpec, load_spec  # noqa: E402
from app.training.job import TrainJob, load_job  # noqa: E402
from app.training.parquet_files import open_url, read_prepared  # noqa: E402
from app.training.run import run_job  # noqa: E402
from tests.fixtures.planted import Planted, plant  # noqa: E402
from tests.fixtures.s3_server import S3Server  # noqa: E402

DEPLOYMENTS = ROOT / "deployments"
LEARNED_BITS = 4.0
"""Bits per byte below which something was learned: a model that knows nothing needs 8."""


@contextmanager
def cluster(state: Path) -> Iterator[None]:
    """A cluster of this machine, ended with its books."""
    os.environ["JOULEKEEPER_STATE_DIR"] = str(state)
    settings.cache_clear()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def spec_of(directory: Path, url: str) -> PrepareSpec:
    """The spec that ships, of another source and target."""
    raw = load_spec(DEPLOYMENTS / "data" / "stdlib.yaml").model_dump(mode="json")
    raw["source"] |= {"url": str(directory), "exclude": []}
    raw["write"] |= {"url": url}
    return PrepareSpec.model_validate(raw)


def left_out(url: str) -> list[dict[str, str]]:
    """What the data set says was left out."""
    files, path = open_url(url)
    with files.open_input_stream(f"{path}/{read_prepared(url).left_out}") as stream:
        return [json.loads(line) for line in stream.read().decode().splitlines()]


def learned(url: str, epochs: int) -> dict[str, float]:
    """Held-out metrics of a small language model that read its texts from `url`."""
    raw = load_job(DEPLOYMENTS / "jobs" / "pycoder.yaml").model_dump(mode="json", exclude_unset=True)
    small = {"vocabulary": 1024, "hidden": 64, "layers": 2, "heads": 2, "context": 128}
    raw["model"] = {"architecture": "llama"} | small
    raw["data"]["source"] = f"parquet:{url}"
    raw |= {"epochs": epochs, "epoch_steps": 40, "batch_size": 8}
    for key in ("target", "publish"):
        raw.pop(key, None)
    return dict(run_job(TrainJob.model_validate(raw), run="from-s3", tell=lambda _: None).metrics)


def found(planted: dict[str, str], gone: list[dict[str, str]]) -> int:
    """How many planted copies, or the files that they are copies of, were left out for one another."""
    pairs = {frozenset((each["name"], each["kept"])) for each in gone}
    names = {each["name"] for each in gone}
    return sum(frozenset(pair) in pairs or pair[0] in names for pair in planted.items())


def result_of(outcome: Outcome, planted: Planted, gone: list[dict[str, str]], metrics: dict[str, float]) -> dict:
    own = [each for each in gone if not each["name"].startswith("zz-planted")]
    return {
        "outcome": outcome.plain(),
        "planted": {"exact": len(planted.exact), "near": len(planted.near)},
        "found": {"exact": found(planted.exact, gone), "near": found(planted.near, gone)},
        "own": own,
        "stages_uj": sum(row.energy_uj or 0 for row in outcome.stages),
        "learned": metrics,
    }


def verdicts(result: dict) -> list[tuple[str, bool]]:
    """Sentences with whether they hold."""
    outcome = result["outcome"]
    booked = outcome["energy"]["energy_uj"]
    return [
        (f"planted copies found: {result['found']} of {result['planted']}", result["found"] == result["planted"]),
        (f"stages {result['stages_uj']} uJ, ledger {booked} uJ", 0 < booked == result["stages_uj"]),
        (
            f"learned from S3: {result['learned']['bits_per_byte']:.2f} bits per byte, below {LEARNED_BITS}",
            result["learned"]["bits_per_byte"] < LEARNED_BITS,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 files, 20 copies of each kind")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    files, copies = (200, 20) if options.quick else (100_000, 100)
    with tempfile.TemporaryDirectory(prefix="joulekeeper-data-") as directory, S3Server() as s3:
        source = Path(directory, "source")
        planted = plant(source, files=files, copies=copies, seed=1)
        s3.make_bucket("data")
        url = s3.url("data/stdlib")
        with cluster(Path(directory, "state")):
            outcome = prepare(spec_of(source, url))
            metrics = learned(url, 2 if options.quick else 4)
        result = result_of(outcome, planted, left_out(url), metrics)
    versions = {name: metadata.version(name) for name in ("ray", "pyarrow", "torch")}
    result |= {"versions": versions | {"python": platform.python_version()}, "date": time.strftime("%Y-%m-%d")}
    print(plain_text(stages_grid(outcome)))
    for each in result["own"]:
        print(f"left out, not planted: {each['name']}: {each['why']} {each['kept']}".rstrip())
    judged = verdicts(result)
    for sentence, holds in judged:
        print(f"{'met' if holds else 'MISSED'}: {sentence}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    figures = {"ratio": outcome.ratio, "packed_ratio": outcome.packed_ratio, "energy_uj": outcome.energy.energy_uj}
    print(json.dumps(figures | {"found": result["found"], "planted": result["planted"], "seconds": outcome.seconds}))
    return 0 if all(holds for _, holds in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
