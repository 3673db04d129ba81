"""What leaves by OTLP, as a real receiver gets it: once over gRPC, once over HTTP."""

import re

import pytest

from app.errors import InvalidInput
from app.telemetry import tracing
from app.telemetry.exporter import MetricsExporter
from app.telemetry.generation import (
    Asked,
    GenerationMeter,
    Served,
    request_attributes,
    response_attributes,
    span_name,
)
from app.telemetry.generation_table import GENERATION_METRICS
from app.telemetry.instruments import METRICS
from app.telemetry.snapshot import Balance, DeviceFigures, LedgerSnapshot, MeterHealth
from tests.fixtures.otlp import RECEIVERS, attributes

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER_SPAN_ID = "b7ad6b7169203331"

SNAPSHOT = LedgerSnapshot(
    balances=(
        Balance(
            {"account": "request", "node": "a", "model": "minilm", "version": "1", "tenant": "acme"},
            energy_uj=1_234_567,
            carbon_ugco2e=164_609,
            grade="counter",
            uncertainty_uj=21,
        ),
        # Two attempts of one job are one point: 2 J + 3 J.
        Balance({"account": "job", "node": "a", "job": "digits", "kind": "train"}, 2_000_000, 266_667, "modelled"),
        Balance({"account": "job", "node": "a", "job": "digits", "kind": "train"}, 3_000_000, 400_000, "modelled"),
        Balance({"account": "idle", "node": "b", "kind": "watched"}, 1, 0, "integrated"),
    ),
    devices=(
        DeviceFigures(
            uuid="GPU-1",
            kind="gpu",
            name="H100",
            vendor="nvidia",
            node="a",
            grade="counter",
            energy_uj=6_234_567,
            power_mw=345_600,
            utilization=0.75,
            memory_used_bytes=2_000_000_000,
            memory_total_bytes=80_000_000_000,
            temperature_c=51.0,
            update_period_ns=100_000_000,
            counter_to_power=0.98,
            disputed=False,
        ),
        DeviceFigures("rapl:dram-0", "dram", "DRAM", "b", "counter", energy_uj=1),
    ),
    meters=(MeterHealth("a", present=True, last_heard_s=0.4, batches=17, waiting=2),),
    warnings=1,
)


@pytest.fixture(params=sorted(RECEIVERS))
def receiver(request, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with RECEIVERS[request.param]() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
        yield running


@pytest.fixture
def pushed(receiver):
    exporter = MetricsExporter(lambda: SNAPSHOT)
    exporter.flush()
    yield receiver
    exporter.close()


@pytest.fixture
def traced(receiver):
    tracing.shutdown()
    yield receiver
    tracing.shutdown()


def test_every_metric_of_the_table_arrives_with_its_unit_description_and_kind(pushed):
    received = pushed.metrics()
    assert set(received) == {metric.name for metric in METRICS}
    for metric in METRICS:
        got = received[metric.name]
        assert (got.unit, got.description) == (metric.unit, metric.description)
        assert got.WhichOneof("data") == ("gauge" if metric.kind == "gauge" else "sum")
        if metric.kind != "gauge":
            assert got.sum.is_monotonic == (metric.kind == "counter")


def test_the_sum_of_attributed_energy_is_that_of_the_books_to_the_microjoule(pushed):
    energy = pushed.points("joulekeeper.energy")
    # 1.234567 J + 5 J + 0.000001 J
    assert sum(round(joules * 1e6) for _, joules in energy) == 6_234_568
    assert sum(round(joules * 1e6) for _, joules in pushed.points("hw.energy")) == 6_234_568


def test_points_carry_the_attributes_of_their_account_and_no_others(pushed):
    energy = {points["joulekeeper.account"]: (points, joules) for points, joules in pushed.points("joulekeeper.energy")}
    assert energy["request"] == (
        {
            "joulekeeper.account": "request",
            "joulekeeper.node": "a",
            "joulekeeper.model": "minilm",
            "joulekeeper.version": "1",
            "joulekeeper.tenant": "acme",
            "joulekeeper.grade": "counter",
        },
        1.234567,
    )
    assert energy["job"][1] == 5.0


def test_carbon_arrives_in_grams_and_uncertainty_in_joules(pushed):
    carbon = {points["joulekeeper.account"]: grams for points, grams in pushed.points("joulekeeper.carbon")}
    assert carbon == {"request": 0.164609, "job": 0.666667, "idle": 0.0}
    uncertain = {p["joulekeeper.account"]: j for p, j in pushed.points("joulekeeper.energy.uncertainty")}
    assert uncertain == {"request": 0.000021, "job": 0.0, "idle": 0.0}


def test_hardware_figures_arrive_in_the_units_of_the_conventions(pushed):
    gpu = {"hw.id": "GPU-1", "hw.name": "H100", "hw.vendor": "nvidia", "joulekeeper.node": "a"}
    assert pushed.points("hw.power") == [({**gpu, "hw.type": "gpu"}, 345.6)]
    assert pushed.points("hw.gpu.utilization") == [(gpu, 0.75)]
    assert pushed.points("hw.gpu.memory.usage") == [(gpu, 2e9)]
    assert pushed.points("hw.gpu.memory.limit") == [(gpu, 8e10)]
    assert pushed.points("hw.gpu.memory.utilization") == [(gpu, 0.025)]
    types = {points["hw.id"]: points["hw.type"] for points, _ in pushed.points("hw.energy")}
    assert types == {"GPU-1": "gpu", "rapl:dram-0": "memory"}


def test_the_sender_is_joulekeeper_unless_the_environment_names_it(receiver, monkeypatch):
    exporter = MetricsExporter(lambda: SNAPSHOT)
    exporter.close()
    assert receiver.resource()["service.name"] == "joulekeeper"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=lab,deployment.environment=test")
    exporter = MetricsExporter(lambda: SNAPSHOT)
    exporter.close()
    assert receiver.resource()["service.name"] == "lab"
    assert receiver.resource()["deployment.environment"] == "test"


def test_metrics_are_pushed_at_the_interval_of_the_environment(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    exporter = MetricsExporter(lambda: SNAPSHOT)
    assert receiver.wait_for(lambda: receiver.messages >= 3)
    exporter.close()


def test_headers_of_the_environment_reach_the_receiver(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=lab")
    exporter = MetricsExporter(lambda: SNAPSHOT)
    exporter.close()
    assert receiver.headers[-1]["x-tenant"] == "lab"


def test_six_thousand_accounts_arrive_one_by_one_in_messages_of_bearable_size(receiver):
    many = LedgerSnapshot(
        balances=tuple(
            Balance({"account": "job", "node": "n", "tenant": "t" * 40, "job": f"job-{i}"}, i, 0, "counter")
            for i in range(6_000)
        )
    )
    exporter = MetricsExporter(lambda: many)
    exporter.flush()
    points = receiver.points("joulekeeper.energy")
    exporter.close()
    assert len(points) == 6_000
    assert sum(round(joules * 1e6) for _, joules in points) == 5_999 * 6_000 // 2
    assert receiver.messages > 1


def test_a_span_arrives_as_child_of_the_caller_with_its_energy(traced):
    headers = {"TraceParent": f"00-{TRACE_ID}-{CALLER_SPAN_ID}-01", "tracestate": "vendor=1", "accept": "*/*"}
    with tracing.request_span("minilm infer", headers) as span:
        span.set("joulekeeper.energy_uj", 1200)
        span.set("joulekeeper.receipt_id", "r-1")
        out = span.headers
    tracing.flush()
    [got] = traced.spans()
    assert got.name == "minilm infer"
    assert got.kind == got.SPAN_KIND_SERVER
    assert got.trace_id.hex() == TRACE_ID
    assert got.parent_span_id.hex() == CALLER_SPAN_ID
    assert attributes(got.attributes) == {"joulekeeper.energy_uj": 1200, "joulekeeper.receipt_id": "r-1"}
    assert out == {"traceparent": f"00-{TRACE_ID}-{got.span_id.hex()}-01", "tracestate": "vendor=1"}
    assert got.status.code == got.status.STATUS_CODE_UNSET
    assert traced.resource()["service.name"] == "joulekeeper"


def test_context_is_read_from_metadata_pairs_in_bytes_as_well(traced):
    with tracing.request_span("call", [(b"traceparent", f"00-{TRACE_ID}-{CALLER_SPAN_ID}-01".encode())]):
        pass
    tracing.flush()
    assert traced.spans()[0].parent_span_id.hex() == CALLER_SPAN_ID


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 32 + f"-{CALLER_SPAN_ID}-01"])
def test_without_a_valid_context_a_span_begins_its_own_trace(traced, traceparent):
    with tracing.request_span("call", {"traceparent": traceparent}) as span:
        out = span.headers["traceparent"]
    tracing.flush()
    [got] = traced.spans()
    assert got.parent_span_id == b""
    assert re.fullmatch(f"00-{got.trace_id.hex()}-{got.span_id.hex()}-0[13]", out)


def test_a_caller_that_does_not_sample_is_not_sampled_but_still_answered(traced):
    with tracing.request_span("call", {"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN_ID}-00"}) as span:
        assert re.fullmatch(f"00-{TRACE_ID}-[0-9a-f]{{16}}-00", span.headers["traceparent"])
    tracing.flush()
    assert traced.spans() == []


def test_a_failure_of_ours_marks_the_span_and_passes_through(traced):
    with pytest.raises(RuntimeError, match="broken"), tracing.request_span("call"):
        raise RuntimeError("broken")
    tracing.flush()
    [got] = traced.spans()
    assert (got.status.code, got.status.message) == (got.status.STATUS_CODE_ERROR, "broken")
    assert attributes(got.attributes)["error.type"] == "RuntimeError"
    assert [event.name for event in got.events] == ["exception"]


def test_a_fault_of_the_caller_is_named_but_is_no_failure_of_the_server(traced):
    with pytest.raises(InvalidInput), tracing.request_span("call"):
        raise InvalidInput("shape must be [-1], got [2, 3]")
    tracing.flush()
    [got] = traced.spans()
    assert got.status.code == got.status.STATUS_CODE_UNSET
    assert attributes(got.attributes) == {"error.type": "InvalidInput"}


def test_spans_that_were_not_flushed_leave_at_shutdown(traced):
    with tracing.request_span("last words"):
        pass
    tracing.shutdown()
    assert [span.name for span in traced.spans()] == ["last words"]


def test_what_a_replica_generated_arrives_as_the_conventions_have_it(receiver):
    asked = Asked("chat", "pycoder", "pycoder@1", stream=True, max_tokens=9)
    served = Served(2.0, 10, 5, 4, 1.2, ("stop",), "chatcmpl-1", 3_000_000, 2_000_000)
    meter = GenerationMeter()
    meter.note(asked, served)
    meter.close()
    arrived = receiver.metrics()
    assert set(arrived) == {metric.name for metric in GENERATION_METRICS}
    (point,) = arrived["gen_ai.server.time_to_first_token"].histogram.data_points
    assert (point.count, point.sum) == (1, pytest.approx(1.2))
    assert attributes(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "joulekeeper",
        "gen_ai.request.model": "pycoder",
        "gen_ai.response.model": "pycoder@1",
    }
    resource = attributes(receiver.resource_metrics[-1].resource.attributes)
    assert resource["service.instance.id"]
    with tracing.request_span(span_name(asked)) as span:
        for name, value in (request_attributes(asked) | response_attributes(served)).items():
            span.set(name, value)
    tracing.flush()
    tracing.shutdown()
    assert receiver.wait_for(lambda: bool(receiver.resource_spans))
    (found,) = receiver.resource_spans[-1].scope_spans[0].spans
    assert found.name == "chat pycoder"
    reasons = next(each for each in found.attributes if each.key == "gen_ai.response.finish_reasons")
    assert [each.string_value for each in reasons.value.array_value.values] == ["stop"]
