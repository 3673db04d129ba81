"""A CSV or Parquet file of one's own: any of the three meanings, history and forecast.

Columns: `start` (ISO 8601 with offset, or a Parquet timestamp with time zone), `g_per_kwh` (gCO2e/kWh; empty: a hole),
and, if wanted, `end` and `grade` (`actual`, `estimated` or `forecast`; without it `actual`). Without `end` a slot is as
wide as the smallest spacing of the file. An instant without offset is refused: on the day that clocks go back, 02:30
happens twice.

    FileOfIntensity("/srv/grid/fr.csv").history(start_ns, end_ns)

A file that was replaced is read again. Raises Unavailable where it cannot be read, InvalidInput naming every fault.
"""

import csv
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from app.carbon.intensity import IntensityGrade, Slot
from app.carbon.providers.base import HOUR_NS, Answer, instant_ns, spacing_ns
from app.carbon.series import ordered
from app.errors import InvalidInput, JoulekeeperError, Unavailable

_SHOWN_FAULTS = 5
_GRADES = (IntensityGrade.ACTUAL, IntensityGrade.ESTIMATED, IntensityGrade.FORECAST)


class FileOfIntensity:
    """One file, which is one zone."""

    offers_forecast = True

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser()
        self._seen: tuple[int, int] = (-1, -1)
        self._slots: tuple[Slot, ...] = ()

    def recent(self, now_ns: int) -> Answer:
        """All of it: reading costs nobody a request."""
        return Answer(tuple(slot for slot in self._read() if slot.grade is not IntensityGrade.FORECAST))

    def history(self, start_ns: int, end_ns: int) -> Answer:
        return Answer(tuple(slot for slot in self.recent(end_ns).slots if start_ns <= slot.start_ns < end_ns))

    def forecast(self, now_ns: int) -> Answer:
        return Answer(tuple(slot for slot in self._read() if slot.grade is IntensityGrade.FORECAST))

    def close(self) -> None:
        """Nothing is held open."""

    def _read(self) -> tuple[Slot, ...]:
        try:
            status = self._path.stat()
            if (status.st_mtime_ns, status.st_size) != self._seen:
                self._slots = self._parsed(_rows(self._path))
                self._seen = (status.st_mtime_ns, status.st_size)
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"{self._path} cannot be read: {error}") from error
        return self._slots

    def _parsed(self, rows: Iterable[Mapping[str, Any]]) -> tuple[Slot, ...]:
        known, faults = [], []
        for number, row in enumerate(rows, start=2):
            try:
                if row.get("g_per_kwh") not in (None, ""):
                    known.append((_instant(row["start"]), row))
            except (JoulekeeperError, KeyError) as error:
                faults.append(f"line {number}: {_said(error)}")
        width_ns = spacing_ns((start for start, _ in known), HOUR_NS)
        slots = []
        for start, row in known:
            try:
                slots.append(self._slot(start, width_ns, row))
            except (JoulekeeperError, ValueError) as error:
                faults.append(f"{row['start']}: {error}")
        if faults:
            more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
            raise InvalidInput(f"{self._path}: {'; '.join(faults[:_SHOWN_FAULTS])}{more}")
        history = (slot for slot in slots if slot.grade is not IntensityGrade.FORECAST)
        forecast = (slot for slot in slots if slot.grade is IntensityGrade.FORECAST)
        return (*ordered(history), *ordered(forecast))

    def _slot(self, start_ns: int, width_ns: int, row: Mapping[str, Any]) -> Slot:
        end_ns = _instant(row["end"]) if row.get("end") not in (None, "") else start_ns + width_ns
        grade = row.get("grade") or IntensityGrade.ACTUAL
        if grade not in _GRADES:
            raise InvalidInput(f"grade must be one of {', '.join(_GRADES)}, got {grade!r}")
        return Slot(start_ns, end_ns, float(row["g_per_kwh"]), IntensityGrade(grade), f"file {self._path.name}")


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            found: list[Mapping[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        except pyarrow.ArrowInvalid as error:
            raise InvalidInput(f"{path} is no Parquet file: {error}") from error
        return found
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _instant(value: object) -> int:
    return instant_ns(value.isoformat() if isinstance(value, datetime) else value, "the file")


def _said(error: Exception) -> str:
    return f"there is no column {error}" if isinstance(error, KeyError) else str(error)
