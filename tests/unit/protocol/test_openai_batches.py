"""Lines of a batch and its body: read strictly, every line at fault named, told back in OpenAI's shapes."""

import json

import pytest

from app.protocol.openai_batches import (
    INFER,
    BadLines,
    CreateBatch,
    Line,
    answered_line,
    list_object,
    models_of,
    parse_lines,
    unanswered_line,
    window_s,
)
from app.protocol.openai_errors import WireFault

EMBED = "/v1/embeddings"


def line(custom_id="a", url=EMBED, **changes):
    body = {"model": "minilm@1", "input": "x"}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body} | changes)


def test_lines_are_read_with_their_number_and_empty_ones_passed_over():
    first, second = parse_lines(f"{line()}\n\n{line('b')}\n".encode(), EMBED)
    assert (first, second.number) == (Line(1, "a", EMBED, "minilm@1", b'{"model":"minilm@1","input":"x"}'), 3)


def test_inference_calls_name_their_model_in_the_url():
    url = "/v2/models/digits/versions/2/infer"
    assert parse_lines(line(url=url, body={"inputs": []}).encode(), INFER)[0].model == "digits"
    with pytest.raises(BadLines, match="url must be the batch's endpoint"):
        parse_lines(line(url=url, body={"inputs": []}).encode(), EMBED)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("{", "not JSON"),
        (line(custom_id=None), "custom_id is missing"),
        (line(custom_id="x" * 513), "at most 512 characters"),
        (line(method="GET"), "method must be POST"),
        (line(body=None), "body is missing"),
        (line(body={"model": "m", "stream": True}), "nobody listens"),
        (line(body={"input": "x"}), "body.model is missing"),
        (line(), "stands there twice"),
    ],
)
def test_every_line_at_fault_is_named(wrong, told):
    with pytest.raises(BadLines, match=told) as caught:
        parse_lines(f"{line()}\n{wrong}\n{line(url='/v1/files', custom_id='z')}".encode(), EMBED)
    assert [number for number, _, _ in caught.value.args[0]] == [2, 3]
    assert "line 3: url must be" in str(caught.value)


def test_an_empty_file_is_refused():
    with pytest.raises(WireFault, match="no requests"):
        parse_lines(b"\n\n", EMBED)


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86_400), ("90m", 5_400), ("60s", 60), ("7d", 604_800)])
def test_windows(text, seconds):
    assert window_s(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "1w", "59s", "8d", "h", "-1h"])
def test_windows_that_are_none(text):
    with pytest.raises(WireFault, match="from 1m to 7d"):
        window_s(text)


def test_a_batch_is_asked_for_as_openais_clients_do():
    made = CreateBatch.parse(json.dumps({"input_file_id": "f", "endpoint": EMBED, "metadata": {"a": "b"}}).encode())
    assert made == CreateBatch("f", EMBED, "24h", 86_400, {"a": "b"})


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_file_id": None}, "input_file_id"),
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
    ],
)
def test_what_is_wrong_with_it_is_named(changes, param):
    with pytest.raises(WireFault) as caught:
        CreateBatch.parse(json.dumps({"input_file_id": "f", "endpoint": EMBED} | changes).encode())
    assert caught.value.param == param


def test_answers_and_failures_are_lines_of_results():
    good = json.loads(answered_line("batch_1", 3, "a", 200, "r-1", b'{"data": []}', {"energy_uj": 7}))
    assert good["response"] == {"status_code": 200, "request_id": "r-1", "body": {"data": []}}
    assert (good["custom_id"], good["error"], good["joulekeeper"]) == ("a", None, {"energy_uj": 7})
    assert json.loads(answered_line("batch_1", 3, "a", 502, "", b"<html>", {}))["response"]["body"] == {
        "text": "<html>"
    }
    bad = json.loads(unanswered_line("batch_1", 4, "b", "batch_expired", "too late"))
    assert (bad["response"], bad["error"]) == (None, {"code": "batch_expired", "message": "too late"})


def test_a_list_names_its_ends():
    assert list_object([{"id": "a"}, {"id": "b"}], has_more=True) == {
        "object": "list", "data": [{"id": "a"}, {"id": "b"}], "first_id": "a", "last_id": "b", "has_more": True,
    }  # fmt: skip


def test_models_once_each_without_versions():
    lines = [Line(1, "a", EMBED, "m@1", b""), Line(2, "b", EMBED, "n", b""), Line(3, "c", EMBED, "m", b"")]
    assert list(models_of(lines)) == ["m", "n"]
