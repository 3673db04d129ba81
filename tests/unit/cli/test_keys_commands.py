"""keys create, list and revoke: a key is shown once, and what was done is in the audit log."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import settings

Call = Callable[..., Any]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("JOULEKEEPER_ACCESS_DIR", str(tmp_path / "access"))
    settings.cache_clear()
    yield tmp_path / "access"
    settings.cache_clear()


def test_a_key_is_made_listed_and_revoked(directory: Path, call: Call) -> None:
    made = json.loads(
        call("keys", "create", "--tenant", "acme", "--scope", "infer:minilm", "--scope", "read:report", "--json").stdout
    )
    assert made["key"].startswith(f"jk_{made['id']}_")
    assert made["scopes"] == ["infer:minilm", "read:report"]
    listed = call("keys", "list")
    assert made["id"] in listed.stdout
    assert "good" in listed.stdout
    assert made["key"][16:] not in listed.stdout
    assert call("keys", "revoke", made["id"]).exit_code == 0
    (row,) = json.loads(call("keys", "list", "--json").stdout)
    assert (row["state"], row["tenant"], row["expires"]) == ("revoked", "acme", "never")
    entries = [json.loads(line) for line in (directory / "audit.jsonl").read_text().splitlines()]
    assert [(entry["decision"], entry["key"]) for entry in entries] == [
        ("created", made["id"]),
        ("revoked", made["id"]),
    ]
    for path in directory.iterdir():
        assert made["key"][16:] not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600


def test_without_json_the_key_alone_is_on_stdout(directory: Path, call: Call) -> None:
    made = call("keys", "create", "--tenant", "acme", "--scope", "admin", "--expires", "30d")
    assert made.stdout.startswith("jk_")
    assert len(made.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["create", "--tenant", "a b", "--scope", "admin"], "a tenant is"),
        (["create", "--tenant", "acme", "--scope", "all"], "scopes must be"),
        (["create", "--tenant", "acme", "--scope", "admin", "--expires", "soon"], "--expires must be"),
        (["create", "--tenant", "acme", "--scope", "admin", "--expires", "2020-01-01"], "later than now"),
        (["revoke", "000000000000"], "no key '000000000000'"),
    ],
)
def test_mistakes_are_one_line(directory: Path, call: Call, words: list[str], says: str) -> None:
    done = call("keys", *words)
    assert done.exit_code == 1
    assert says in done.stderr
    assert not (directory / "keys.json").exists()
