"""The repository where there is no rename: claims, cards last, a cache between. fsspec's memory is the cloud."""

import os
import threading
import time
from pathlib import Path

import fsspec
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import BooksDamaged, InvalidInput, NotFound, Unavailable
from app.models.card import ModelCard
from app.models.remote_storage import RemoteStorage
from app.models.repository import ModelRepository

CARD = ModelCard(
    name="tiny",
    created="",
    runner="builtin",
    inputs=(TensorSpec("x", Datatype.FP32, (-1,)),),
    outputs=(TensorSpec("y", Datatype.FP32, (-1,)),),
)


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def repository(cache: Path, max_cache_bytes: int = 10**9) -> ModelRepository:
    return ModelRepository(RemoteStorage("memory://models", cache, max_cache_bytes))


def writing(content: bytes):
    return lambda directory: (directory / "model.safetensors").write_bytes(content)


def content(found: ModelRepository, version: str) -> bytes:
    with found.open("tiny", version) as (_, directory):
        return (directory / "model.safetensors").read_bytes()


def test_what_is_published_is_read_through_the_cache_once(memory, tmp_path):
    found = repository(tmp_path)
    assert [found.publish("tiny", writing(each), CARD) for each in (b"one", b"two")] == ["1", "2"]
    assert (found.names(), found.versions("tiny"), content(found, "2")) == (["tiny"], ["1", "2"], b"two")
    assert sorted(path for path in memory.find("/models")) == [
        "/models/tiny/1/card.yaml",
        "/models/tiny/1/model.safetensors",
        "/models/tiny/2/card.yaml",
        "/models/tiny/2/model.safetensors",
    ]
    memory.rm("/models/tiny/2/model.safetensors")
    assert content(found, "2") == b"two"


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_told(memory, tmp_path):
    found = repository(tmp_path)
    found.publish("tiny", writing(b"one"), CARD)
    assert content(found, "1") == b"one"
    (copy,) = tmp_path.rglob("model.safetensors")
    copy.write_bytes(b"0ne")
    assert content(found, "1") == b"one"
    memory.pipe_file("/models/tiny/1/model.safetensors", b"0ne")
    copy.write_bytes(b"0ne")
    with pytest.raises(BooksDamaged, match="was altered"):
        content(found, "1")
    memory.rm("/models/tiny/1/model.safetensors")
    copy.unlink()
    with pytest.raises(BooksDamaged, match="lacks a file"):
        content(found, "1")


def test_two_who_publish_at_once_keep_different_numbers(memory, tmp_path):
    found = repository(tmp_path)
    versions = []
    threads = [
        threading.Thread(
            target=lambda number=number: versions.append((found.publish("tiny", writing(b"%d" % number), CARD), number))
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({version for version, _ in versions}) == 8
    assert all(content(found, version) == b"%d" % number for version, number in versions)


def test_a_number_that_somebody_claimed_is_left_to_them(memory, tmp_path):
    memory.pipe_file("/models/tiny/1/.claim-theirs", b"")
    assert repository(tmp_path).publish("tiny", writing(b"mine"), CARD) == "2"
    assert repository(tmp_path).versions("tiny") == ["2"]


def test_a_publication_that_fails_half_way_is_no_version(memory, tmp_path, monkeypatch):
    found = repository(tmp_path)
    monkeypatch.setattr(RemoteStorage, "_put", lambda *_: (_ for _ in ()).throw(OSError("link down")))
    with pytest.raises(Unavailable, match="link down"):
        found.publish("tiny", writing(b"x"), CARD)
    assert memory.find("/models") == []
    with pytest.raises(NotFound):
        found.versions("tiny")


def test_a_deleted_number_that_comes_again_is_not_read_from_the_old_copy(memory, tmp_path):
    found = repository(tmp_path)
    found.publish("tiny", writing(b"old"), CARD)
    assert content(found, "1") == b"old"
    found.delete("tiny", "1")
    assert found.names() == []
    assert found.publish("tiny", writing(b"new"), CARD) == "1"
    assert content(found, "1") == b"new"


def test_the_cache_keeps_its_bound_and_spares_what_was_just_opened(memory, tmp_path):
    found = repository(tmp_path, max_cache_bytes=250)
    for _ in range(3):
        found.publish("tiny", writing(b"x" * 100), CARD)
    content(found, "1")
    content(found, "2")
    (first,), (second,) = tmp_path.glob("*/tiny/1-*"), tmp_path.glob("*/tiny/2-*")
    old = time.time() - 3600
    os.utime(first, (old, old))
    content(found, "3")
    # 300 bytes are too many; 2 was opened a moment ago, 1 an hour ago.
    assert (first.exists(), second.exists()) == (False, True)


def test_a_root_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="'nosuch://x/models' cannot be opened"):
        RemoteStorage("nosuch://x/models", tmp_path, 1)


def test_a_variant_is_published_once_and_leaves_the_numbers_alone(memory, tmp_path):
    found = repository(tmp_path)
    found.publish("tiny", writing(b"one"), CARD)
    assert found.publish("tiny", writing(b"few"), CARD, variant="1-int8") == "1-int8"
    with pytest.raises(InvalidInput, match="is there already"):
        found.publish("tiny", writing(b"other"), CARD, variant="1-int8")
    assert (found.versions("tiny"), found.variants("tiny"), found.latest("tiny")) == (["1"], ["1-int8"], "1")
    assert content(found, "1-int8") == b"few"
    assert found.publish("tiny", writing(b"two"), CARD) == "2"
