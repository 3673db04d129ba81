"""Grid data that come late or are revised, from a server that speaks a provider's API into reports and receipts."""

from pathlib import Path

import pytest

from app.clock import ManualClock
from app.config import Settings
from app.domain.account import request_account
from app.engine.cluster_books import ClusterBooks
from app.ledger.journal import Journal
from app.ledger.store import Store
from app.metering.price_terms import PriceTerms
from app.units import NS_PER_S, UJ_PER_KWH
from tests.fixtures.batches import WALL_NS, body
from tests.fixtures.grid_server import HOUR_NS, KEY, Fault, GridServer

REQUEST = request_account("acme", "a", "1")
GRAM = 1_000_000
HOUR = WALL_NS // HOUR_NS * HOUR_NS
"""The hour in which the energy was used."""


class Grid:
    """What the server holds for true: 100 g/kWh, and whatever it is told of the hour of the energy."""

    def __init__(self) -> None:
        self.of_the_hour: float | None = None

    def __call__(self, start_ns: int) -> float | None:
        return self.of_the_hour if start_ns == HOUR else 100.0


def test_a_report_follows_the_grid_from_nothing_over_a_forecast_to_a_revision(tmp_path: Path):
    truth, clock = Grid(), ManualClock(wall_ns=HOUR + 30 * 60 * NS_PER_S)
    with GridServer(truth, now_ns=clock.wall_ns, forecast=lambda _: 200.0) as server:
        config = Settings(
            state_dir=tmp_path,
            zone="FRA",
            pue=1.25,
            intensity=("electricitymaps:FR",),
            intensity_electricitymaps_url=server.url,
            intensity_electricitymaps_key=KEY,  # type: ignore[arg-type]
        )
        terms = PriceTerms(config, clock)
        books = ClusterBooks(Store(f"sqlite:///{tmp_path / 'books.sqlite'}"), terms.now, clock)
        offset_ns = {"wall_minus_monotonic_ns": HOUR + 60 * NS_PER_S}
        batch = body([(0, 0), (1, 8 * UJ_PER_KWH)], {REQUEST: 8 * UJ_PER_KWH}) | offset_ns
        books.deliver([Journal(tmp_path / "one", "machine:one").append(batch)])

        def told() -> tuple[int, dict[str, float], int]:
            report = books.report("model")
            assert report.basis is not None
            assert report.energy_uj == 8 * UJ_PER_KWH
            return report.carbon_ugco2e // GRAM, report.basis.grades, len(report.basis.notes)

        def later(hours: float) -> None:
            clock.advance(round(hours * HOUR_NS))
            terms.refresh()

        # Nobody has been asked: the yearly figure of France, 56.039 g/kWh.
        assert told() == (round(8 * 1.25 * 56.039), {"yearly": 1.0}, 0)
        later(0.0)
        assert told() == (8 * 200 * 5 // 4, {"forecast": 1.0}, 1)  # not final
        truth.of_the_hour = 300.0
        later(1.0)
        assert told() == (8 * 300 * 5 // 4, {"actual": 1.0}, 0)
        server.fail("electricitymaps", Fault(503))
        truth.of_the_hour = 250.0
        later(1.0)
        assert told() == (8 * 300 * 5 // 4, {"actual": 1.0}, 0)  # what is known holds
        assert any("electricitymaps" in warning for warning in terms.warnings)
        server.fail("electricitymaps", None)
        later(5.0)
        assert told() == (8 * 250 * 5 // 4, {"actual": 1.0}, 1)  # re-priced
        basis = books.report("model").basis
        assert basis is not None
        assert (basis.first_carbon_ugco2e, basis.revised_share) == (8 * 300 * 5 // 4 * GRAM, 1.0)
        assert "re-priced" in basis.notes[0]
        terms.close()


def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="currency"):
        Settings(state_dir=tmp_path, tariff="0.2")
    with pytest.raises(ValueError, match="JOULEKEEPER_HARDWARE: there is no coefficient 'making:h10'"):
        Settings(state_dir=tmp_path, hardware="8*h10")
    with pytest.raises(ValueError, match="cannot be read"):
        Settings(state_dir=tmp_path, coefficients="/none.csv")


def test_water_tariff_and_overrides_come_from_the_settings(tmp_path: Path):
    own = tmp_path / "own.csv"
    own.write_text("key,value,unit\newif:FRA,2,\n")
    config = Settings(state_dir=tmp_path, zone="FRA", pue=1.5, wue=0.5, tariff="0.2 EUR", coefficients=str(own))
    terms = PriceTerms(config, ManualClock()).now()
    assert (terms.water.wue_l_per_kwh, terms.water.ewif_l_per_kwh) == (0.5, 2.0)
    assert terms.tariff is not None
    assert (terms.tariff.currency, terms.pue, terms.is_constant) == ("EUR", 1.5, True)
