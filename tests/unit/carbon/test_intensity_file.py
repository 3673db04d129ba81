"""A file of one's own: columns, holes, offsets on the day of a clock change, and every fault named."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.carbon.intensity import IntensityGrade
from app.carbon.providers.file import FileOfIntensity
from app.errors import InvalidInput, Unavailable

HOUR = 3_600_000_000_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


def written(directory: Path, *lines: str, name: str = "grid.csv") -> Path:
    path = directory / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_hours_are_as_wide_as_the_smallest_spacing_and_an_empty_figure_is_a_hole(tmp_path: Path):
    path = written(
        tmp_path,
        "start,g_per_kwh",
        "2026-01-01T00:00:00Z,100",
        "2026-01-01T01:00:00Z,",
        "2026-01-01T02:00:00Z,300",
        "2026-01-01T03:00:00Z,400",
    )
    slots = FileOfIntensity(str(path)).recent(0).slots
    assert [(slot.start_ns, slot.g_per_kwh) for slot in slots] == [
        (at("2026-01-01T00:00:00Z"), 100),
        (at("2026-01-01T02:00:00Z"), 300),
        (at("2026-01-01T03:00:00Z"), 400),
    ]
    assert {slot.end_ns - slot.start_ns for slot in slots} == {HOUR}
    assert {slot.source for slot in slots} == {"file grid.csv"}


def test_the_hour_that_clocks_repeat_is_told_apart_by_its_offset(tmp_path: Path):
    path = written(tmp_path, "start,g_per_kwh", "2026-10-25T02:00:00+02:00,100", "2026-10-25T02:00:00+01:00,200")
    slots = FileOfIntensity(str(path)).recent(0).slots
    assert [(slot.start_ns, slot.g_per_kwh) for slot in slots] == [
        (at("2026-10-25T00:00:00Z"), 100),
        (at("2026-10-25T01:00:00Z"), 200),
    ]


def test_an_instant_without_offset_is_refused(tmp_path: Path):
    path = written(tmp_path, "start,g_per_kwh", "2026-10-25T02:00:00,100")
    with pytest.raises(InvalidInput, match="line 2: the file answers with an instant without offset"):
        FileOfIntensity(str(path)).recent(0)


def test_forecasts_stand_beside_what_was(tmp_path: Path):
    path = written(
        tmp_path,
        "start,end,g_per_kwh,grade",
        "2026-01-01T00:00:00Z,2026-01-01T00:30:00Z,100,estimated",
        "2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,90,forecast",
    )
    file = FileOfIntensity(str(path))
    (known,), (expected,) = file.recent(0).slots, file.forecast(0).slots
    assert (known.g_per_kwh, known.grade, known.end_ns - known.start_ns) == (100, IntensityGrade.ESTIMATED, HOUR // 2)
    assert (expected.g_per_kwh, expected.grade) == (90, IntensityGrade.FORECAST)


def test_a_period_has_the_slots_that_begin_in_it(tmp_path: Path):
    lines = [f"2026-01-01T{hour:02}:00:00Z,{hour}" for hour in range(24)]
    file = FileOfIntensity(str(written(tmp_path, "start,g_per_kwh", *lines)))
    found = file.history(at("2026-01-01T05:00:00Z"), at("2026-01-01T07:00:00Z")).slots
    assert [slot.g_per_kwh for slot in found] == [5, 6]


def test_every_fault_is_named_with_its_place(tmp_path: Path):
    path = written(
        tmp_path,
        "start,g_per_kwh,grade",
        "2026-01-01T00:00:00Z,-5,",
        "yesterday,100,",
        "2026-01-01T01:00:00Z,much,",
        "2026-01-01T02:00:00Z,100,guess",
    )
    with pytest.raises(InvalidInput) as refused:
        FileOfIntensity(str(path)).recent(0)
    told = str(refused.value)
    for words in ("grid.csv", "line 3", "'yesterday'", "got -5", "'much'", "grade must be one of actual, estimated"):
        assert words in told


def test_a_file_without_the_columns_says_which_is_missing(tmp_path: Path):
    path = written(tmp_path, "time,g_per_kwh", "2026-01-01T00:00:00Z,100")
    with pytest.raises(InvalidInput, match="there is no column 'start'"):
        FileOfIntensity(str(path)).recent(0)


def test_a_file_that_is_not_there_is_unavailable(tmp_path: Path):
    with pytest.raises(Unavailable, match=r"nowhere\.csv cannot be read"):
        FileOfIntensity(str(tmp_path / "nowhere.csv")).recent(0)


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path):
    path = written(tmp_path, "start,g_per_kwh", "2026-01-01T00:00:00Z,100")
    file = FileOfIntensity(str(path))
    assert file.recent(0).slots[0].g_per_kwh == 100
    written(tmp_path, "start,g_per_kwh", "2026-01-01T00:00:00Z,250.5")
    assert file.recent(0).slots[0].g_per_kwh == 250.5


def test_parquet_says_the_same_as_csv(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    starts = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(3)]
    columns = {"start": pyarrow.array(starts, pyarrow.timestamp("ns", "UTC")), "g_per_kwh": [1.0, None, 3.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "grid.parquet")
    slots = FileOfIntensity(str(tmp_path / "grid.parquet")).recent(0).slots
    assert [(slot.start_ns, slot.g_per_kwh) for slot in slots] == [
        (at("2026-01-01T00:00:00Z"), 1),
        (at("2026-01-01T02:00:00Z"), 3),
    ]


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "grid.parquet").write_text("start,g_per_kwh")
    with pytest.raises(InvalidInput, match=r"grid\.parquet is no Parquet file"):
        FileOfIntensity(str(tmp_path / "grid.parquet")).recent(0)
