"""Data prepared on a real cluster, written to a server that speaks S3, and learned from there."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.data.prepare import prepare
from app.data.spec import load_spec, parse_spec
from app.errors import InvalidInput
from app.metering.accountant import connect_books
from app.training.data import load_data
from app.training.job import TrainJob, load_job
from app.training.parquet_files import open_url, read_prepared
from app.training.parquet_rows import open_rows
from app.training.parquet_texts import open_texts
from app.training.position import Position
from app.training.run import run_job
from app.training.run_files import RunFiles, checkpoint_name
from tests.fixtures.planted import Planted, plant
from tests.fixtures.s3_server import S3Server

pytestmark = pytest.mark.ray

DEPLOYMENTS = Path(__file__).parents[3] / "deployments"
COPIES = 6


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.make_bucket("data")
        yield server


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Planted]:
    directory = tmp_path_factory.mktemp("source")
    return directory, plant(directory, files=80, copies=COPIES, seed=3)


def left_out(url: str) -> dict[str, dict[str, str]]:
    """Every record that was left out, by name."""
    files, path = open_url(url)
    with files.open_input_stream(f"{path}/{read_prepared(url).left_out}") as stream:
        lines = stream.read().decode().splitlines()
    return {told["name"]: told for told in map(json.loads, lines)}


def test_texts_are_deduplicated_metered_and_written_to_s3(
    state: Path, s3: S3Server, planted: tuple[Path, Planted]
) -> None:
    directory, copies = planted
    (directory / "broken.py").write_text("def (")
    url = s3.url("data/texts")
    raw = {
        "name": "texts",
        "tenant": "acme",
        "source": {"url": str(directory), "include": ["*.py"], "licence": "PSF-2.0"},
        "content": {"kind": "texts"},
        "checks": {"python": True},
        "deduplicate": {"near": {"similarity": 0.8}},
        "write": {"url": url, "row_group_rows": 16},
        "chunk_mb": 1,
    }
    outcome = prepare(parse_spec(raw, "test"), run="texts-test", tell=lambda _: None)

    gone = left_out(url)
    assert {name: gone[name]["kept"] for name in copies.exact} == copies.exact
    assert {name: gone[name]["kept"] for name in copies.near} == copies.near
    assert {gone[name]["why"] for name in copies.near} == {"near"}
    assert gone["broken.py"]["why"].startswith("no Python")
    assert (outcome.read_rows, outcome.faulty) == (copies.files + 1, 1)
    assert outcome.exact >= COPIES  # the library has equal files of its own
    assert outcome.faulty + outcome.exact + outcome.near == len(gone)
    assert outcome.rows == outcome.read_rows - len(gone) == read_prepared(url).rows
    assert 0.5 < outcome.packed_ratio < outcome.ratio < 1
    assert outcome.written_files > 1
    assert "testing" not in outcome.where

    texts = open_texts(url, test_share=0.2, seed=7)
    assert len(texts.train) + len(texts.held_out) == outcome.rows
    assert not any(" \n" in text or "\r" in text for text in texts.train)

    stages = {row.stage: row for row in outcome.stages}
    assert list(stages) == ["read", "clean", "validate", "exact", "near", "write"]
    assert all(row.seconds > 0 for row in outcome.stages)
    assert sum(row.energy_uj or 0 for row in outcome.stages) == outcome.energy.energy_uj > 0
    assert stages["near"].energy_uj > 0
    jobs = [job for job in connect_books().report("job").jobs if job.job == "texts-test"]
    assert [(job.tenant, job.kind, job.energy_uj) for job in jobs] == [("acme", "data", outcome.energy.energy_uj)]

    with pytest.raises(InvalidInput, match="holds the data set of texts-test already"):
        prepare(parse_spec(raw, "test"), tell=lambda _: None)


def test_rows_prepared_on_s3_are_what_a_job_learns_from(state: Path, s3: S3Server) -> None:
    spec = load_spec(DEPLOYMENTS / "data" / "digits.yaml")
    url = s3.url("data/digits")
    spec = spec.model_copy(update={"write": spec.write.model_copy(update={"url": url})})
    outcome = prepare(spec, run="digits-data", tell=lambda _: None)
    assert (outcome.rows, outcome.faulty) == (1797 - outcome.exact, 0)

    data, shipped = open_rows(url, test_share=0.25, seed=7), load_data("builtin:digits", test_share=0.25, seed=7)
    assert (
        np.concatenate([data.train_x[:], data.test_x]).sum() == np.concatenate([shipped.train_x, shipped.test_x]).sum()
    )
    raw = load_job(DEPLOYMENTS / "jobs" / "digits.yaml").model_dump(mode="json")
    raw |= {
        "data": {"source": f"parquet:{url}", "seed": 7},
        "epochs": 3,
        "target": None,
        "publish": {"name": "streamed"},
        "storage": s3.url("data/jobs"),
    }
    result = run_job(TrainJob.model_validate(raw), run="streamed-test")
    assert result.metrics["accuracy"] > 0.9
    assert result.published == "streamed@1"
    kept = RunFiles.open(s3.url("data/jobs"), "streamed-test").checkpoints()
    assert kept == [checkpoint_name(1, Position(epoch)) for epoch in (3, 2)]


def test_data_that_are_mostly_faulty_are_refused_before_anything_is_written(state: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "source" / f"{name}.txt").write_text("x" if name == "a" else "")
    raw = {
        "name": "bad",
        "source": {"url": str(tmp_path / "source"), "licence": "CC0-1.0"},
        "content": {"kind": "texts"},
        "write": {"url": str(tmp_path / "target")},
    }
    with pytest.raises(InvalidInput, match=r"2 of 3 records are faulty.*b\.txt: 0 characters"):
        prepare(parse_spec(raw, "test"), tell=lambda _: None)
    assert list((tmp_path / "target").iterdir()) == []
