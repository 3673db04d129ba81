"""Tracing while nothing asks for it: no import, no cost, no trace. And which variables ask for what."""

import subprocess
import sys
import timeit

import pytest

from app.telemetry import tracing
from app.telemetry.environment import push_protocol

SILENT = """
import sys
from app.telemetry.tracing import flush, request_span, shutdown
with request_span("call", {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}) as span:
    span.set("joulekeeper.energy_uj", 1)
    assert span.headers == {}
flush()
shutdown()
print([name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "grpc", "requests")])
"""


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch):
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "METRICS_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL", "METRICS_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    tracing.shutdown()
    yield
    tracing.shutdown()


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported():
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_an_endpoint_a_span_costs_less_than_two_microseconds():
    def call():
        with tracing.request_span("call", {}) as span:
            span.set("joulekeeper.energy_uj", 1)

    best_s = min(timeit.repeat(call, number=10_000, repeat=10)) / 10_000
    assert best_s < 2e-6


def test_without_an_endpoint_exceptions_pass_through():
    with pytest.raises(KeyError), tracing.request_span("call"):
        raise KeyError("x")


@pytest.mark.parametrize(
    ("variables", "metrics", "traces"),
    [
        ({}, None, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "grpc", "grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "  "}, None, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, None, "grpc"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "http/protobuf",
            "http/protobuf",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            },
            "http/protobuf",
            "grpc",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "none"}, None, "grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "console, otlp"}, "grpc", "grpc"),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, "grpc", None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "prometheus"}, None, "grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "True"}, None, None),
    ],
)
def test_the_standard_variables_decide_what_is_pushed_and_how(monkeypatch, variables, metrics, traces):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (push_protocol("metrics"), push_protocol("traces")) == (metrics, traces)


def test_an_unknown_protocol_is_logged_with_the_known_ones_and_nothing_is_pushed(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    assert push_protocol("metrics") is None
    assert caplog.messages == ["OTLP protocol must be grpc or http/protobuf, got 'http/json'; metrics are not pushed"]
