"""What a run hears and tells: reasons to stop, nodes that go, how far it came, and where it ended."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from app.training import board, ray_fabric
from app.training.attempts import Attempt, Seen, read_attempts
from app.training.notices import Notices
from app.training.position import Position
from app.training.ray_fabric import Liaison
from app.training.run_files import RunFiles
from app.training.state import TrainState


@dataclass
class Cluster:
    """Its keys, a clock, and what it knows of a node that goes."""

    keys: dict[bytes, bytes] = field(default_factory=dict)
    now_s: float = 1000.0
    preemption: Any = None
    notices: Notices = field(default_factory=Notices)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    store = SimpleNamespace(
        _internal_kv_put=lambda key, value, namespace: cluster.keys.__setitem__(key, value),
        _internal_kv_get=lambda key, namespace: cluster.keys.get(key),
        _internal_kv_del=lambda key, namespace: cluster.keys.pop(key, None),
        _internal_kv_exists=lambda key, namespace: key in cluster.keys,
    )
    context = SimpleNamespace(preemption_context=SimpleNamespace())
    monkeypatch.setattr(board, "internal_kv", store)
    monkeypatch.setattr(ray_fabric, "OF_THIS_WORKER", cluster.notices)
    monkeypatch.setattr(ray_fabric.time, "time", lambda: cluster.now_s)

    def train_context() -> Any:
        context.preemption_context.preemption_info = cluster.preemption
        return context

    monkeypatch.setattr(ray_fabric, "_train_context", train_context)
    return cluster


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    files = RunFiles.open(str(tmp_path), "digits-1")
    files.claim_attempt()
    return files


def state(epoch: int = 0, step: int = 0) -> TrainState:
    module = nn.Linear(1, 1)
    return TrainState(module, SGD(module.parameters()), position=Position(epoch, step))


def test_a_reason_to_stop_is_passed_on_and_forgotten_when_the_run_begins_again(
    cluster: Cluster, files: RunFiles
) -> None:
    board.begin("digits-1")
    liaison = Liaison("digits-1", 1, files)
    liaison.listen()
    assert cluster.notices.stop_reason == ""
    board.ask_to_stop("digits-1", "paused")
    liaison.listen()
    assert cluster.notices.stop_reason == "paused"
    board.begin("digits-1")
    assert board.reason_to_stop("digits-1") == ""


def test_who_is_running_can_be_asked(cluster: Cluster) -> None:
    assert not board.is_running("digits-1")
    board.begin("digits-1")
    assert board.is_running("digits-1")
    board.end("digits-1")
    assert not board.is_running("digits-1")
    assert cluster.keys == {}


def test_a_notice_of_preemption_asks_for_a_checkpoint_now_and_one_before_the_end(
    cluster: Cluster, files: RunFiles
) -> None:
    liaison = Liaison("digits-1", 1, files)
    cluster.preemption = SimpleNamespace(deadline_ms=1_030_000)
    asked = []
    for now_s in (1000.0, 1001.0, 1024.0, 1025.5, 1029.0):
        cluster.now_s = now_s
        liaison.listen()
        asked.append(cluster.notices.save_reason)
        cluster.notices.saved()
    assert asked == ["a node is about to be taken away", "", "", "a node is taken away", ""]


def test_a_notice_without_a_deadline_asks_once(cluster: Cluster, files: RunFiles) -> None:
    liaison = Liaison("digits-1", 1, files)
    cluster.preemption = SimpleNamespace(deadline_ms=None)
    liaison.listen()
    assert cluster.notices.save_reason
    cluster.notices.saved()
    liaison.listen()
    assert not cluster.notices.save_reason


def test_an_attempt_is_on_record_with_what_was_seen_of_the_one_before(cluster: Cluster, files: RunFiles) -> None:
    first = Liaison("digits-1", 1, files)
    training = state()
    first.follow(training, Attempt(world=2, begun_s=990.0, epoch_steps=10))
    first.tell()
    assert read_attempts(files.attempts())[1].first_step_s is None
    training.position, cluster.now_s = Position(0, 3), 1001.0
    first.tell()
    training.position, cluster.now_s = Position(1, 4), 1010.0
    first.tell()
    assert read_attempts(files.attempts())[1].first_step_s == 1001.0

    files.claim_attempt()
    second = Liaison("digits-1", 2, files)
    resumed = state(1, 0)
    second.follow(resumed, Attempt(world=3, begun_s=1020.0, epoch_steps=10))
    found = read_attempts(files.attempts())[2]
    assert (found.world, found.resumed_after) == (3, 10)
    assert found.before == Seen(attempt=1, epoch=1, step=4, at_s=1010.0)
    assert found.last is None


def test_a_run_that_ends_says_where(cluster: Cluster, files: RunFiles) -> None:
    liaison = Liaison("digits-1", 1, files)
    liaison.start()
    training = state()
    liaison.follow(training, Attempt(world=1, begun_s=990.0, epoch_steps=10))
    training.position = Position(2, 0)
    liaison.close()
    assert read_attempts(files.attempts())[1].last == Seen(attempt=1, epoch=2, step=0, at_s=1000.0)


def test_a_cluster_that_does_not_answer_costs_the_run_nothing(
    cluster: Cluster, files: RunFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    liaison = Liaison("digits-1", 1, files)
    liaison.start()
    liaison.follow(state(), Attempt(world=1, begun_s=990.0, epoch_steps=10))

    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionError("the store is gone")

    monkeypatch.setattr(board.internal_kv, "_internal_kv_put", gone)
    liaison.close()
    assert "the store is gone" in caplog.text
