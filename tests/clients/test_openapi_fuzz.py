"""A small number of schemathesis' cases over our own OpenAPI document; scripts/fuzz_api.py alone makes thousands."""

import subprocess
import sys

import pytest

from tests.fixtures.client_environments import client_python
from tests.fixtures.ray_cluster import ROOT

pytestmark = [pytest.mark.clients, pytest.mark.ray, pytest.mark.timeout(600)]


def test_nothing_that_the_document_allows_breaks_the_service(serve_doors):
    schemathesis = client_python("schemathesis").with_name("schemathesis")
    command = [sys.executable, str(ROOT / "scripts" / "fuzz_api.py"), f"--url={serve_doors.base_url}", "--cases=200"]
    done = subprocess.run([*command, f"--schemathesis={schemathesis}"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "models/minilm/infer" in done.stdout
