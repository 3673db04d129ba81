"""The arguments of a served model, and what building fixes of them."""

import pytest
from pydantic import ValidationError

from app.errors import InvalidInput, NotFound
from app.models.repository import RepositorySettings
from app.serving.args import ModelArgs, pinned


@pytest.fixture
def root(tmp_path):
    for version in ("1", "2", "10"):
        (tmp_path / "digits" / version).mkdir(parents=True)
        (tmp_path / "digits" / version / "card.yaml").touch()
    return str(tmp_path)


def test_a_packages_version_is_one_unless_said_otherwise(root):
    assert pinned(ModelArgs(name="m", source="package:p"), RepositorySettings(str(root))).version == "1"
    assert pinned(ModelArgs(name="m", source="package:p", version=7), RepositorySettings(str(root))).version == "7"


def test_the_latest_version_is_fixed_when_the_application_is_built(root):
    args = pinned(ModelArgs(name="m", source="repository:digits"), RepositorySettings(str(root)))
    assert (args.source, args.version) == ("repository:digits@10", "10")


@pytest.mark.parametrize("given", [{"source": "repository:digits@2"}, {"source": "repository:digits", "version": "2"}])
def test_a_version_asked_for_is_kept(root, given):
    args = pinned(ModelArgs(name="m", **given), RepositorySettings(str(root)))
    assert (args.source, args.version) == ("repository:digits@2", "2")


def test_two_versions_are_one_too_many(root):
    with pytest.raises(InvalidInput, match="'repository:digits@2' and version '1' disagree"):
        pinned(ModelArgs(name="m", source="repository:digits@2", version="1"), RepositorySettings(str(root)))


def test_a_model_that_was_never_published_is_not_found(root):
    with pytest.raises(NotFound, match="digitz"):
        pinned(ModelArgs(name="m", source="repository:digitz"), RepositorySettings(str(root)))


def test_unknown_and_impossible_arguments_are_all_named():
    with pytest.raises(ValidationError) as refusal:
        ModelArgs(name="a/b", source="package:p", max_body_bytes=0, replicas=3)
    assert {fault["loc"] for fault in refusal.value.errors()} == {("name",), ("max_body_bytes",), ("replicas",)}
