"""The one table of coefficients: every figure that turns energy, time and hardware into a footprint, and who says so.

Knows nothing of what is computed with them. A key is `group:name`; letter case does not matter. A file of the user
(the same columns; `key` and `value` are enough for a key that the table has) overrides rows and adds new ones.

    >>> coefficients().value("fuel:coal")
    820.0

Raises InvalidInput for a key that the table does not have, offering the nearest ones, and for a file that cannot be
meant, with all its faults. `python -m app.carbon.coefficients` prints the page docs/carbon/coefficients.md.
"""

import csv
import difflib
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from app.errors import InvalidInput

GROUPS = {
    "fuel": "Life-cycle intensity of electricity by fuel",
    "pue": "Total energy of the building over that of its IT equipment",
    "wue": "Water that the site uses for each kWh of IT energy",
    "ewif": "Water that power stations use for each kWh of electricity, by country",
    "making": "Carbon of making hardware, before it is switched on",
    "lifetime": "How long hardware is in use",
}
"""Group to what it is, in the order of the page."""

_COLUMNS = ("key", "value", "unit", "year", "source", "licence", "note")
_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One row of the table."""

    key: str
    value: float
    """>= 0, in `unit`."""
    unit: str
    year: int | None
    """Of the data. None: the user did not say."""
    source: str
    licence: str
    note: str = ""


class Coefficients:
    """The rows by key."""

    def __init__(self, rows: Iterable[Coefficient]) -> None:
        self._rows = {row.key.casefold(): row for row in rows}

    def __iter__(self) -> Iterator[Coefficient]:
        return iter(self._rows.values())

    def row(self, key: str) -> Coefficient:
        """One coefficient with its origin. Raises InvalidInput."""
        found = self.find(key)
        if found is None:
            near = difflib.get_close_matches(key.casefold(), self._rows, n=_NEAREST, cutoff=0.5)
            offer = f"nearest: {', '.join(near)}" if near else f"keys begin with {', '.join(GROUPS)}"
            raise InvalidInput(
                f"there is no coefficient {key!r}; {offer}; all are listed in docs/carbon/coefficients.md, "
                "and JOULEKEEPER_COEFFICIENTS names a file that adds more"
            )
        return found

    def find(self, key: str) -> Coefficient | None:
        """One coefficient; None where the table does not have it."""
        return self._rows.get(key.strip().casefold())

    def value(self, key: str) -> float:
        """The figure alone, in the unit of its row. Raises InvalidInput."""
        return self.row(key).value

    def keys(self, prefix: str = "") -> tuple[str, ...]:
        """All keys that begin with `prefix`, in the order of the table."""
        return tuple(row.key for row in self if row.key.startswith(prefix))

    def with_overrides(self, rows: Iterable[Mapping[str, str]], where: str) -> "Coefficients":
        """These with the rows of a user's file in their place. Raises InvalidInput naming `where` and every fault."""
        found, faults = dict(self._rows), []
        for number, row in enumerate(rows, start=2):
            try:
                coefficient = _overriding(row, found)
                found[coefficient.key.casefold()] = coefficient
            except ValueError as error:
                faults.append(f"line {number}: {error}")
        if faults:
            raise InvalidInput(f"coefficients in {where}: {'; '.join(faults)}")
        return Coefficients(found.values())


@functools.cache
def coefficients(path: str = "") -> Coefficients:
    """The built-in table, with the rows of the CSV file at `path` over it. Raises InvalidInput."""
    text = resources.files("app.carbon").joinpath("coefficients.csv").read_text(encoding="utf-8")
    built_in = Coefficients(map(_built_in, csv.DictReader(text.splitlines())))
    if not path:
        return built_in
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"JOULEKEEPER_COEFFICIENTS: {path} cannot be read: {error}") from error
    return built_in.with_overrides(csv.DictReader(lines), path)


def _built_in(row: Mapping[str, str]) -> Coefficient:
    texts = (row["unit"], int(row["year"]), row["source"], row["licence"], row["note"])
    return Coefficient(row["key"], float(row["value"]), *texts)


def _overriding(row: Mapping[str, str], known: Mapping[str, Coefficient]) -> Coefficient:
    """The row of a user; what it leaves out stays as it was. Raises ValueError."""
    unknown = set(row) - set(_COLUMNS)
    if unknown:
        raise ValueError(f"columns are {', '.join(_COLUMNS)}, got also {', '.join(sorted(map(str, unknown)))}")
    key = (row.get("key") or "").strip()
    if key.partition(":")[0].casefold() not in GROUPS or not key.partition(":")[2]:
        raise ValueError(f"key must be GROUP:NAME with a group of {', '.join(GROUPS)}, got {key!r}")
    value = _number(row.get("value") or "")
    before = known.get(key.casefold())
    if before is None and not row.get("unit"):
        raise ValueError(f"{key} is new: it needs a unit")
    base = before or Coefficient(key, value, "", None, "", "")
    return replace(
        base,
        value=value,
        unit=row.get("unit") or base.unit,
        year=int(row["year"]) if row.get("year") else None,
        source=row.get("source") or "configured",
        licence=row.get("licence") or "",
        note=row.get("note") or "",
    )


def _number(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"value must be >= 0, got {text}")
    return value


def reference() -> str:
    """The page docs/carbon/coefficients.md, generated from the table."""
    table = coefficients()
    parts = [_PREFACE]
    for group, meaning in GROUPS.items():
        rows = (table.row(key) for key in table.keys(f"{group}:"))
        parts.append(f"\n## {group}\n\n{meaning}.\n\n{_TITLES}" + "".join(map(_line, rows)))
    return "".join(parts)


_TITLES = "| key | value | unit | year | source | licence | note |\n|---|---|---|---|---|---|---|\n"


def _line(row: Coefficient) -> str:
    cells = (f"`{row.key}`", f"{row.value:g}", row.unit, row.year, row.source, row.licence, row.note)
    return f"| {' | '.join(map(str, cells))} |\n"


_PREFACE = """\
<!-- Generated by `python scripts/gen_reference.py`; a test fails when it differs. -->
# Coefficients

Every figure that turns energy, time and hardware into a footprint ([how](footprint.md)), with its unit, the year of
the data, its source and licence. The intensity of grids is a table of its own ([zones](../reference/carbon-zones.md)).

To use others, name a CSV file with the same columns in `JOULEKEEPER_COEFFICIENTS`: its rows replace rows of this table
by their key or add new ones. `key` and `value` are enough for a key that is here; a new one needs a `unit`:

```csv
key,value,unit,year,source
making:server,1300,kgCO2e,2026,data sheet of our servers
ewif:aws:eu-west-1,1.5,L/kWh,2026,our supplier
```

How to read it
- Water at the power stations is looked up by the zone itself (`ewif:aws:eu-west-1`), then by the country, then as
  `ewif:world`. Differences between countries are mostly evaporation of reservoirs.
- The IPCC's medians have wide ranges (coal 740 to 910, gas 410 to 650, hydropower 1 to 2200).
- There are no residual mixes: the European ones may be copied with permission only. A market-based intensity comes
  from your contract (`JOULEKEEPER_INTENSITY_MARKET`).
- The making of a server varies by an order of magnitude with its memory and disks; take the figure of its maker
  where there is one.
"""

if __name__ == "__main__":
    print(reference(), end="")
