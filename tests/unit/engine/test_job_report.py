"""The formulas of a job's report, with figures that can be checked by hand."""

import pytest

from app.engine.job_report import (
    compression_ratio,
    energy_utilisation,
    scheduling_efficiency,
    utilisation,
)
from app.errors import InvalidInput


def test_utilisation_is_used_over_total() -> None:
    assert utilisation(30, 40) == 0.75
    assert utilisation(50, 40) == 1.0  # two clocks
    assert utilisation(0, 0) is None


def test_scheduling_efficiency_is_finished_over_submitted() -> None:
    assert scheduling_efficiency(1, 4) == 0.25
    assert scheduling_efficiency(0, 0) == 0.0
    with pytest.raises(InvalidInput, match="0 to submitted, got 5 of 4"):
        scheduling_efficiency(5, 4)


def test_energy_utilisation_is_work_over_all_energy() -> None:
    assert energy_utilisation(60, 80) == 0.75
    assert energy_utilisation(0, 0) is None


def test_compression_ratio_is_what_was_saved_over_what_there_was() -> None:
    assert compression_ratio(400, 100) == 0.75
    assert compression_ratio(100, 110) == pytest.approx(-0.1)
    with pytest.raises(InvalidInput, match="got 0 and 5 bytes"):
        compression_ratio(0, 5)
