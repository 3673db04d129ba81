"""What stands beside carbon in reports and receipts: cost, market-based, water, and whether it was re-priced."""

import csv
import io

from app.cli.rendering import receipt_grid, report_grid
from app.console.exports import report_csv
from app.engine.views import Report
from tests.fixtures.footprints import basis, model_report, receipt

RE_PRICED = "re-priced: the grid data for 33.3% of this energy were revised after they first came"


def priced_report() -> Report:
    report = model_report()
    rows = tuple(
        row.model_copy(update={"cost_micros": 200_000, "market_ugco2e": 5, "water_source_ul": 7}) for row in report.rows
    )
    told = basis(250.0).model_copy(update={"notes": (RE_PRICED,), "revision": 3, "revised_share": 0.333})
    beside = {"cost_micros": 800_000, "currency": "EUR", "market_ugco2e": 48_000_000}
    water = {"water_site_ul": 2_500_000, "water_source_ul": 36_000_000}
    return report.model_copy(update={"rows": rows, "basis": told, **beside, **water})


def test_a_report_shows_what_is_known_and_says_that_it_was_priced_again():
    grid = report_grid(priced_report())
    assert [column.title for column in grid.columns].count("EUR") == 1
    assert all("0.200000" in row for row in grid.rows)
    assert grid.total is not None
    assert "0.800000" in grid.total
    assert "market-based: 48 gCO2e, beside the location-based, never added" in grid.notes
    assert "water: 2.5 L at the site, 36 L at the power stations" in grid.notes
    assert RE_PRICED in grid.notes


def test_a_report_without_terms_beside_carbon_shows_none():
    grid = report_grid(model_report())
    assert not any(note.startswith(("market-based", "water", "re-priced")) for note in grid.notes)
    assert len(grid.columns) == len(grid.rows[0])


def test_every_row_of_a_csv_has_them_and_the_revision():
    first, *_ = csv.DictReader(io.StringIO(report_csv(priced_report())))
    assert (first["cost_micros"], first["currency"], first["market_ugco2e"]) == ("200000", "EUR", "5")
    assert (first["water_site_ul"], first["water_source_ul"]) == ("", "7")
    assert (first["grid_revision"], first["revised_share"]) == ("3", "0.333")


def test_a_receipt_names_its_terms():
    told = basis(400.0).model_copy(update={"notes": (RE_PRICED,)})
    grid = receipt_grid(receipt().model_copy(update={"basis": told, "cost_micros": 12, "currency": "EUR"}))
    facts = dict(grid.rows)
    assert facts["cost"] == "12 millionths of EUR"
    assert grid.notes == ("zone FRA: 400 gCO2e/kWh (grid), PUE 1.25", RE_PRICED)
