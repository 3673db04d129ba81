"""Keys: what is kept of one, who may read the file, and that two writers do not undo each other's work."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.access.keys import KeyFile, digest_of_key, id_of_key, new_key
from app.errors import InvalidInput, NotFound

NOW_S = 1_790_000_000.0


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "access" / "keys.json")


def test_a_key_names_itself_and_holds_256_random_bits():
    key_id, key = new_key()
    assert re.fullmatch(rf"jk_{key_id}_[0-9a-f]{{64}}", key)
    assert id_of_key(key) == key_id
    assert len({new_key()[1] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text", ["", "jk_", "jk_0123456789ab", "jk_0123456789ab_short", "Bearer x", "jk_x_" + "0" * 64]
)
def test_what_is_no_key_has_no_id(text: str):
    assert id_of_key(text) == ""


def test_only_the_hash_of_a_key_is_in_the_file_which_only_its_owner_reads(file: KeyFile, tmp_path: Path):
    before = os.umask(0)
    try:
        record, key = file.create("acme", ["infer:minilm", "read:report"], NOW_S, note="ci")
    finally:
        os.umask(before)
    path = tmp_path / "access" / "keys.json"
    assert key not in path.read_text()
    assert key.rpartition("_")[2] not in path.read_text()
    assert digest_of_key(key).hex() == record.digest in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert file.records() == (record,)
    assert record.digest not in repr(record)
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_revoked_or_expired_key_is_not_good_and_stays_known(file: KeyFile):
    short, _ = file.create("acme", ["admin"], NOW_S, expires_s=NOW_S + 10)
    other, _ = file.create("acme", ["admin"], NOW_S)
    assert short.is_good(NOW_S + 9.9)
    assert not short.is_good(NOW_S + 10)
    assert not file.revoke(other.id, NOW_S + 1).is_good(NOW_S + 1)
    assert file.revoke(other.id, NOW_S + 2).revoked_s == NOW_S + 1
    assert {record.id for record in file.records()} == {short.id, other.id}


def test_what_cannot_be_a_key_is_refused(file: KeyFile):
    with pytest.raises(InvalidInput, match=r"scopes must be .* got 'infer', 'root'"):
        file.create("acme", ["root", "infer"], NOW_S)
    with pytest.raises(InvalidInput, match="got none"):
        file.create("acme", [], NOW_S)
    with pytest.raises(InvalidInput, match="a tenant is"):
        file.create("a b", ["admin"], NOW_S)
    with pytest.raises(InvalidInput, match="later than now"):
        file.create("acme", ["admin"], NOW_S, expires_s=NOW_S)
    with pytest.raises(NotFound, match="no key 'ffffffffffff'"):
        file.revoke("ffffffffffff", NOW_S)
    assert file.records() == ()


def test_a_file_that_holds_something_else_is_refused_without_repeating_it(file: KeyFile, tmp_path: Path):
    (tmp_path / "access").mkdir()
    (tmp_path / "access" / "keys.json").write_text('[{"id": "0123456789ab", "digest": "secret"}]')
    with pytest.raises(InvalidInput, match="is no file of keys") as caught:
        file.records()
    assert "secret" not in str(caught.value)


def test_writers_wait_for_each_other(file: KeyFile):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: file.create(f"t{number}", ["admin"], NOW_S)[0], range(16)))
    assert sorted(record.id for record in file.records()) == sorted(record.id for record in made)
