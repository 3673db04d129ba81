"""The `openai` package: files and batches, over the edge, with a key; answers are validated by its own types."""

import json
import time

import openai
from checks import run
from openai_calls import client_of, refusal_of

PATIENCE_S = 100


def _lines(model):
    return "\n".join(
        json.dumps(
            {"custom_id": f"c{n}", "method": "POST", "url": "/v1/embeddings", "body": {"model": model, "input": "x"}}
        )
        for n in range(3)
    ).encode()


def _over(client, batch_id):
    deadline = time.monotonic() + PATIENCE_S
    while (batch := client.batches.retrieve(batch_id)).status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.5)
    return batch


def a_batch_is_answered_for_its_tenant(doors):
    client = client_of(doors)
    sent = client.files.create(file=("requests.jsonl", _lines("minilm")), purpose="batch")
    assert client.files.retrieve(sent.id).bytes == len(_lines("minilm"))
    made = client.batches.create(input_file_id=sent.id, endpoint="/v1/embeddings", completion_window="24h")
    batch = _over(client, made.id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3), batch
    lines = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in lines] == ["c0", "c1", "c2"]
    assert all(len(line["response"]["body"]["data"][0]["embedding"]) == 384 for line in lines)
    assert made.id in [each.id for each in client.batches.list()]
    assert client.files.delete(sent.id).deleted


def what_cannot_be_is_refused_in_openais_own_words(doors):
    client = client_of(doors)
    sent = client.files.create(file=("requests.jsonl", b'{"custom_id": "a"}'), purpose="batch")
    wanted = {"input_file_id": sent.id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    refusal = refusal_of(openai.BadRequestError, lambda: client.batches.create(**wanted))
    assert "line 1: url is missing" in str(refusal), refusal


run(
    a_batch_is_answered_for_its_tenant,
    what_cannot_be_is_refused_in_openais_own_words,
)
