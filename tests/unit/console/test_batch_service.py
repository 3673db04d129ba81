"""Who a batch's requests are known as, and that the service of a console can be asked before a cluster is there."""

import math

import pytest
from fastapi.testclient import TestClient

from app.access.gate import Gate
from app.access.snapshot import AccessSnapshot, KeyGrant, PollAnswer
from app.clock import ManualClock
from app.config import Settings
from app.console.app import Console
from app.console.batches.records import BatchRecord
from app.console.batches.service import BatchService
from app.errors import Forbidden

BATCH = BatchRecord("batch_1", "acme", "key1", "/v1/embeddings", "file", "24h", 0.0, 1.0)


def service(directory, gate):
    return BatchService(Settings(state_dir=directory), ManualClock(), gate, None, None, None)


def guarded(**grants):
    gate = Gate.required(ManualClock())
    gate.renew(PollAnswer(AccessSnapshot("one", grants)))
    return gate


def test_with_access_open_nothing_is_shown(tmp_path):
    assert service(tmp_path, Gate.open("default")).credential(BATCH, ["minilm"]) is None


def test_a_ticket_names_the_models_without_versions(tmp_path):
    import jwt

    gate = guarded(key1=KeyGrant(bytes(32), "acme", frozenset({"infer:*"}), math.inf))
    ticket = service(tmp_path, gate).credential(BATCH, ["minilm@2", "minilm", "pycoder"])
    payload = jwt.decode(ticket.removeprefix("Bearer "), options={"verify_signature": False})
    assert (payload["tenant"], payload["scope"], payload["sub"]) == ("acme", "infer:minilm infer:pycoder", "batch_1")


@pytest.mark.parametrize("who", ["revoked", ""])
def test_a_batch_of_a_key_that_is_no_more_is_forbidden(tmp_path, who):
    batch = BatchRecord("batch_1", "acme", who, "/v1/embeddings", "file", "24h", 0.0, 1.0)
    with pytest.raises(Forbidden, match="was revoked"):
        service(tmp_path, guarded()).credential(batch, ["minilm"])


def test_batches_can_be_asked_for_before_a_cluster_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    from app.config import settings

    settings.cache_clear()
    try:
        with TestClient(Console().__serve_build_asgi_app__(), client=("127.0.0.1", 4711)) as client:
            assert client.get("/v1/batches").json()["data"] == []
            assert client.get("/v1/batches/batch_1").json()["error"]["type"] == "invalid_request_error"
    finally:
        monkeypatch.undo()
        settings.cache_clear()
