"""A real Prometheus server (Debian's) scrapes the exposition: target up, nothing to warn about, names lint clean."""

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_server

import pytest

from app.telemetry.exporter import EXPOSITION_CONTENT_TYPE, MetricsExporter
from app.telemetry.snapshot import Balance, DeviceFigures, LedgerSnapshot, MeterHealth

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("promtool")),
        reason="no prometheus server here: apt-get install prometheus",
    ),
]

SNAPSHOT = LedgerSnapshot(
    balances=(
        Balance({"account": "request", "node": "a", "model": "minilm", "version": "1"}, 1_500_000, 200, "counter", 3),
        Balance({"account": "idle", "node": "a", "kind": "watched"}, 2_500_000, 333, "modelled"),
    ),
    devices=(
        DeviceFigures(
            "GPU-1", "gpu", "H100", "a", "counter", 4_000_000, "nvidia", 70_000, 0.5, 1, 2, 40.0, "ok", 1, 1.0, False
        ),
    ),
    meters=(MeterHealth("a", True, 0.1, 4),),
)


@pytest.fixture(scope="module")
def exposition():
    exporter = MetricsExporter(lambda: SNAPSHOT)
    yield exporter.exposition
    exporter.close()


@pytest.fixture(scope="module")
def metrics_port(exposition):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _serving(exposition))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def prometheus(metrics_port, tmp_path_factory):
    """URL and log of a server that scrapes every second."""
    home = tmp_path_factory.mktemp("prometheus")
    config = home / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        f"- {{job_name: joulekeeper, static_configs: [{{targets: ['127.0.0.1:{metrics_port}']}}]}}\n"
    )
    with create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"http://{address}", log
        finally:
            process.terminate()
            process.wait(timeout=20)


def test_the_target_is_up_and_the_sum_is_that_of_the_books(prometheus):
    url, log = prometheus
    target = _until(lambda: [t for t in _get(url, "targets")["activeTargets"] if t["health"] != "unknown"], log)[0]
    assert (target["health"], target["lastError"]) == ("up", "")
    result = _until(lambda: _get(url, "query", query="sum(joulekeeper_energy_joules_total)")["result"], log)
    assert float(result[0]["value"][1]) == 4.0


def test_accounts_and_devices_tell_the_same_total(prometheus):
    url, log = prometheus
    query = "sum(joulekeeper_energy_joules_total) - sum(hw_energy_joules_total)"
    assert float(_until(lambda: _get(url, "query", query=query)["result"], log)[0]["value"][1]) == 0.0


def test_types_reach_the_server(prometheus):
    url, log = prometheus
    known = _until(lambda: _get(url, "metadata"), log)
    assert known["joulekeeper_energy_joules_total"][0]["type"] == "counter"
    assert known["joulekeeper_carbon_grams"][0]["type"] == "gauge"


def test_the_server_logs_no_warning(prometheus):
    url, log = prometheus
    _until(lambda: _get(url, "query", query="count_over_time(up[1m]) >= 2")["result"], log)
    complaints = [line for line in log.read_text().splitlines() if "level=warn" in line or "level=error" in line]
    assert complaints == []


def test_promtool_finds_nothing_to_lint(exposition):
    lint = subprocess.run(["promtool", "check", "metrics"], input=exposition(), capture_output=True, text=True)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")


def _serving(exposition):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = exposition().encode()
            self.send_response(200)
            self.send_header("Content-Type", EXPOSITION_CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            """Prometheus keeps its own log."""

    return Handler


def _get(url, what, **query):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/v1/{what}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
            return json.load(answer)["data"]
    except OSError:  # not listening yet
        return {"activeTargets": [], "result": []} if what != "metadata" else {}


def _until(ask, log, timeout_s=30.0):
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.2)
    pytest.fail(f"no answer within {timeout_s} s; the server's log:\n{log.read_text()}")
