"""The model repository on S3, spoken to by pyarrow, answered by moto's server from its own environment."""

import os
from pathlib import Path

import pytest

from app.models.repository import RepositorySettings, open_repository
from tests.fixtures.s3_server import KEY, S3Server
from tests.unit.models.test_remote_storage import CARD, content, writing

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def s3():
    with S3Server() as server:
        server.make_bucket("models")
        yield server


def test_versions_are_published_listed_read_and_deleted(s3, tmp_path: Path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setitem(os.environ, name, KEY)
    url = s3.url("models/ours", keys=False)
    repository = open_repository(RepositorySettings(url, cache=str(tmp_path)))
    assert repository.names() == []
    assert [repository.publish("tiny", writing(each), CARD) for each in (b"one", b"two" * 3_000_000)] == ["1", "2"]
    assert (repository.where, repository.names(), repository.versions("tiny")) == (
        "s3://models/ours",
        ["tiny"],
        ["1", "2"],
    )
    assert content(repository, "2") == b"two" * 3_000_000
    repository.delete("tiny", "2")
    assert repository.versions("tiny") == ["1"]
