"""The table of coefficients: every row sound and sourced, found by key, overridden by a file of the user."""

import math
from pathlib import Path

import pytest

from app.carbon.coefficients import GROUPS, coefficients, reference
from app.errors import InvalidInput

# Read by hand from the sources that the rows cite.
SPOT_CHECKS = [
    ("fuel:coal", 820, "gCO2e/kWh"),
    ("fuel:nuclear", 12, "gCO2e/kWh"),
    ("ewif:FRA", 3.6737, "L/kWh"),
    ("ewif:world", 3.908, "L/kWh"),
    ("pue:average", 1.56, "ratio"),
    ("making:h100", 164, "kgCO2e"),  # 1312 kg / 8
    ("lifetime:server", 4, "years"),
]


@pytest.mark.parametrize(("key", "value", "unit"), SPOT_CHECKS)
def test_a_row_carries_the_figure_of_its_source(key: str, value: float, unit: str):
    row = coefficients().row(key)
    assert (row.value, row.unit) == (value, unit)


def test_every_row_is_sound_and_says_where_it_comes_from():
    for row in coefficients():
        assert row.key.partition(":")[0] in GROUPS, row
        assert math.isfinite(row.value), row
        assert row.value > 0, row
        assert row.unit, row
        assert row.year is not None, row
        assert 2014 <= row.year <= 2026, row
        assert row.source, row
        assert row.licence, row


def test_keys_are_found_in_any_case_and_listed_by_group():
    table = coefficients()
    assert table.row("EWIF:fra") is table.row("ewif:FRA")
    assert table.keys("pue:") == ("pue:average", "pue:aws", "pue:azure", "pue:gcp")


def test_an_unknown_key_is_refused_with_the_nearest_ones():
    with pytest.raises(InvalidInput, match=r"no coefficient 'making:h10'; nearest: making:h100"):
        coefficients().value("making:h10")


def test_a_file_of_the_user_overrides_and_adds_rows(tmp_path: Path):
    path = tmp_path / "own.csv"
    path.write_text(
        "key,value,unit,year,source\n"
        "Making:Server,1300,,2026,data sheet\n"
        "ewif:aws:eu-west-1,1.5,L/kWh,2026,our supplier\n"
    )
    table = coefficients(str(path))
    server = table.row("making:server")
    assert (server.value, server.unit, server.year, server.source) == (1300, "kgCO2e", 2026, "data sheet")
    assert table.value("ewif:aws:eu-west-1") == 1.5
    assert table.value("making:gpu") == coefficients().value("making:gpu")
    assert coefficients().value("making:server") == 1000


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path):
    path = tmp_path / "own.csv"
    path.write_text("key,value\nmaking:server,-1\nserver,5\nmaking:tape,5\nfuel:coal,much\n")
    with pytest.raises(InvalidInput) as refused:
        coefficients(str(path))
    message = str(refused.value)
    assert "line 2: value must be >= 0, got -1" in message
    assert "line 3: key must be GROUP:NAME" in message
    assert "line 4: making:tape is new: it needs a unit" in message
    assert "line 5: could not convert" in message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        coefficients(str(tmp_path / "none.csv"))


def test_the_page_is_what_the_table_generates():
    page = Path(__file__).parents[3] / "docs" / "carbon" / "coefficients.md"
    assert page.read_text(encoding="utf-8") == reference(), "run: python scripts/gen_reference.py"
