"""A checkpoint knows whether it is whole: every file by its bytes and its digest."""

from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.training.manifest import (
    MANIFEST_FILE,
    FileDigest,
    Manifest,
    digests_of,
    faults_of,
    read_manifest,
    write_manifest,
)

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256 of b"hello", as in every table


@pytest.fixture
def written(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"hello")
    (tmp_path / "part" / "rest.pt").write_bytes(b"rest")
    facts = {"epoch": 3, "step": 7}
    write_manifest(tmp_path, Manifest(layout="whole", world=2, facts=facts, files=digests_of(tmp_path)))
    return tmp_path


def test_every_file_is_named_by_its_place_with_its_digest_and_the_manifest_is_not(written: Path) -> None:
    manifest = read_manifest(written)
    assert sorted(manifest.files) == ["model.safetensors", "part/rest.pt"]
    assert manifest.files["model.safetensors"] == FileDigest(bytes=5, sha256=HELLO)
    assert manifest.facts == {"epoch": 3, "step": 7}
    assert faults_of(written, manifest) == []


def test_each_fault_is_a_sentence(written: Path) -> None:
    manifest = read_manifest(written)
    (written / "model.safetensors").write_bytes(b"hallo")
    assert faults_of(written, manifest) == ["model.safetensors is not what was written: its sha256 differs"]
    (written / "model.safetensors").write_bytes(b"hell")
    (written / "part" / "rest.pt").unlink()
    assert faults_of(written, manifest) == [
        "model.safetensors has 4 bytes, 5 were written",
        "part/rest.pt is missing",
    ]
    assert faults_of(written, manifest, ["part/rest.pt"]) == ["part/rest.pt is missing"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"layout": "whole"}', b"[]"])
def test_what_is_no_manifest_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(InvalidInput, match=r"manifest\.json of .* is not one of ours"):
        read_manifest(tmp_path)


def test_a_directory_without_one_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="so it is no checkpoint"):
        read_manifest(tmp_path)
