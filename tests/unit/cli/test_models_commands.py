"""models list, models show: the repository as the command shows it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import settings
from app.domain.tensor import Datatype, TensorSpec
from app.models.card import EnergyCard, ModelCard
from app.models.repository import ModelRepository

Call = Callable[..., Any]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelRepository]:
    monkeypatch.setenv("JOULEKEEPER_MODELS", str(tmp_path))
    settings.cache_clear()
    yield ModelRepository(tmp_path)
    settings.cache_clear()


def _publish(repository: ModelRepository, accuracy: float) -> None:
    card = ModelCard(
        name="digits",
        created="2026-11-22T10:00:00+00:00",
        runner="builtin",
        inputs=(TensorSpec("image", Datatype.FP32, (-1, 1, 8, 8)),),
        outputs=(TensorSpec("logits", Datatype.FP32, (-1, 10)),),
        metrics={"test_accuracy": accuracy},
        energy=EnergyCard(energy_uj=12_000_000, carbon_ugco2e=1500, grade="modelled", source="ledger"),
    )
    repository.publish("digits", lambda directory: (directory / "model.safetensors").write_bytes(b"x") and None, card)


def test_an_empty_repository_lists_nothing(repository: ModelRepository, call: Call) -> None:
    result = call("models", "list")
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, "(nothing)")


def test_a_model_is_listed_with_its_latest_version_and_cost(repository: ModelRepository, call: Call) -> None:
    _publish(repository, 0.95)
    _publish(repository, 0.9750)
    row = call("models", "list").stdout.splitlines()[2].split()
    assert row[:3] == ["digits", "2", "builtin"]
    assert {"0.975", "12", "J", "1.5", "mgCO2e", "modelled"} <= set(row)
    (listed,) = json.loads(call("models", "list", "--json").stdout)
    assert (listed["name"], listed["versions"]) == ("digits", ["1", "2"])


def test_a_card_is_shown_as_yaml_or_json(repository: ModelRepository, call: Call) -> None:
    _publish(repository, 0.95)
    _publish(repository, 0.975)
    assert yaml.safe_load(call("models", "show", "digits").stdout)["version"] == "2"
    shown = ModelCard.model_validate_json(call("models", "show", "digits", "--version", "1", "--json").stdout)
    assert shown.metrics == {"test_accuracy": 0.95}


@pytest.mark.parametrize("words", [("nope",), ("digits", "--version", "9")])
def test_what_is_not_there_is_one_line(repository: ModelRepository, call: Call, words: tuple[str, ...]) -> None:
    _publish(repository, 0.95)
    result = call("models", "show", *words)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
