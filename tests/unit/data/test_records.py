"""From files of every format to records, cleaned and checked."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.data.cleaning import clean, clean_text, validate
from app.data.listing import pieces_of
from app.data.reading import read_chunk
from app.data.spec import Clean, Validate, parse_spec
from app.errors import InvalidInput

ROW = {"kind": "rows", "label": "y"}


def read(path, content, number=0, **source):
    raw = {
        "name": "a",
        "source": {"url": str(path), "licence": "CC0-1.0", **source},
        "content": content,
        "write": {"url": "/nowhere"},
    }
    spec = parse_spec(raw, "here")
    return read_chunk(spec, number, pieces_of(spec.source))


def test_files_are_texts_and_one_that_is_not_utf8_is_a_fault(tmp_path):
    (tmp_path / "a.txt").write_text("ä\n")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    table = read(tmp_path, {"kind": "texts"}, number=3)
    assert table["row"].to_pylist() == [3 << 32, (3 << 32) + 1]
    assert table["name"].to_pylist() == ["a.txt", "b.txt"]
    assert table["text"].to_pylist() == ["ä\n", ""]
    assert table["fault"].to_pylist() == [None, "not UTF-8 at byte 0"]


def test_lines_are_texts_but_empty_ones(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    table = read(tmp_path, {"kind": "texts"}, format="lines")
    assert dict(zip(table["name"].to_pylist(), table["text"].to_pylist(), strict=True)) == {
        "a.txt:1": "one",
        "a.txt:3": "two",
    }


def test_jsonl_and_parquet_have_columns(tmp_path):
    rows = [{"id": "p", "body": "x"}, {"id": "q", "body": None}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for format in ("jsonl", "parquet"):
        table = read(tmp_path, {"kind": "texts", "text": "body", "name": "id"}, format=format, include=[f"*.{format}"])
        assert table["name"].to_pylist() == ["p", "q"]
        assert clean(table, Clean())["text"].to_pylist() == ["x", ""]


def test_csv_gives_rows_of_numbers_packed_or_not(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,2,0\n3,4,1\n"))
    table = read(tmp_path, {"kind": "rows", "label": "f2"}, format="csv", header=False)
    assert table["x"].to_pylist() == [[1, 2], [3, 4]]
    assert table["x"].type == pa.list_(pa.float32(), 2)
    assert table["y"].to_pylist() == [0, 1]
    value = read(
        tmp_path, {"kind": "rows", "label": "f2", "label_is": "value", "features": ["f0"]}, format="csv", header=False
    )
    assert (value["x"].to_pylist(), value["y"].to_pylist()) == ([[1], [3]], [[0], [1]])


def test_a_column_of_lists_is_a_row(tmp_path):
    pq.write_table(pa.table({"image": [[1.0, 2.0], [3.0, 4.0]], "y": [1, 0]}), tmp_path / "a.parquet")
    assert read(tmp_path, ROW, format="parquet")["x"].to_pylist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "text", "told"),
    [
        ({"kind": "rows", "label": "z"}, "x,y\n1,2\n", "no column 'z'; it has x, y"),
        (ROW, "x,y\nhello,2\n", "is no number"),
        ({"kind": "texts", "text": "body"}, "x,y\n1,2\n", "no column 'body'"),
    ],
)
def test_what_a_file_has_not_is_named(tmp_path, content, text, told):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidInput, match=told):
        read(tmp_path, content, format="csv")


def test_cleaning_does_what_it_says_and_once():
    text = "\ufeffa \t\r\nb\rc\x00\x0c  \n\n\n"
    cleaned = clean_text(text, Clean())
    assert cleaned == "a\nb\nc\n"
    assert clean_text(cleaned, Clean()) == cleaned
    assert clean_text("e\u0301", Clean()) == "é"
    untouched = Clean(unicode="none", line_ends=False, control=False, trailing_space=False)
    assert clean_text(text, untouched) == text


def table_of(*texts):
    return pa.table(
        {
            "row": range(len(texts)),
            "name": [str(i) for i in range(len(texts))],
            "fault": pa.nulls(len(texts), pa.string()),
            "text": pa.array(texts, pa.large_string()),
        }
    )


def test_texts_are_checked():
    checks = Validate(min_chars=2, max_chars=20, max_line_chars=10, python=True)
    faults = validate(table_of("x = 1", "y", "a" * 21, "b" * 11, "def ("), checks)["fault"].to_pylist()
    assert faults[0] is None
    assert faults[1] == "1 characters, not 2 to 20"
    assert faults[2] == "21 characters, not 2 to 20"
    assert faults[3] == "a line of 11 characters, more than 10"
    assert faults[4].startswith("no Python: ")


def test_rows_are_checked(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n17,0\nnan,1\n2,9\n3,0.5\n")
    table = read(tmp_path, ROW, format="csv")
    faults = validate(table, Validate(minimum=0, maximum=16, classes=3))["fault"].to_pylist()
    assert faults[0] is None
    assert [fault[:15] for fault in faults[1:]] == [
        "a value that is",
        "a value that is",
        "label 9 is no l",
        "label -1 is no ",
    ]


def test_a_fault_of_reading_stays(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff")
    table = read(tmp_path, {"kind": "texts"})
    assert validate(table, Validate(min_chars=5))["fault"].to_pylist() == ["not UTF-8 at byte 0"]
    assert np.all(table["row"].to_numpy() == 0)
