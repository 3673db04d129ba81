"""The table of metrics: sound in itself, true to the conventions, and what the reference page says."""

import re
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.metrics import hw_metrics

from app.telemetry.instruments import METRICS
from app.telemetry.reference import reference
from app.telemetry.snapshot import Balance, DeviceFigures, LedgerSnapshot, MeterHealth

FULL = LedgerSnapshot(
    balances=(
        Balance(
            dict.fromkeys(("account", "node", "model", "version", "tenant", "job", "kind", "attempt", "request"), "x"),
            1,
            1,
            "counter",
        ),
    ),
    devices=(
        DeviceFigures("GPU-1", "gpu", "H100", "a", "counter", 1, "nvidia", 1, 0.5, 1, 2, 40.0, "ok", 1, 1.0, False),
    ),
    meters=(MeterHealth("a", True, 0.1, 1, 2),),
    warnings=1,
)


class RecordingMeter:
    """Notes which instrument the conventions' own factory asks for."""

    def __getattr__(self, method):
        def create(**arguments):
            self.made = (method.removeprefix("create_").removeprefix("observable_"), arguments)

        return create


def test_names_are_unique():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_point_has_only_documented_attributes_and_a_full_snapshot_fills_them_all(metric):
    points = list(metric.read(FULL))
    assert points
    assert all(set(attributes) == set(metric.attributes) for _, attributes in points)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_descriptions_are_sentences(metric):
    assert re.fullmatch(r"[A-Z].*\.", metric.description)


@pytest.mark.parametrize("metric", [m for m in METRICS if m.standard], ids=lambda metric: metric.name)
def test_a_standard_metric_has_the_unit_and_instrument_of_the_conventions(metric):
    meter = RecordingMeter()
    create = getattr(hw_metrics, f"create_{metric.name.replace('.', '_')}")
    try:
        create(meter)
    except TypeError:  # gauges of the conventions want callbacks
        create(meter, None)
    kind, arguments = meter.made
    assert (arguments["name"], arguments["unit"]) == (metric.name, metric.unit)
    assert kind.replace("_", "") == metric.kind


def test_metrics_outside_the_conventions_carry_our_prefix():
    for metric in METRICS:
        assert metric.standard == metric.name.startswith("hw.")
        assert metric.standard or metric.name.startswith("joulekeeper.")


def test_no_metric_is_labelled_by_request():
    for metric in METRICS:
        assert not {name for name in metric.attributes if "receipt" in name or "request" in name}


def test_the_reference_page_is_what_the_table_generates():
    page = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "run: python -m app.telemetry.reference > docs/reference/metrics.md"
    )


def test_the_reference_page_names_every_metric_in_both_spellings():
    page = reference()
    for metric in METRICS:
        assert f"## `{metric.name}`" in page
        assert f"`{metric.prometheus_name}`" in page
