"""The model repository on S3, spoken to by pyarrow, answered by moto's server from its own environment."""

import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from app.models.repository import RepositorySettings, open_repository
from scripts.bench.peers.environments import peer_python
from tests.unit.models.test_remote_storage import CARD, content, writing

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def endpoint():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(peer_python("moto").with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                httpx.put(f"http://127.0.0.1:{port}/models", timeout=5).raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "moto's server did not start"
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def test_versions_are_published_listed_read_and_deleted(endpoint, tmp_path: Path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setitem(os.environ, name, "testing")
    url = f"s3://models/ours?scheme=http&region=us-east-1&endpoint_override={endpoint.replace(':', '%3A')}"
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
