"""Prepared data sets: Parquet files below a URL, and the `dataset.json` that says what they are and that all are there.

Written by app/data, read by training. Knows nothing of Ray, torch or jobs. A URL is what pyarrow opens: a path,
`s3://bucket/place?region=...&endpoint_override=...` (keys from AWS_* variables), `gs://`, `hdfs://host:port/place`, or
`fsspec+SCHEME://` for what fsspec opens.

    prepared = read_prepared("s3://bucket/digits")
    groups = RowGroups("s3://bucket/digits", prepared)
    groups.table(3)["x"]                              # the fourth row group, read when asked for

Raises InvalidInput for a URL that cannot be meant and for a place without a data set, Unavailable where the storage
does not answer or a file is not what was written.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput, Unavailable
from app.models.card import DataCard

MANIFEST = "dataset.json"

_SECRETS = re.compile(r"//[^/@]*@|\?.*$")
_KEPT_GROUPS = 16
_HDFS_HELP = (
    "pyarrow speaks to HDFS through Hadoop's libhdfs and a Java machine, and cannot load them here: install Hadoop and "
    "Java, and set JAVA_HOME, HADOOP_HOME, CLASSPATH (`hadoop classpath --glob`) and, if libhdfs.so is elsewhere, "
    "ARROW_LIBHDFS_DIR on every node; or write to another filesystem"
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreparedFile(_Part):
    """One Parquet file."""

    path: str
    """Below the data set's URL."""
    bytes: int = Field(ge=0)
    sha256: str
    row_groups: tuple[int, ...]
    """Rows of each of its row groups, in order."""


class PreparedData(_Part):
    """What `dataset.json` says. It is written last: without it there is no data set."""

    format: Literal[1] = 1
    name: str
    run: str
    """Under which the ledger knows the preparation."""
    kind: Literal["texts", "rows"]
    """`texts`: columns `name` and `text`. `rows`: `x`, a list of FP32, and `y`, an INT64 class or a list of FP32."""
    origin: str
    licence: str
    columns: int = Field(default=0, ge=0)
    """Values in `x`."""
    outputs: int = Field(default=0, ge=0)
    """Classes, or values in `y`."""
    classes: bool = False
    """Whether `y` is a class."""
    files: tuple[PreparedFile, ...]
    left_out: str = ""
    """Below the URL: a line of JSON for every record that was left out, why, and what stayed for it."""

    @property
    def rows(self) -> int:
        return sum(sum(each.row_groups) for each in self.files)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over the digests of the files, in their order."""
        return f"sha256:{hashlib.sha256(''.join(each.sha256 for each in self.files).encode()).hexdigest()}"

    def card(self, url: str, split: str, test_share: float, seed: int) -> DataCard:
        """For the card of a model that learned from it; `split`: what was held out, in words."""
        return DataCard(
            name=shown(url),
            origin=self.origin,
            licence=self.licence,
            digest=self.digest,
            rows=self.rows,
            split=f"test_share={test_share}, seed={seed}: {split}",
            test_share=test_share,
            seed=seed,
        )


def shown(url: str) -> str:
    """`url` for people and logs: without keys and options."""
    return _SECRETS.sub(lambda found: "//" if found[0].startswith("//") else "", url).rstrip("/")


def open_url(url: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem that `url` names, and the path there. Raises InvalidInput or Unavailable."""
    try:
        files, path = pafs.FileSystem.from_uri(url)
    except (ValueError, ImportError, TypeError) as error:
        raise InvalidInput(
            f"{shown(url)!r} is no URL that pyarrow opens: {error}; use an absolute path, s3://, gs://, hdfs:// or "
            "fsspec+SCHEME://"
        ) from error
    except OSError as error:
        if url.startswith(("hdfs://", "viewfs://")) and not pa.have_libhdfs():
            raise Unavailable(f"{shown(url)} cannot be opened: {_HDFS_HELP}") from error
        raise Unavailable(f"{shown(url)} cannot be opened: {error}") from error
    return files, path.rstrip("/")


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """What a filesystem raises below `url`, as Unavailable."""
    try:
        yield
    except pa.ArrowException as error:
        raise Unavailable(f"{shown(url)}: a file is not what was written: {error}; prepare the data again") from error
    except OSError as error:
        raise Unavailable(
            f"{shown(url)} cannot be reached: {type(error).__name__}: {error}; check the URL, its credentials and the "
            "network"
        ) from error


def find_prepared(url: str) -> PreparedData | None:
    """The data set below `url`; None where none that is finished lies. Raises InvalidInput for one that is not ours."""
    files, path = open_url(url)
    with reaching(url):
        place = f"{path}/{MANIFEST}"
        if not files.get_file_info(place).is_file:
            return None
        with files.open_input_stream(place) as stream:
            content = stream.read()
    try:
        return PreparedData.model_validate(json.loads(content))
    except ValueError as error:
        raise InvalidInput(f"{shown(url)}/{MANIFEST} is not one of ours: {error}") from error


def read_prepared(url: str) -> PreparedData:
    """The data set below `url`. Raises InvalidInput where none that is finished lies."""
    found = find_prepared(url)
    if found is None:
        raise InvalidInput(
            f"{shown(url)} has no {MANIFEST}, so it holds no finished data set; `joulekeeper data prepare` makes one"
        )
    return found


class RowGroups:
    """The row groups of a data set by number, in the order of its files; the last used stay in memory.

    Pages carry checksums, which are compared when they are read. Files stay open.
    """

    def __init__(self, url: str, prepared: PreparedData, kept: int = _KEPT_GROUPS) -> None:
        """`kept` >= 1 row groups stay in memory."""
        self._url, self._prepared = url, prepared
        self._places = [
            (number, group) for number, file in enumerate(prepared.files) for group in range(len(file.row_groups))
        ]
        self.sizes: npt.NDArray[np.int64] = np.array(
            list(itertools.chain.from_iterable(file.row_groups for file in prepared.files)), dtype=np.int64
        )
        """Rows of each."""
        self.starts: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        """Number of the first row of each; at the end the number of rows."""
        self.table = lru_cache(maxsize=kept)(self._read)
        self._files: dict[int, Any] = {}

    def columns(self, number: int, names: Sequence[str]) -> pa.Table:
        """Some columns of row group `number`, which is not kept."""
        return self._read(number, names)

    def _read(self, number: int, names: Sequence[str] | None = None) -> pa.Table:
        place, group = self._places[number]
        with reaching(self._url):
            return self._open(place).read_row_group(group, columns=list(names) if names else None)

    def _open(self, place: int) -> Any:
        import pyarrow.parquet as pq

        if place not in self._files:
            files, path = open_url(self._url)
            source = files.open_input_file(f"{path}/{self._prepared.files[place].path}")
            self._files[place] = pq.ParquetFile(source, page_checksum_verification=True)
        return self._files[place]
