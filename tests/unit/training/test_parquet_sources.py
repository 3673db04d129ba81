"""Prepared data sets as training reads them: whole or refused, row group by row group, divided by the seed alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from app.data.spec import Write
from app.data.writing import put, write_block
from app.errors import InvalidInput, Unavailable
from app.training.job import TrainJob
from app.training.parquet_files import MANIFEST, PreparedData, RowGroups, open_url, read_prepared, shown
from app.training.parquet_fit import check_data
from app.training.parquet_rows import open_rows
from app.training.parquet_texts import open_texts
from app.training.texts import is_held_out

ROWS, FIRST, GROUP = 1000, 620, 50


def prepared(directory: Path, tables: list[pa.Table], **facts) -> str:
    """A data set of `tables`, a file each."""
    url = str(directory)
    written = [
        write_block(table, Write(url=url, row_group_rows=GROUP), f"part-{number}.parquet")
        for number, table in enumerate(tables)
    ]
    files = tuple(each.file for each in written)
    data = PreparedData(name="a", run="a-1", origin="o", licence="CC0-1.0", files=files, **facts)
    put(url, MANIFEST, data.model_dump_json().encode())
    return url


def rows_of(first: int, count: int) -> pa.Table:
    x = np.arange(first, first + count, dtype=np.float32)[:, None] + np.array([0, 0.5], dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 2)
    return pa.table({"name": [f"n{i}" for i in range(count)], "x": lists, "y": np.arange(first, first + count) % 3})


@pytest.fixture
def url(tmp_path):
    return prepared(
        tmp_path, [rows_of(0, FIRST), rows_of(FIRST, ROWS - FIRST)], kind="rows", columns=2, outputs=3, classes=True
    )


def test_a_data_set_says_what_it_is(url):
    data = read_prepared(url)
    assert (data.rows, data.kind, data.columns, data.outputs) == (ROWS, "rows", 2, 3)
    assert data.files[0].row_groups == (50,) * 12 + (20,)
    assert data.digest.startswith("sha256:")


def test_rows_are_read_as_they_were_written_and_divided_by_the_seed(url):
    data = open_rows(url, test_share=0.2, seed=7)
    assert len(data.train_x) + len(data.test_y) == ROWS
    assert 150 < len(data.test_y) < 250
    x = data.train_x[:]
    assert x.dtype == np.float32
    assert np.array_equal(x[:, 1], x[:, 0] + 0.5)
    assert np.array_equal(data.train_y[:], x[:, 0].astype(int) % 3)
    assert not set(x[:, 0]) & set(data.test_x[:, 0])
    again, other = open_rows(url, test_share=0.2, seed=7), open_rows(url, test_share=0.2, seed=8)
    assert np.array_equal(again.test_x, data.test_x)
    assert not np.array_equal(other.test_x, data.test_x)
    assert data.card.rows == ROWS
    assert data.card.split == f"test_share=0.2, seed=7: {len(data.test_y)} rows held out"


def test_an_epoch_takes_every_row_once_and_few_row_groups_at_a_time(url):
    data = open_rows(url, test_share=0.2, seed=7)
    order = data.order(seed=1, epoch=0)
    assert sorted(order) == list(range(len(data.train_x)))
    assert np.array_equal(order, data.order(seed=1, epoch=0))
    assert not np.array_equal(order, data.order(seed=1, epoch=1))
    first_rows = [*range(0, FIRST, GROUP), *range(FIRST, ROWS, GROUP)]
    groups = np.searchsorted(first_rows, data.train_x[order][:, 0], side="right")
    assert all(len(set(groups[start : start + 40])) <= 16 for start in range(0, len(order), 40))
    assert 4 < len(set(groups[:200])) <= 8


def test_only_row_groups_in_use_are_read_and_each_once_an_epoch(url, monkeypatch):
    read: list[int] = []
    whole = RowGroups._read

    def noting(self, number, names=None):
        read.append(number)
        return whole(self, number, names)

    monkeypatch.setattr(RowGroups, "_read", noting)
    data = open_rows(url, test_share=0.2, seed=7)
    assert read == []
    order = data.order(seed=1, epoch=0)
    for start in range(0, len(order), 32):
        data.train_x[order[start : start + 32]], data.train_y[order[start : start + 32]]
    assert sorted(read) == list(range(21))


def test_texts_are_held_out_by_name_and_read_one_by_one(tmp_path):
    names = [f"n{i}" for i in range(120)]
    table = pa.table({"name": names, "text": pa.array([f"text {name}" for name in names], pa.large_string())})
    texts = open_texts(prepared(tmp_path, [table], kind="texts"), test_share=0.3, seed=5)
    out = [name for name in names if is_held_out(name, 0.3, 5)]
    assert texts.held_out == tuple(f"text {name}" for name in out)
    assert list(texts.train) == [f"text {name}" for name in names if name not in out]
    assert list(texts.train[1:3]) == list(texts.train)[1:3]
    assert texts.card.rows == 120


def test_what_is_no_data_set_is_refused(tmp_path, url):
    with pytest.raises(InvalidInput, match=r"has no dataset\.json"):
        read_prepared(str(tmp_path / "elsewhere"))
    with pytest.raises(InvalidInput, match="holds rows of numbers"):
        open_texts(url, test_share=0.2, seed=7)
    with pytest.raises(InvalidInput, match="leaves nothing to hold out"):
        open_rows(url, test_share=1e-9, seed=7)
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 2}))
    with pytest.raises(InvalidInput, match="is not one of ours"):
        read_prepared(url)
    with pytest.raises(InvalidInput, match="is no URL that pyarrow opens"):
        read_prepared("relative/place")


def job_of(url, **changes):
    mlp = {"architecture": "mlp", "sizes": [2, 4, 3]}
    raw = {"name": "a", "model": mlp, "data": {"source": f"parquet:{url}"}, "loss": "cross_entropy", "epochs": 1}
    return TrainJob.model_validate(raw | changes)


def test_a_job_that_does_not_fit_is_told_every_reason(tmp_path, url):
    check_data(job_of(url))
    with pytest.raises(InvalidInput) as caught:
        check_data(job_of(url, model={"architecture": "mlp", "sizes": [64, 10]}, loss="mse"))
    for part in (
        "rows have 2 values, the model takes 64",
        "need 3 outputs, the model gives 10",
        "cross_entropy, not mse",
    ):
        assert part in str(caught.value)
    with pytest.raises(InvalidInput, match=r"has no dataset\.json"):
        check_data(job_of(tmp_path / "elsewhere"))


def test_a_file_that_was_altered_is_noticed_when_it_is_read(tmp_path, url):
    path = tmp_path / "part-0.parquet"
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(Unavailable):
        open_rows(url, test_share=0.2, seed=7).train_x[:]


def test_hdfs_without_its_library_says_what_to_install():
    if pa.have_libhdfs():
        pytest.skip("Hadoop's libhdfs is installed here")
    with pytest.raises(Unavailable, match="libhdfs and a Java machine") as caught:
        open_url("hdfs://user:secret@namenode:8020/data")
    assert "secret" not in str(caught.value)


def test_keys_and_options_are_not_shown():
    assert shown("s3://key:secret@bucket/place?endpoint_override=x&region=y") == "s3://bucket/place"
    assert shown("/some/place/") == "/some/place"
