"""Who may read the ledger: nobody but its owner, whatever the umask, and its write-ahead log neither."""

import os
from pathlib import Path

from app.ledger.store import Store


def test_the_ledger_and_what_lies_beside_it_are_its_owners_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        store = Store(f"sqlite:///{tmp_path / 'books' / 'books.sqlite'}")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "books").iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes.keys() >= {"books.sqlite", "books.sqlite-wal"}
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "books").stat().st_mode & 0o777 == 0o700
