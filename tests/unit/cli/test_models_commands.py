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
from app.models.repository import ModelRepository, RepositorySettings, open_repository

Call = Callable[..., Any]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelRepository]:
    monkeypatch.setenv("JOULEKEEPER_MODELS", str(tmp_path))
    settings.cache_clear()
    yield open_repository(RepositorySettings(str(tmp_path)))
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


def test_files_are_verified_and_an_altered_one_is_told(repository: ModelRepository, call: Call, tmp_path: Path) -> None:
    _publish(repository, 0.95)
    _publish(repository, 0.96)
    assert call("models", "verify").stdout.splitlines() == [
        "digits@1: 1 files as published",
        "digits@2: 1 files as published",
    ]
    (tmp_path / "digits" / "2" / "model.safetensors").write_bytes(b"y")
    result = call("models", "verify", "digits")
    assert (result.exit_code, "was altered" in result.stderr) == (1, True)


def test_one_version_is_deleted(repository: ModelRepository, call: Call) -> None:
    _publish(repository, 0.95)
    _publish(repository, 0.96)
    assert call("models", "delete", "digits").exit_code == 2  # there is no default
    assert call("models", "delete", "digits", "--version", "1").stdout == "digits@1 deleted\n"
    assert repository.versions("digits") == ["2"]
    assert call("models", "delete", "digits", "--version", "1").exit_code == 1


def test_a_directory_is_imported_for_a_class(repository: ModelRepository, call: Call, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "notes.txt").write_text("hello")
    result = call("models", "import", "upper", str(source), "--code", "tests.fixtures.echo:Upper")
    assert result.stdout == "upper@1\n"
    assert repository.card("upper", "1").code == "tests.fixtures.echo:Upper"


def test_a_key_is_made_once_readable_by_its_owner_alone(
    repository: ModelRepository, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.txt"
    recipient = call("models", "keygen", str(path)).stdout.strip()
    assert recipient.startswith("age1")
    assert (path.stat().st_mode & 0o777, recipient in path.read_text()) == (0o600, True)
    again = call("models", "keygen", str(path))
    assert (again.exit_code, "never overwritten" in again.stderr) == (1, True)
    monkeypatch.setenv("JOULEKEEPER_MODELS_KEY_FILE", str(path))
    monkeypatch.setenv("JOULEKEEPER_MODELS_RECIPIENTS", recipient)
    settings.cache_clear()
    _publish(open_repository(settings().repository), 0.95)
    assert call("models", "verify").stdout == "digits@1: 1 files as published\n"


def test_a_key_file_that_holds_none_is_told(
    repository: ModelRepository, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.txt").write_text("# nothing\n")
    monkeypatch.setenv("JOULEKEEPER_MODELS_KEY_FILE", str(tmp_path / "key.txt"))
    settings.cache_clear()
    result = call("models", "list")
    assert (result.exit_code, "must hold one key, it has 0" in result.stderr) == (1, True)


def test_quantize_makes_a_variant_of_the_version_that_is_meant(
    repository: ModelRepository, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(repository, 0.95)
    _publish(repository, 0.975)
    asked: list[Any] = []

    def publish_variant(where: ModelRepository, *words: str, tell: Callable[[str], None], **others: Any) -> str:
        asked.append((words, others["measure"]))
        tell("held-out text: ...")
        return f"{words[1]}-{words[2]}"

    monkeypatch.setattr("app.training.variants.publish_variant", publish_variant)
    result = call("models", "quantize", "digits", "--to", "int8", "--no-measure")
    assert result.stdout.splitlines() == ["held-out text: ...", "published digits@2-int8"]
    call("models", "quantize", "digits@1", "--to", "bf16", "--no-measure")
    assert asked == [(("digits", "2", "int8"), None), (("digits", "1", "bf16"), None)]
    assert call("models", "quantize", "digits", "--to", "int3").exit_code == 2


def test_variants_are_shown_by_name_and_verified_with_their_versions(repository: ModelRepository, call: Call) -> None:
    _publish(repository, 0.95)
    card = repository.card("digits", "1")
    repository.publish(
        "digits", lambda directory: (directory / "model.safetensors").write_bytes(b"y") and None, card, variant="1-int8"
    )
    assert yaml.safe_load(call("models", "show", "digits", "--version", "int8").stdout)["version"] == "1-int8"
    assert json.loads(call("models", "list", "--json").stdout)[0]["variants"] == ["1-int8"]
    assert [row.split()[:2] for row in call("models", "list").stdout.splitlines()[2:]] == [
        ["digits", "1"],
        ["digits", "1-int8"],
    ]
    assert call("models", "verify").stdout.splitlines() == [
        "digits@1: 1 files as published",
        "digits@1-int8: 1 files as published",
    ]
