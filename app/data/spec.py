"""Spec files of `joulekeeper data prepare`: which data, how they are cleaned, checked, de-duplicated, where they go.

Knows nothing of Ray. `deployments/data/stdlib.yaml` is the example to start from.

    spec = load_spec(Path("deployments/data/stdlib.yaml"))
    spec.source.url, spec.deduplicate.near.similarity         # ("stdlib:", 0.8)

Raises InvalidInput listing all mistakes, each with its path, its value, the bound and what to do.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.training.faults import checked, read_yaml


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """Where raw data come from."""

    url: str = Field(min_length=1)
    """A file or directory that pyarrow opens; `stdlib:`, the source of the Python that runs; or `package:NAME/PATH`, a
    file or directory of an installed package. Every node must see the same."""
    format: Literal["files", "lines", "jsonl", "csv", "parquet"] = "files"
    """`files`: a text a file. `lines`: a text a line. The others have columns; csv without a header has f0, f1, ..."""
    header: bool = True
    """Whether the first line of a csv names its columns."""
    include: tuple[str, ...] = ("*",)
    """Paths below `url` of which one pattern must match; `*` stands for slashes, too."""
    exclude: tuple[str, ...] = ()
    """Paths of which none may match."""
    origin: str = ""
    """For the cards of models: where the data can be had. Empty: the URL."""
    licence: str = Field(min_length=1)
    """As the cards of models show it: an SPDX name where there is one."""


class Texts(_Part):
    """Each record is a text."""

    kind: Literal["texts"] = "texts"
    text: str = "text"
    """Column of the text, where there are columns."""
    name: str = ""
    """Column of its name; empty: path and number."""


class Rows(_Part):
    """Each record is a row of numbers with a label."""

    kind: Literal["rows"] = "rows"
    label: str
    """Column of the class or of the value."""
    label_is: Literal["class", "value"] = "class"
    features: tuple[str, ...] = ()
    """Columns of numbers, or one column of lists of them; empty: all but the label."""


Content = Annotated[Texts | Rows, Field(discriminator="kind")]


class Clean(_Part):
    """What is done to every text. Rows of numbers become FP32, and nothing else."""

    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    line_ends: bool = True
    """CRLF and CR become LF."""
    control: bool = True
    """Control characters other than tab and line feed, and byte-order marks, go."""
    trailing_space: bool = True
    """Blanks at the end of lines, and empty lines at the end of the text, go."""


class Validate(_Part):
    """What a record must be. One that is not is left out, counted and listed."""

    min_chars: int = Field(default=1, ge=0)
    max_chars: int = Field(default=10_000_000, ge=1)
    max_line_chars: int = Field(default=0, ge=0)
    """0: any length."""
    python: bool = False
    """Whether Python must be able to parse the text."""
    minimum: float | None = None
    maximum: float | None = None
    """Bounds of the numbers of a row; what is not finite is always refused."""
    classes: int = Field(default=0, ge=0)
    """Labels are 0 .. classes - 1; 0: as many as the largest label says."""
    max_faulty_share: float = Field(default=0.05, ge=0, le=1)
    """Of all records; where more are faulty, nothing is written."""


class Near(_Part):
    """Texts alike in most of their words: MinHash (Broder, 1997) finds the pairs, their word runs decide."""

    similarity: float = Field(default=0.8, ge=0.5, lt=1)
    """Jaccard similarity of two texts' runs of words from which one of them goes."""
    words: int = Field(default=5, ge=1, le=50)
    """Words in a run."""
    hashes: int = Field(default=128, ge=16, le=1024)
    """Of a signature: more find more surely and cost more."""
    seed: int = Field(default=1, ge=0)


class Deduplicate(_Part):
    """Of records that are the same, the first by path and place stays."""

    exact: bool = True
    near: Near | None = None
    """Of texts; none: only equal ones go."""


class Write(_Part):
    """Where the result goes."""

    url: str = Field(min_length=1)
    """A directory that pyarrow opens: an absolute path, s3://, gs://, hdfs://, fsspec+SCHEME://."""
    zstd_level: int = Field(default=3, ge=1, le=19)
    row_group_rows: int = Field(default=1024, ge=1)
    """Training reads as much at a time."""
    replace: bool = False
    """Whether a data set that is there already is replaced."""


class PrepareSpec(_Part):
    """One preparation of data."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    """For people and the ledger; a run is `<name>-<UTC time>`."""
    kind: Literal["data"] = "data"
    tenant: str = Field(default="default", min_length=1, max_length=64)
    """Who is charged."""
    source: Source
    content: Content
    clean: Clean = Clean()
    checks: Validate = Validate()
    deduplicate: Deduplicate = Deduplicate()
    write: Write
    chunk_mb: int = Field(default=16, ge=1, le=512)
    """Source files are taken together up to so many 10^6 bytes: one task, and one file of the result."""
    cpu: float = Field(default=1.0, gt=0)
    """CPUs that a task reserves."""

    @model_validator(mode="after")
    def _fits_together(self) -> "PrepareSpec":
        is_text_source = self.source.format in ("files", "lines")
        if isinstance(self.content, Rows) and is_text_source:
            raise ValueError(f"source.format: {self.source.format} gives texts; rows need jsonl, csv or parquet")
        if isinstance(self.content, Rows) and self.deduplicate.near is not None:
            raise ValueError("deduplicate.near: rows of numbers have no words; remove it")
        return self


def load_spec(path: Path) -> PrepareSpec:
    """The spec in the file at `path`. Raises InvalidInput naming all mistakes."""
    return parse_spec(read_yaml(path, "spec file"), str(path))


def parse_spec(raw: Any, where: str) -> PrepareSpec:
    """The spec in `raw`, a mapping as YAML gives it. Raises InvalidInput naming `where` and all mistakes."""
    return checked(PrepareSpec, raw, f"spec file {where}")
