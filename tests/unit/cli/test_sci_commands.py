"""`joulekeeper sci`: what the commands print equals what was worked by hand (tests/unit/engine/test_sci_scores.py)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.carbon.grid import open_grid
from app.cli import cluster
from app.clock import ManualClock
from app.config import settings
from app.domain.tensor import Datatype, TensorSpec
from app.models.card import ModelCard
from app.models.repository import open_repository
from app.training.reports import keep_report
from tests.fixtures.footprints import HOUR_S, T0_S, job, model_report, receipt

Call = Callable[..., Any]
SERVER = ("--hardware", "1461", "--lifetime-years", "4")
FR = "start,g_per_kwh\n2026-01-01T00:00Z,100\n2026-01-01T01:00Z,{second}\n"
NS = 1_000_000_000


class Books:
    """One receipt, one model in service."""

    def receipt(self, receipt_id: str, settle_timeout_s: float = 0):
        return receipt()

    def report(self, by: str, since_s: float | None = None, until_s: float | None = None):
        return model_report()


class Place:
    """A state directory with a kept run, and the grid data of its hours."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.file = directory, directory / "fr.csv"
        self.clock = ManualClock(wall_ns=(T0_S + 24 * HOUR_S) * NS)

    def tell(self, second: int) -> None:
        """The grid says that the second hour had so many g/kWh."""
        self.file.write_text(FR.format(second=second))
        self.clock.advance(24 * HOUR_S * NS)
        grid = open_grid(settings().grid, self.clock)
        grid.fetch(T0_S * NS, (T0_S + 2 * HOUR_S) * NS)
        grid.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(cluster, "books", Books)
    for name, value in (
        ("STATE_DIR", tmp_path),
        ("ZONE", "FRA"),
        ("PUE", "1.2"),
        ("INTENSITY", f"file:{tmp_path}/fr.csv"),
    ):
        monkeypatch.setenv(f"JOULEKEEPER_{name}", str(value))
    settings.cache_clear()
    keep_report(str(tmp_path / "jobs"), job())
    found = Place(tmp_path)
    found.tell(400)
    yield found
    settings.cache_clear()


def test_one_request(place: Place, call: Call) -> None:
    told = call("sci", "request", "r-1", *SERVER, "--share", "0.125", "--json")
    assert json.loads(told.stdout)["score_ugco2e"] == 1_223.0
    text = call("sci", "request", "r-1", *SERVER, "--share", "0.125", "--tokens", "50").stdout
    assert "24460 ugCO2e (24.5 mgCO2e) per 1k tokens" in text


def test_one_job(place: Place, call: Call) -> None:
    told = json.loads(call("sci", "job", "digits-1", *SERVER, "--json").stdout)
    assert told["score_ugco2e"] == pytest.approx(803_333_333 / 3)
    assert (told["unit"], told["units"], told["operational_ugco2e"]) == ("epoch", 3, 720_000_000)
    named = call("sci", "job", "digits-1", "--unit", "image", "--units", "1000", "--json")
    assert json.loads(named.stdout)["score_ugco2e"] == 720_000.0
    assert "how many of 'image'" in call("sci", "job", "digits-1", "--unit", "image").stderr


def write_weights(directory: Path) -> None:
    (directory / "notes.txt").write_text("weights are elsewhere")


def test_one_model_with_its_training_spread_over_its_life(place: Place, call: Call) -> None:
    card = ModelCard(
        name="minilm",
        created="2026-01-01T02:00:00+00:00",
        runner="encoder",
        inputs=(TensorSpec(name="text", datatype=Datatype.BYTES, shape=(-1,)),),
        outputs=(TensorSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, 384)),),
        job="digits-1",
    )
    open_repository(settings().repository).publish("minilm", write_weights, card)
    words = ("sci", "model", "minilm@1", "--units", "10000", "--reserved-hours", "24", "--parameters", "22600000")
    told = json.loads(call(*words, "--life-units", "1000000", *SERVER, "--json").stdout)
    assert told["consumer"]["score_ugco2e"] == 200_000.0
    assert told["provider"]["score_ugco2e"] == pytest.approx(803_333_333 / 0.0226)
    assert told["amortised_ugco2e"] == pytest.approx(200_803.333333)
    text = call(*words, *SERVER).stdout
    assert "per 10^9 parameters" in text
    assert "spread over its life" not in text


def test_a_kept_report_follows_late_data_and_says_so(place: Place, call: Call) -> None:
    before = json.loads(call("jobs", "report", "digits-1", "--json").stdout)
    assert (before["carbon_ugco2e"], before["basis"]["grades"]) == (720_000_000, {"actual": 1.0})
    place.tell(250)
    after = json.loads(call("jobs", "report", "digits-1", "--json").stdout)
    # (2 kWh x 100 + 1 kWh x 250) x 1.2 = 540 g
    assert (after["carbon_ugco2e"], after["energy_uj"]) == (540_000_000, before["energy_uj"])
    assert after["basis"]["first_carbon_ugco2e"] == 720_000_000
    text = call("jobs", "report", "digits-1").stdout
    assert "re-priced: the grid data for 33.3% of this energy were revised" in text
    assert "when the job ended it was 700 gCO2e" in text
