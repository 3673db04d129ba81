"""Batching and the response cache on a real cluster: one run for many, a receipt for each, and answers given again."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from app.ledger.ring import RingReader, parse_receipt_id, ring_paths
from tests.fixtures.quickstart import application, quickstart

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

URL = "http://127.0.0.1:8000/v2/models/minilm/infer"
TEXTS = [f"a sentence of its own, number {number}" + " and longer" * (number % 5) for number in range(24)]


@pytest.fixture(scope="module")
def cluster(running):
    config = quickstart(max_replicas=1, downscale_delay_s=60)
    application(config, "minilm")["args"] |= {"batching": {"max_rows": 8, "max_wait_ms": 300}, "cache": {"max_mb": 1}}
    running.deploy(config)
    return running


def infer(*texts, **options):
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return httpx.post(URL, json={"inputs": [tensor]}, timeout=90, **options)


def embedding(response):
    return np.array(response.json()["outputs"][0]["data"], np.float32)


def test_requests_at_once_run_together_and_each_has_its_answer_and_its_receipt(cluster, state):
    infer("wake up")
    with ThreadPoolExecutor(len(TEXTS)) as clients:
        answers = list(clients.map(infer, TEXTS))
    assert [answer.status_code for answer in answers] == [200] * len(TEXTS)
    receipts = {answer.json()["parameters"]["receipt_id"] for answer in answers}
    assert len(receipts) == len(TEXTS)
    intervals = Counter(interval_of(state, receipt) for receipt in receipts)
    assert max(intervals.values()) > 1
    assert max(intervals.values()) <= 8
    alone = embedding(infer(*TEXTS[:8])).reshape(8, -1)
    np.testing.assert_allclose([embedding(answer) for answer in answers[:8]], alone, atol=1e-5)


def interval_of(state, receipt_id):
    _, ring_id, sequence = parse_receipt_id(receipt_id)
    path = next(path for path in ring_paths(state / "rings") if path.stem == ring_id)
    row = RingReader(path).record(sequence)
    return int(row["start_ns"]), int(row["end_ns"])


def test_one_bad_request_does_not_harm_its_neighbours(cluster):
    with ThreadPoolExecutor(4) as clients:
        statuses = [answer.status_code for answer in clients.map(infer, ["fine", "word " * 300, "fine too", "good"])]
    assert statuses == [200, 413, 200, 200]


def test_an_answer_that_is_kept_says_so_and_uses_less(cluster):
    first = infer("asked twice")
    again = infer("asked twice")
    np.testing.assert_array_equal(embedding(first), embedding(again))
    assert "cache" not in first.json()["parameters"]
    told = again.json()["parameters"]
    assert (told["cache"], again.headers["x-joulekeeper-cache"]) == ("hit", "hit")
    assert told["saved_uj"] > 0
    # On a crowded machine one look into the cache may take as long as the work itself.
    hits = [infer("asked twice").json()["parameters"]["energy_uj"] for _ in range(5)]
    assert told["saved_uj"] > min(hits) > 0
    assert told["receipt_id"] != first.json()["parameters"]["receipt_id"]
