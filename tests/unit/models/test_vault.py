"""Encryption at rest: sealed files, the right key, the wrong key, an altered byte."""

import pytest

from app.errors import BooksDamaged, InvalidInput
from app.models.repository import RepositorySettings, open_repository
from app.models.vault import Vault, new_identity
from tests.unit.models.test_remote_storage import CARD, content, writing

SECRET = b"weights nobody should read" * 10_000


@pytest.fixture
def keys():
    return new_identity()


def settings(root, recipient="", identity=""):
    return RepositorySettings(str(root), recipients=(recipient,) if recipient else (), identity=identity)


def test_only_the_key_reads_what_lies_encrypted(tmp_path, keys):
    identity, recipient = keys
    publisher = open_repository(settings(tmp_path, recipient))
    assert publisher.publish("tiny", writing(SECRET), CARD) == "1"
    stored = {path.name: path.read_bytes() for path in (tmp_path / "tiny" / "1").iterdir()}
    assert sorted(stored) == ["card.yaml", "model.safetensors.age"]
    assert SECRET[:26] not in stored["model.safetensors.age"]
    assert publisher.card("tiny", "1").encryption == "age"
    reader = open_repository(settings(tmp_path, identity=identity))
    with reader.open("tiny", "1") as (card, directory):
        assert list(card.files) == ["model.safetensors"]
        assert (directory / "model.safetensors").read_bytes() == SECRET
        assert str(directory).startswith("/dev/shm/")
    assert not directory.exists()
    with pytest.raises(InvalidInput, match="no key was given"):
        content(publisher, "1")
    with pytest.raises(BooksDamaged, match="encrypted for another key"):
        content(open_repository(settings(tmp_path, identity=new_identity()[0])), "1")


@pytest.mark.parametrize("position", [0, 100, 70_000, -1])
def test_an_altered_byte_does_not_open_whatever_the_card_says(tmp_path, keys, position):
    identity, recipient = keys
    plain = tmp_path / "model.safetensors"
    plain.write_bytes(SECRET)
    vault = Vault((recipient,), identity)
    vault.seal(tmp_path)
    sealed = tmp_path / "model.safetensors.age"
    altered = bytearray(sealed.read_bytes())
    altered[position] ^= 1
    sealed.write_bytes(altered)
    with pytest.raises(BooksDamaged, match="does not open"), vault.opened(tmp_path, [sealed.name]):
        pass


def test_a_file_cut_short_does_not_open(tmp_path, keys):
    identity, recipient = keys
    (tmp_path / "a.json").write_bytes(SECRET)
    vault = Vault((recipient,), identity)
    vault.seal(tmp_path)
    sealed = tmp_path / "a.json.age"
    sealed.write_bytes(sealed.read_bytes()[: 65_536 + 300])
    with pytest.raises(BooksDamaged), vault.opened(tmp_path, [sealed.name]):
        pass


def test_what_is_no_key_is_refused_without_being_shown(keys):
    identity, _ = keys
    with pytest.raises(InvalidInput, match="not an age key") as caught:
        Vault((identity,))
    assert identity not in str(caught.value)
    with pytest.raises(InvalidInput, match="not an age key"):
        Vault((), "AGE-SECRET-KEY-1NOPE")
