"""The exporter without a receiver: text for Prometheus, and one snapshot per collection."""

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry import exporter as exporter_module
from app.telemetry.exporter import EXPOSITION_CONTENT_TYPE, MetricsExporter
from app.telemetry.instruments import METRICS
from app.telemetry.snapshot import Balance, DeviceFigures, LedgerSnapshot, MeterHealth


class Books:
    """A source that counts how often it is asked, and shows the count as energy."""

    def __init__(self) -> None:
        self.asked = 0
        self.failing = False

    def __call__(self) -> LedgerSnapshot:
        self.asked += 1
        if self.failing:
            raise RuntimeError("books are closed")
        energy_uj = self.asked * 1_000_000
        return LedgerSnapshot(
            balances=(Balance({"account": "system", "node": "a"}, energy_uj, 7, "counter"),),
            devices=(
                DeviceFigures(
                    "GPU-1",
                    "gpu",
                    'A "quoted" name\n',
                    "a",
                    "counter",
                    energy_uj,
                    "nvidia",
                    1,
                    0.5,
                    1,
                    2,
                    40,
                    "ok",
                    1,
                    1,
                    False,
                ),
            ),
            meters=(MeterHealth("a", True, 0.1, 1, 0),),
            warnings=0,
        )


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def books():
    return Books()


@pytest.fixture
def exporter(books):
    running = MetricsExporter(books)
    yield running
    running.close()


def energy_of(text: str) -> list[float]:
    return [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("joulekeeper_energy_joules_total")
    ]


def test_every_metric_is_in_the_exposition_under_its_documented_name(exporter):
    names = {
        sample.name for family in text_string_to_metric_families(exporter.exposition()) for sample in family.samples
    }
    assert names == {metric.prometheus_name for metric in METRICS} | {"target_info"}


def test_names_end_in_their_unit_and_counters_in_total():
    names = {metric.name: metric.prometheus_name for metric in METRICS}
    assert names["joulekeeper.energy"] == "joulekeeper_energy_joules_total"
    assert names["joulekeeper.carbon"] == "joulekeeper_carbon_grams"
    assert names["hw.gpu.memory.usage"] == "hw_gpu_memory_usage_bytes"
    assert names["hw.gpu.utilization"] == "hw_gpu_utilization"
    assert names["joulekeeper.meter.batches"] == "joulekeeper_meter_batches_total"


def test_label_values_survive_quotes_and_newlines(exporter):
    samples = [
        s
        for f in text_string_to_metric_families(exporter.exposition())
        for s in f.samples
        if s.name == "hw_power_watts"
    ]
    assert samples[0].labels["hw_name"] == 'A "quoted" name\n'


def test_a_scrape_reads_one_snapshot(exporter, books):
    assert energy_of(exporter.exposition()) == [1.0]
    assert energy_of(exporter.exposition()) == [2.0]
    assert books.asked == 2


def test_a_push_and_a_scrape_each_read_their_own_snapshot(books, monkeypatch):
    pushes = InMemoryMetricReader()
    monkeypatch.setattr(exporter_module, "PeriodicExportingMetricReader", lambda *_, **__: pushes)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    exporter = MetricsExporter(books)
    first, second = (pushes.get_metrics_data().to_json() for _ in range(2))
    assert '"value": 1.0' in first
    assert '"value": 2.0' in second
    assert energy_of(exporter.exposition()) == [3.0]
    assert books.asked == 3
    exporter.close()


def test_flushing_does_not_double_what_is_scraped(exporter):
    exporter.flush()
    assert len(energy_of(exporter.exposition())) == 1


def test_a_scrape_raises_what_the_books_raise_and_recovers(exporter, books):
    books.failing = True
    with pytest.raises(RuntimeError, match="books are closed"):
        exporter.exposition()
    books.failing = False
    assert energy_of(exporter.exposition()) == [2.0]


def test_a_push_without_books_is_empty_and_the_next_one_recovers(books, monkeypatch, caplog):
    pushes = InMemoryMetricReader()
    monkeypatch.setattr(exporter_module, "PeriodicExportingMetricReader", lambda *_, **__: pushes)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    exporter = MetricsExporter(books)
    books.failing = True
    assert pushes.get_metrics_data() is None
    assert caplog.messages == ["no snapshot of the books for this export of metrics"]
    books.failing = False
    assert pushes.get_metrics_data() is not None
    exporter.close()


def test_without_a_receiver_nothing_is_pushed_and_nothing_is_logged(exporter, caplog):
    exporter.flush()
    assert caplog.messages == []


def test_the_sdk_can_be_switched_off_as_a_whole(books, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    exporter = MetricsExporter(books)
    assert energy_of(exporter.exposition()) == []
    exporter.close()


def test_two_exporters_do_not_meet(books):
    one, other = MetricsExporter(books), MetricsExporter(books)
    assert len(energy_of(one.exposition())) == len(energy_of(other.exposition())) == 1
    one.close()
    other.close()


def test_the_content_type_is_that_of_the_text_format():
    assert EXPOSITION_CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
