"""The model repository: atomic publication, versions, verification, refusals."""

import os
from pathlib import Path

import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import BooksDamaged, InvalidInput, NotFound
from app.models.card import DataCard, EnergyCard, ModelCard, from_yaml, to_yaml
from app.models.repository import RepositorySettings, open_repository


def card(**changes: object) -> ModelCard:
    known = ModelCard(
        name="tiny",
        created="2026-01-01T00:00:00+00:00",
        runner="builtin",
        inputs=(TensorSpec("x", Datatype.FP32, (-1, 2)),),
        outputs=(TensorSpec("y", Datatype.FP32, (-1, 1)),),
        data=(DataCard(name="d", origin="o", licence="CC0", digest="sha256:0", rows=3),),
        energy=EnergyCard(energy_uj=5, carbon_ugco2e=1, grade="modelled", source="ledger", by_phase_uj={"step": 4}),
    )
    return known.model_copy(update=changes)


def write_weights(content: bytes = b"weights"):
    return lambda directory: (directory / "model.safetensors").write_bytes(content)


def test_versions_are_integers_that_count_up_and_sort_as_numbers(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    published = [repository.publish("tiny", write_weights(), card()) for _ in range(11)]
    assert published == [str(number) for number in range(1, 12)]
    assert repository.versions("tiny")[-2:] == ["10", "11"]
    assert repository.latest("tiny") == "11"
    assert repository.names() == ["tiny"]


def test_a_card_names_its_version_and_the_digest_of_every_file(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    repository.publish("tiny", write_weights(b""), card())
    with repository.open("tiny", "1") as (found, directory):
        assert found.version == "1"
    # sha256 of nothing, as any tool prints it.
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert found.files == {"model.safetensors": empty}
    assert directory == tmp_path / "tiny" / "1"


def test_a_card_survives_yaml_unchanged() -> None:
    assert from_yaml(to_yaml(card(files={"a.json": "0" * 64})), "here") == card(files={"a.json": "0" * 64})


def test_a_card_with_unknown_and_missing_keys_is_refused_naming_both() -> None:
    with pytest.raises(InvalidInput, match=r"here.*created.*colour"):
        from_yaml("name: tiny\nrunner: builtin\ninputs: []\noutputs: []\ncolour: red\n", "here")


def test_an_altered_file_is_noticed_at_load(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    repository.publish("tiny", write_weights(), card())
    (tmp_path / "tiny" / "1" / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(BooksDamaged, match=r"model\.safetensors was altered"):
        repository.open("tiny", "1").__enter__()


def test_a_missing_file_is_noticed_at_load(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    repository.publish("tiny", write_weights(), card())
    (tmp_path / "tiny" / "1" / "model.safetensors").unlink()
    with pytest.raises(BooksDamaged, match="missing"):
        repository.open("tiny", "1").__enter__()


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "model.pth", "model.bin", "model.joblib", "weights", "a.py"])
def test_other_formats_are_refused_and_leave_nothing_behind(tmp_path: Path, name: str) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    with pytest.raises(InvalidInput, match="is refused in a model repository"):
        repository.publish("tiny", lambda directory: (directory / name).write_bytes(b"x"), card())
    assert list((tmp_path / "tiny").iterdir()) == []


def test_links_are_refused(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    with pytest.raises(InvalidInput, match="no links"):
        repository.publish("tiny", lambda directory: (directory / "a.safetensors").symlink_to("/etc/hosts"), card())


def test_a_card_that_points_outside_its_version_is_refused(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    repository.publish("tiny", write_weights(), card())
    path = tmp_path / "tiny" / "1" / "card.yaml"
    path.write_text(path.read_text().replace("model.safetensors:", "../../secret:"))
    with pytest.raises(InvalidInput, match="outside the version"):
        repository.open("tiny", "1").__enter__()


def test_a_writer_that_fails_leaves_no_version(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))

    def fail(directory: Path) -> None:
        (directory / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        repository.publish("tiny", fail, card())
    assert list((tmp_path / "tiny").iterdir()) == []


def test_half_written_versions_of_others_are_not_versions(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    repository.publish("tiny", write_weights(), card())
    for name in (".publishing-1", "2", "03", "x"):
        (tmp_path / "tiny" / name).mkdir()
    assert repository.versions("tiny") == ["1"]


def test_a_number_that_somebody_else_took_meanwhile_is_left_to_them(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))

    def overtaken(directory: Path) -> None:
        write_weights(b"mine")(directory)
        theirs = tmp_path / "tiny" / "1"
        theirs.mkdir()
        (theirs / "model.safetensors").write_bytes(b"theirs, without a card yet")

    assert repository.publish("tiny", overtaken, card()) == "2"
    assert repository.card("tiny", "2").version == "2"


def test_unknown_models_and_versions_are_answered_with_what_there_is(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    with pytest.raises(NotFound, match="it is empty"):
        repository.latest("digits")
    repository.publish("digits", write_weights(), card())
    with pytest.raises(NotFound, match="did you mean digits"):
        repository.latest("digit")
    with pytest.raises(NotFound, match="no version '7'; there are 1"):
        repository.card("digits", "7")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 65, "a b"])
def test_names_that_could_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="is refused"):
        open_repository(RepositorySettings(str(tmp_path))).versions(name)


def test_a_home_directory_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert open_repository(RepositorySettings("~/models")).where == str(tmp_path / "models")


def test_a_variant_stands_beside_its_version_and_is_never_the_latest(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    for number in (1, 2):
        repository.publish("tiny", write_weights(), card())
        assert repository.publish("tiny", write_weights(b"few"), card(), variant=f"{number}-int8") == f"{number}-int8"
    repository.publish("tiny", write_weights(b"fewer"), card(), variant="1-int4")
    assert repository.versions("tiny") == ["1", "2"]
    assert repository.variants("tiny") == ["1-int4", "1-int8", "2-int8"]
    assert repository.latest("tiny") == "2"
    with repository.open("tiny", "1-int4") as (found, directory):
        assert (found.version, (directory / "model.safetensors").read_bytes()) == ("1-int4", b"fewer")


def test_a_variant_is_meant_by_its_name_or_with_its_version(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    for _number in range(1, 11):
        repository.publish("tiny", write_weights(), card())
    for variant in ("2-int8", "9-int8", "10-int8", "3-int4"):
        repository.publish("tiny", write_weights(), card(), variant=variant)
    wanted = {"": "10", "7": "7", "int8": "10-int8", "int4": "3-int4", "2-int8": "2-int8"}
    assert {word: repository.resolve("tiny", word) for word in wanted} == wanted
    with pytest.raises(NotFound, match=r"no version 'bf16'; there are .*10-int8"):
        repository.resolve("tiny", "bf16")


def test_a_variant_that_is_there_is_not_replaced_but_can_be_deleted(tmp_path: Path) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    repository.publish("tiny", write_weights(), card())
    repository.publish("tiny", write_weights(), card(), variant="1-int8")
    with pytest.raises(InvalidInput, match="tiny@1-int8 is there already"):
        repository.publish("tiny", write_weights(b"other"), card(), variant="1-int8")
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["1", "1-int8"]
    repository.delete("tiny", "1-int8")
    assert repository.variants("tiny") == []


@pytest.mark.parametrize("variant", ["int8", "1-", "1-INT8", "01-int8", "1-../2", "-int8"])
def test_variants_that_are_no_version_and_word_are_refused(tmp_path: Path, variant: str) -> None:
    repository = open_repository(RepositorySettings(str(tmp_path)))
    with pytest.raises(InvalidInput, match="must be a version, a dash and a word"):
        repository.publish("tiny", write_weights(), card(), variant=variant)
