"""E = P x t from samples against the books, and the report that shows it."""

import pytest

from app.engine.job_report import CurveRow, JobReport, WorkerReport
from app.engine.views import DeviceStatus, Status
from app.models.card import EnergyCard
from app.training.power import PowerSample, ServerRow, sample_of, servers
from app.training.summary import TrainResult, formula_lines, report_lines, summary
from app.units import NS_PER_S


def sample(second: float, power_mw: dict[str, int], booked_uj: dict[str, int]) -> PowerSample:
    return PowerSample(round(second * NS_PER_S), power_mw, booked_uj)


def test_mean_power_times_seconds_stands_beside_what_was_booked_two_seconds_later() -> None:
    # 10 W throughout; the books run two seconds behind, so second s shows 10 J x (s - 2).
    samples = [sample(second, {"a": 10_000}, {"a": max(0, (second - 2) * 10_000_000)}) for second in range(14)]
    (row,) = servers(samples, 1 * NS_PER_S, 11 * NS_PER_S, 2 * NS_PER_S)
    assert row == ServerRow("a", 10_000.0, 10.0, 100_000_000, 100_000_000)
    assert row.difference == 0.0


def test_uneven_samples_are_weighed_by_time() -> None:
    samples = [sample(0, {"a": 0}, {"a": 0}), sample(1, {"a": 10_000}, {"a": 0}), sample(4, {"a": 10_000}, {"a": 0})]
    (row,) = servers(samples, 0, 4 * NS_PER_S, 0)
    # One second rising from 0 to 10 W, three at 10 W: 35 J in 4 s.
    assert row.mean_power_mw == pytest.approx(8750.0)
    assert row.product_uj == 35_000_000


def test_every_server_has_its_row_and_too_few_samples_give_none() -> None:
    samples = [sample(second, {"a": 1000, "b": 2000}, {"a": 0, "b": 0}) for second in range(3)]
    assert [row.node for row in servers(samples, 0, 2 * NS_PER_S, 0)] == ["a", "b"]
    assert servers(samples[:1], 0, 2 * NS_PER_S, 0) == []


def test_a_status_is_summed_over_the_devices_of_a_node() -> None:
    def device(uuid: str, power_mw: int | None, energy_uj: int) -> DeviceStatus:
        return DeviceStatus(
            node="a",
            device_key=uuid,
            kind="gpu",
            name="",
            grade="counter",
            power_mw=power_mw,
            utilization=None,
            memory_used_bytes=None,
            memory_total_bytes=None,
            temperature_c=None,
            energy_uj=energy_uj,
        )

    devices = (device("x", 1500, 10), device("y", None, 5))
    found = sample_of(Status(nodes=(), devices=devices, by_account_uj={}, warnings=()), 7)
    assert found == PowerSample(7, {"a": 1500}, {"a": 15})


def result(**changes: object) -> TrainResult:
    known = {
        "name": "seed",
        "run": "seed-1",
        "seconds": 10.0,
        "metrics": {"r2": 0.95},
        "attempts": 2,
        "resumed_after": 3,
        "energy": EnergyCard(
            energy_uj=60_000_000,
            carbon_ugco2e=8_000,
            grade="counter",
            source="ledger",
            by_phase_uj={"step": 50_000_000},
        ),
        "attempts_uj": {1: 20_000_000, 2: 40_000_000},
        "servers": (
            ServerRow("a", 6000.0, 10.0, 60_000_000, 61_000_000),
            ServerRow("b", 4000.0, 10.0, 40_000_000, 39_000_000),
        ),
        "power_trouble": "",
        "reached": True,
        "published": "seed@1",
    }
    return TrainResult(**{**known, **changes})  # type: ignore[arg-type]


def test_both_formulas_are_shown_with_product_and_measured_energy() -> None:
    assert formula_lines(result()) == [
        "E = P x t (P sampled once a second on all devices, t from submission to the last epoch):",
        "  10.00 W x 10.0 s = 100.0 J; the ledger booked 100.0 J (+0.0 %), of which this job 60.0 J",
        "E = sum over servers of P_server x t:",
        "  a: 6.00 W x 10.0 s = 60.0 J; booked 61.0 J (-1.6 %)",
        "  b: 4.00 W x 10.0 s = 40.0 J; booked 39.0 J (+2.6 %)",
        "  sum 100.0 J; booked 100.0 J",
    ]


def test_without_samples_the_report_says_why() -> None:
    assert formula_lines(result(servers=(), power_trouble="there is no ledger")) == [
        "E = P x t: no power was sampled: there is no ledger"
    ]


def test_the_report_names_attempts_phases_and_the_published_version() -> None:
    assert summary(result(), formulas=False) == [
        "seed-1: r2 0.9500; 2 attempts, 10.0 s",
        "energy: 60 J (1.67e-05 kWh), 8 mgCO2e, grade counter, settled on the ledger",
        "energy by attempt: 1: 20 J, 2: 40 J",
        "energy by phase of the last attempt, as its workers saw it: step 50 J",
        "published seed@1",
    ]


def test_a_run_without_a_meter_says_that_its_energy_is_unknown() -> None:
    nothing = EnergyCard(energy_uj=0, carbon_ugco2e=0, grade="none", source="none")
    lines = summary(result(energy=nothing, attempts_uj={}), formulas=False)
    assert lines[1] == "energy: unknown; no meter was there"


def report(**changes: object) -> JobReport:
    known = {
        "run": "seed-1",
        "job": "seed",
        "tenant": "default",
        "kind": "train",
        "finished": True,
        "started_s": 0.0,
        "seconds": 10.0,
        "attempts": 2,
        "epochs": 5,
        "energy_uj": 60_000_000,
        "carbon_ugco2e": 8_000,
        "grade": "counter",
        "source": "ledger",
        "lost_uj": 0,
        "restart_uj": 0,
        "metrics": {"r2": 0.95},
        "utilisation": 0.625,
        "scheduling_efficiency": 0.5,
        "energy_utilisation": None,
        "compression_ratio": None,
        "embodied_ugco2e": 0,
        "sci_per_epoch_ugco2e": 1_600.0,
        "sci_per_model_ugco2e": 8_000.0,
        "curve": tuple(
            CurveRow(
                epoch=epoch,
                attempt=1,
                spent_uj=epoch * 12_000_000,
                energy_uj=1,
                metrics={"r2": 0.9 + epoch / 100},
            )
            for epoch in range(1, 6)
        ),
        "workers": (
            WorkerReport(worker=0, energy_uj=1, step_s=5.0, waiting_s=0.5, waiting_uj=250_000),
            WorkerReport(worker=1, energy_uj=1, step_s=5.0, waiting_s=1.5, waiting_uj=750_000),
        ),
    }
    return JobReport.model_validate({**known, **changes})


def test_the_report_tells_ratios_sci_waiting_and_what_each_quarter_of_the_epochs_cost() -> None:
    assert report_lines(report()) == [
        "utilisation 62.5%, scheduling efficiency 50.0%",
        "SCI (operational): 1.6 mgCO2e per epoch, 8 mgCO2e per model",
        "workers waited 2.0 s for slower ones, which took 1 J",
        "energy to accuracy: 24 J: r2 0.9200; 36 J: r2 0.9300; 48 J: r2 0.9400; 60 J: r2 0.9500 "
        "(`joulekeeper jobs report seed-1` has all)",
    ]


def test_a_report_without_a_meter_has_neither_sci_nor_a_curve_of_joules() -> None:
    nothing = {"energy_uj": 0, "sci_per_epoch_ugco2e": None, "sci_per_model_ugco2e": None, "workers": ()}
    assert report_lines(report(**nothing)) == ["utilisation 62.5%, scheduling efficiency 50.0%"]
