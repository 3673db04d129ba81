"""curl with compressed bodies both ways."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from app.protocol.coding import expand, shrink

pytestmark = [
    pytest.mark.clients,
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not shutil.which("curl"), reason="no curl here: apt-get install curl"),
]

NUMBERS = np.linspace(0, 1, 20_000, dtype=np.float32).reshape(100, 200)
BODY = json.dumps(
    {"inputs": [{"name": "fp32", "datatype": "FP32", "shape": [100, 200], "data": NUMBERS.reshape(-1).tolist()}]}
).encode()


def curl(doors, path, body, *options):
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "60",
        "--data-binary",
        "@-",
        "--write-out",
        "%{stderr}%{http_code}",
    ]
    command += ["--cacert", doors.ca] if doors.ca else []
    done = subprocess.run([*command, *options, doors.base_url + path], input=body, capture_output=True, timeout=90)
    return int(done.stderr), done.stdout


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_curl_sends_and_takes_compressed_bodies(doors, coding):
    asked = ("-H", f"content-encoding: {coding}", "-H", f"accept-encoding: {coding}")
    status, sent = curl(doors, "/v2/models/numbers/infer", shrink(coding, BODY), *asked)
    assert status == 200, sent
    answer = expand(coding, sent, 10_000_000)
    assert len(sent) < len(answer) / 2
    assert np.float32(json.loads(answer)["outputs"][0]["data"]).tolist() == NUMBERS.reshape(-1).tolist()


def test_curl_decodes_what_it_asked_for_by_itself(doors):
    status, answer = curl(doors, "/v2/models/numbers/infer", BODY, "--compressed")
    assert (status, json.loads(answer)["model_name"]) == (200, "numbers")


@pytest.mark.parametrize(("coding", "status"), [("gzip", 413), ("zstd", 413), ("br", 415)])
def test_a_bomb_is_refused_and_the_service_answers_afterwards(doors, coding, status):
    bomb = shrink("gzip" if coding == "br" else coding, bytes(500_000_000))
    answered, body = curl(doors, "/v2/models/numbers/infer", bomb, "-H", f"content-encoding: {coding}")
    assert (answered, "error" in json.loads(body)) == (status, True)
    assert curl(doors, "/v2/models/numbers/infer", BODY)[0] == 200
