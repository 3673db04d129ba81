"""Which files a source has, and how they are dealt out."""

import sysconfig

import pytest

from app.data.listing import Piece, chunks, pieces_of, root_of
from app.data.spec import Source
from app.errors import InvalidInput, TooLarge


def source(url, **changes):
    return Source(url=str(url), licence="CC0-1.0", **changes)


def test_files_are_listed_by_path_by_what_they_match(tmp_path):
    for name in ("b.py", "a/c.py", "a/test/d.py", "e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = pieces_of(source(tmp_path, include=("*.py",), exclude=("*/test/*",)))
    assert found == [Piece("a/c.py", "a/c.py", 6), Piece("b.py", "b.py", 4)]


def test_a_source_can_be_one_file(tmp_path):
    (tmp_path / "one.csv").write_text("a,b\n")
    assert pieces_of(source(tmp_path / "one.csv")) == [Piece("", "one.csv", 4)]


def test_the_standard_library_and_files_of_packages_have_urls_of_their_own():
    assert root_of("stdlib:")[1] == sysconfig.get_path("stdlib")
    digits = pieces_of(source("package:sklearn/datasets/data/digits.csv.gz"))
    assert [piece.name for piece in digits] == ["digits.csv.gz"]


@pytest.mark.parametrize("url", ["package:no_such_package/x", "package:../etc/passwd", "nothing://x", "/no/such/place"])
def test_a_source_that_is_not_there_is_named(url):
    with pytest.raises(InvalidInput):
        pieces_of(source(url))


def test_nothing_that_matches_and_files_too_large_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("12345")
    with pytest.raises(InvalidInput, match="has no file that matches"):
        pieces_of(source(tmp_path, include=("*.txt",)))
    monkeypatch.setattr("app.data.listing.MAX_FILE_BYTES", 4)
    with pytest.raises(TooLarge, match=r"a\.py has 5 bytes, more than 4"):
        pieces_of(source(tmp_path))


def test_chunks_keep_the_order_and_their_bound():
    pieces = [Piece(name, name, size) for name, size in [("a", 3), ("b", 3), ("c", 9), ("d", 1), ("e", 1)]]
    assert [[piece.name for piece in chunk] for chunk in chunks(pieces, 6)] == [["a", "b"], ["c"], ["d", "e"]]
    assert list(chunks([], 6)) == []
