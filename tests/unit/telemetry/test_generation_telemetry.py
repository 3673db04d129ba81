"""The metrics and span attributes of text generation: as the conventions have them, and as a request was."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from app.telemetry import generation_table
from app.telemetry.generation import (
    Asked,
    GenerationMeter,
    Served,
    request_attributes,
    response_attributes,
    span_name,
)
from app.telemetry.generation_table import GENERATION_METRICS

ASKED = Asked(
    "chat", "pycoder", "pycoder@int8", stream=True, choices=2, max_tokens=9, temperature=0.0, top_p=0.5, top_k=3,
    seed=7, stop=("x",),
)  # fmt: skip
SERVED = Served(
    duration_s=2.0, input_tokens=10, output_tokens=5, cached_tokens=4, first_token_s=1.2, finish_reasons=("stop",),
    response_id="chatcmpl-1", prefill_uj=3_000_000, decode_uj=2_000_000,
)  # fmt: skip


class RecordingMeter:
    """Notes which instrument the conventions' own factory asks for."""

    def __getattr__(self, method):
        def create(**arguments):
            self.made = (method, arguments)

        return create


@pytest.mark.parametrize("metric", [each for each in GENERATION_METRICS if each.standard], ids=lambda each: each.name)
def test_a_standard_metric_is_what_the_conventions_make_of_it(metric):
    meter = RecordingMeter()
    getattr(gen_ai_metrics, f"create_{metric.name.replace('.', '_')}")(meter)
    method, made = meter.made
    assert (method, made["name"], made["unit"]) == ("create_histogram", metric.name, metric.unit)
    assert made["description"] == metric.description


def test_every_gen_ai_attribute_is_one_of_the_conventions():
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    said = request_attributes(ASKED) | response_attributes(SERVED)
    of_metrics = {name for metric in GENERATION_METRICS for name in metric.attributes}
    assert {name for name in said.keys() | of_metrics if name.startswith("gen_ai.")} <= known


def test_a_span_says_what_was_asked_and_given_and_leaves_out_what_was_not():
    assert span_name(ASKED) == "chat pycoder"
    asked = request_attributes(ASKED)
    assert asked["gen_ai.response.model"] == "pycoder@int8"
    assert (asked["gen_ai.request.temperature"], asked["gen_ai.request.choice.count"]) == (0.0, 2)
    assert set(request_attributes(Asked("embeddings", "m", "m"))) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
    }
    given = response_attributes(SERVED)
    assert given["gen_ai.response.finish_reasons"] == ("stop",)
    assert (given["gen_ai.usage.input_tokens"], given["gen_ai.usage.output_tokens"]) == (10, 5)
    assert (given["joulekeeper.prefill_uj"], given["joulekeeper.decode_uj"]) == (3_000_000, 2_000_000)
    assert "error.type" not in given


def collected(*notes):
    reader = InMemoryMetricReader()
    meter = GenerationMeter(MeterProvider(metric_readers=[reader]))
    for asked, served in notes:
        meter.note(asked, served)
    found = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for metric in resource.scope_metrics[0].metrics:
            found[metric.name] = metric.data.data_points
    return found


def test_a_request_is_one_point_of_each_histogram():
    found = collected((ASKED, SERVED))
    assert set(found) == {metric.name for metric in GENERATION_METRICS}
    (token_time,) = found["gen_ai.server.time_per_output_token"]
    assert token_time.sum == pytest.approx((2.0 - 1.2) / 4)
    assert list(token_time.explicit_bounds) == list(generation_table.TOKEN_TIME.boundaries)
    by_type = {point.attributes["gen_ai.token.type"]: point.sum for point in found["gen_ai.client.token.usage"]}
    assert by_type == {"input": 10, "output": 5}
    by_phase = {point.attributes["joulekeeper.phase"]: point.sum for point in found["joulekeeper.generation.energy"]}
    assert by_phase == {"prefill": 3.0, "decode": 2.0}
    (per_token,) = found["joulekeeper.generation.energy_per_token"]
    assert per_token.sum == pytest.approx(1.0)
    for metric in GENERATION_METRICS:
        for point in found[metric.name]:
            assert set(point.attributes) <= set(metric.attributes)


def test_what_failed_has_a_duration_and_its_error_and_no_times_of_success():
    found = collected((ASKED, Served(duration_s=1.0, input_tokens=3, error_type="Busy")))
    (duration,) = found["gen_ai.server.request.duration"]
    assert duration.attributes["error.type"] == "Busy"
    assert not {"gen_ai.server.time_to_first_token", "joulekeeper.generation.energy_per_token"} & set(found)


def test_nothing_is_counted_where_nothing_is_asked_for(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    meter = GenerationMeter()
    meter.note(ASKED, SERVED)
    meter.close()
