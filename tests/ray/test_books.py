"""The books of a live cluster in the fast mode: receipts, sleeping and waking, killed parts, telemetry, tampering.

The GPU is the NVML stand-in, so every joule of it is known: what the ledger says must be what the script says. Ray
finds the same GPU through the same library, and two applications share it by halves.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import orjson
import psutil
import pytest

from app.ledger.ring import RingReader, ring_paths
from tests.fixtures.otlp import grpc_receiver
from tests.fixtures.quickstart import application, quickstart
from tests.fixtures.ray_cluster import ROOT, RayCluster
from tests.stubs.nvml.stub import StubDevice, StubScript

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

IDLE_S = 4
WATTS = 100
MODELS = ("minilm", "twin")


def quickstart_with_a_twin():
    """The quickstart and a second application of the same model, each on half a GPU, asleep soon."""
    config = quickstart(downscale_delay_s=IDLE_S, max_replicas=1, look_back_period_s=2)
    minilm = application(config, "minilm")
    minilm["deployments"][0]["ray_actor_options"] = {"num_cpus": 0.5, "num_gpus": 0.5}
    twin = orjson.loads(orjson.dumps(minilm)) | {"name": "twin", "route_prefix": "/v2/models/twin"}
    twin["args"]["name"] = "twin"
    config["applications"].append(twin)
    return config


@pytest.fixture(scope="module")
def receiver():
    with grpc_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def stub(nvml_library, tmp_path_factory):
    stub = nvml_library.with_script(tmp_path_factory.mktemp("nvml") / "script")
    stub.write(StubScript(devices=(StubDevice(phases=((0, WATTS * 1000),)),), tick_ms=20))
    return stub


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def cluster(stub, receiver, state):
    environment = stub.env() | {
        "JOULEKEEPER_SETTLE_LAG_S": "1",
        "JOULEKEEPER_ZONE": "FRA",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol,
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }
    with RayCluster(state, environment=environment) as cluster:
        cluster.deploy(quickstart_with_a_twin())
        for model in MODELS:
            infer(model, "hello")
        yield cluster


def infer(model, *texts, **headers):
    content = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
    return httpx.post(f"http://127.0.0.1:8000/v2/models/{model}/infer", json=content, headers=headers, timeout=90)


def joulekeeper(*arguments):
    """The command against the test's cluster: (exit status, what it printed as JSON)."""
    environment = os.environ | {"RAY_ADDRESS": RayCluster.address, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "app", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, orjson.loads(done.stdout) if done.stdout.strip() else done.stderr


def by_account():
    """Energy in microjoules by account name."""
    _, report = joulekeeper("report", "--by", "account")
    energy = Counter()
    for row in report["rows"]:
        energy[row["group"]["account"]] += row["energy_uj"]
    return energy


def process_named(title):
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith(title):
            return process
    raise AssertionError(f"no process {title}")


def kill(title):
    victim = process_named(title)
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)


def await_audit(condition, timeout_s=40):
    """The audit once it is clean and `condition` of it holds."""
    deadline = time.monotonic() + timeout_s
    while True:
        status, audit = joulekeeper("ledger", "audit")
        if status == 0 and condition(audit):
            return audit
        assert time.monotonic() < deadline, audit
        time.sleep(1)


def await_settled(receipt_ids, timeout_s=60):
    """Until each of the receipts is there and settled, as the console tells."""
    deadline = time.monotonic() + timeout_s
    while True:
        told = httpx.post("http://127.0.0.1:8000/api/receipts", json={"ids": receipt_ids}, timeout=60).json()
        if len(told["receipts"]) == len(receipt_ids) and not any(each["provisional"] for each in told["receipts"]):
            return
        assert time.monotonic() < deadline, told
        time.sleep(0.5)


def first_reading_uj(state):
    """The counter at which the books of the GPU begin."""
    first = min((state / "journal").glob("*.journal")).read_bytes().splitlines()[0]
    devices = orjson.loads(first.split(b" ", 1)[1])["body"]["devices"]
    return next(device["raw"][0][1] for device in devices if device["kind"] == "gpu")


def test_replicas_that_share_a_gpu_by_halves_know_it_by_the_same_uuid(cluster, state, stub):
    rings = [RingReader(path) for path in ring_paths(state / "rings")]
    residents = {ring.header.resident.account.model: ring for ring in rings}
    uuid = StubScript().uuid(0)
    assert {model: residents[model].header.resident.device_uuids for model in MODELS} == dict.fromkeys(
        MODELS, frozenset({uuid})
    )
    assert [residents[model].header.gpu_share for model in MODELS] == [0.5, 0.5]


def test_a_receipt_is_provisional_at_once_and_settled_soon(cluster):
    told = infer("minilm", "what does one sentence cost").json()["parameters"]
    assert told["provisional"] is True
    assert told["grade"] in ("counter+modelled", "counter")
    status, receipt = joulekeeper("receipt", told["receipt_id"], "--wait", "10")
    assert status == 0
    assert receipt["provisional"] is False
    assert receipt["model"] == "minilm"
    # 100 W for the duration of the request is all that the GPU can have given it.
    assert 0 < receipt["energy_uj"] < (WATTS + 60) * 1e6 * receipt["duration_ns"] / 1e9 + 1


def test_left_idle_the_models_sleep_and_wake_for_fifty_at_once(cluster):
    for model in MODELS:
        cluster.await_replicas(model, 0, timeout_s=90)
    load_uj = by_account()["load"]
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda number: infer("minilm", f"sentence {number}"), range(50)))
    assert Counter(answer.status_code for answer in answers) == {200: 50}
    time.sleep(4)
    energy = by_account()
    assert energy["load"] > load_uj > 0
    assert min(energy["warm"], energy["idle"], energy["request"]) > 0


def test_killed_meter_accountant_and_replica_lose_nothing(cluster, state):
    answered = []
    for title in ("ray::Meter", "ray::Accountant", "ray::ServeReplica:minilm"):
        answered += [infer("minilm", f"before {title}").json()["parameters"]["receipt_id"] for _ in range(5)]
        kill(title)
        answered += [infer("minilm", f"after {title}").json()["parameters"]["receipt_id"] for _ in range(5)]
        time.sleep(2)
    audit = await_audit(lambda audit: all(device["pending_uj"] < 10 * WATTS * 1e6 for device in audit["devices"]))
    assert [device["difference_uj"] for device in audit["devices"]] == [0] * len(audit["devices"])
    assert audit["gap_share"] <= 0.02
    await_settled(answered)


def test_the_ledger_moves_as_the_script_says(cluster, state):
    """Every raw reading is the script's counter at that instant, and the postings add up to their movement."""
    with sqlite3.connect(state / "books.sqlite") as store:
        (posted_uj,) = store.execute("select sum(energy_uj) from lines where device like '%GPU%'").fetchone()
    readings = [
        (at_ns, value)
        for path in sorted((state / "journal").glob("*.journal"))
        for line in path.read_bytes().splitlines()
        for record in orjson.loads(line.split(b" ", 1)[1])["body"]["devices"]
        if record["kind"] == "gpu"
        for at_ns, value in record["raw"]
    ]
    script = StubScript(devices=(StubDevice(phases=((0, WATTS * 1000),)),), tick_ms=20)
    slack_ns = 20_000_000  # the reading is stamped within the call, the counter may tick in it
    for at_ns, value in readings[:: max(1, len(readings) // 200)]:
        expected = {script.counter_mj(0, at_ns + shift) * 1000 for shift in (-slack_ns, 0, slack_ns)}
        assert min(expected) <= value <= max(expected)
    assert 0 <= max(value for _, value in readings) - min(value for _, value in readings) - posted_uj < 5 * WATTS * 1e6


def test_the_receiver_gets_what_the_ledger_holds_and_a_span_per_request(cluster, receiver):
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = infer("minilm", "traced", traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert trace in answer.headers["traceparent"]

    def arrived():
        return any(span.trace_id.hex() == trace for span in receiver.spans())

    assert receiver.wait_for(arrived, 20)
    span = next(span for span in receiver.spans() if span.trace_id.hex() == trace)
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    assert receiver.wait_for(lambda: bool(receiver.points("joulekeeper.energy")), 20)
    assert receiver.wait_for(lambda: exported_uj(receiver) > 0, 20)
    assert {"hw.energy", "hw.power", "joulekeeper.energy", "joulekeeper.carbon"} <= receiver.metrics().keys()


def exported_uj(receiver, metric="joulekeeper.energy"):
    return round(sum(value for _, value in receiver.points(metric)) * 1e6)


def test_the_console_scrapes_and_reports_the_same_books(cluster):
    text = httpx.get("http://127.0.0.1:8000/metrics", timeout=30).text
    assert "joulekeeper_energy_joules_total" in text
    before_uj = sum(by_account().values())
    report = httpx.get("http://127.0.0.1:8000/api/report", params={"by": "account"}, timeout=30).json()
    assert before_uj <= report["energy_uj"] <= sum(by_account().values())
    unknown = httpx.post("http://127.0.0.1:8000/v2/models/nobody/infer", json={}, timeout=30)
    assert unknown.status_code == 404
    assert "minilm" in unknown.json()["error"]


def test_the_ledger_of_a_gpu_switched_off_equals_its_counter_exactly(cluster, state, stub):
    """Once the script's power is 0 the counter stands still, and the books must reach it to the microjoule."""
    off_ns = time.monotonic_ns() + 1_000_000_000
    script = StubScript(devices=(StubDevice(phases=((0, WATTS * 1000), (off_ns, 0))),), tick_ms=20)
    stub.write(script)
    final_uj = script.counter_mj(0, off_ns + 10_000_000_000) * 1000

    def reached(audit):
        gpu = next(device for device in audit["devices"] if device["grade"] == "counter")
        return gpu["posted_uj"] == final_uj - first_reading_uj(state)

    await_audit(reached)


def test_closed_books_stay_closed_and_tampering_is_found(cluster, state, receiver):
    status, closed = joulekeeper("ledger", "close")
    assert (status, closed["meters"]) == (0, 1)
    await_audit(lambda audit: True)
    # Now that the ledger stands still, what left by OTLP must be what it holds, to the microjoule.
    ledger_uj = sum(by_account().values())
    for metric in ("joulekeeper.energy", "hw.energy"):
        assert receiver.wait_for(lambda metric=metric: exported_uj(receiver, metric) == ledger_uj, 20)
    time.sleep(6)  # replicas whose board grows stale ask for a meter, and get none
    with pytest.raises(AssertionError):
        process_named("ray::Meter")
    assert joulekeeper("watch", "--once")[1]["warnings"]
    with sqlite3.connect(state / "books.sqlite", timeout=30) as store:
        store.execute(
            "update balances set energy_uj = energy_uj + 1000000 "
            "where (width_s, bucket_s, line) = (select width_s, bucket_s, line from balances limit 1)"
        )
    status, audit = joulekeeper("ledger", "audit")
    assert status == 1
    assert any("balances were altered" in fault for fault in audit["faults"])
