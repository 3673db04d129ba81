"""`joulekeeper edge` as a process: it says where it is, and however it ends, nothing of it is left."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.fixtures.edge import ROOT, Edge, free_port
from tests.fixtures.fake_serve import FakeServe


@pytest.fixture
def edge(tmp_path: Path):
    with FakeServe() as serve:
        options = (f"--serve-http={serve.http_door}", f"--serve-grpc={serve.grpc_door}", "--dashboard=")
        with Edge(tmp_path, *options, https_port=free_port(), grpc_port=free_port()) as edge:
            edge.await_models("minilm", "minilm@2")
            yield edge


def proxies(edge: Edge) -> list[psutil.Process]:
    assert edge.process
    return psutil.Process(edge.process.pid).children(recursive=True)


def is_listening(edge: Edge) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(edge.url.rpartition(":")[2]))) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_with_all_below_it(edge, number):
    below = proxies(edge)
    assert {process.name() for process in below} == {"haproxy"}
    assert len(below) == 2  # a master and its worker
    edge.process.send_signal(number)
    assert edge.process.wait(30) == 0
    assert psutil.wait_procs(below, timeout=10)[1] == []
    assert not is_listening(edge)


def test_killed_it_leaves_no_orphan_even_after_a_reload(edge):
    assert httpx.get(f"{edge.url}/v2", verify=edge.trust()).status_code == 200
    edge.ca.write_bytes(edge.ca.read_bytes() + b"# new\n")
    deadline = time.monotonic() + 60
    while "new configuration in force" not in edge.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "new configuration in force" in edge.log.read_text()
    below = proxies(edge)
    os.kill(edge.process.pid, signal.SIGKILL)
    edge.process.wait(10)
    assert psutil.wait_procs(below, timeout=15)[1] == []
    assert not is_listening(edge)


def test_its_master_killed_it_is_whole_again_after_a_moment(edge):
    master = next(process for process in proxies(edge) if process.ppid() == edge.process.pid)
    master.kill()
    deadline = time.monotonic() + 60
    # Workers that outlive their master answer for a moment.
    while master.pid in [process.pid for process in proxies(edge)] or not is_listening(edge):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert httpx.get(f"{edge.url}/v2", verify=edge.trust()).status_code == 200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--https-port={taken}"], "port {taken}: Address already in use; end what holds it"),
        (["--cert=/none.pem", "--key=/none.pem"], "/none.pem cannot be read: No such file or directory"),
        (["--host=localhost", "--cert=x", "--key=x"], "host: must be an IP address"),
        (["--config=/none.yaml"], "/none.yaml cannot be read"),
        (
            ["--host=0.0.0.0", "--cert=x", "--key=x"],
            "host 0.0.0.0 would let the network in while JOULEKEEPER_ACCESS=open",
        ),
        ([], "the edge has no certificate: give --cert and --key, or make one"),
    ],
    ids=["port taken", "no certificate file", "host name", "no file", "open to all", "no certificate"],
)
def test_what_keeps_it_from_starting_is_one_line_and_status_1(tmp_path, options, says):
    environment = {**os.environ, "JOULEKEEPER_STATE_DIR": str(tmp_path)}
    run = [sys.executable, "-m", "app"]
    if says.startswith("port"):
        subprocess.run([*run, "certificate"], env=environment, cwd=ROOT, check=True, capture_output=True)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = str(holder.getsockname()[1])
        command = [*run, "edge", *(option.format(taken=taken) for option in options)]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
        )
    assert done.returncode == 1
    assert says.format(taken=taken) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_pair_for_a_first_try_is_kept_and_for_its_owner(tmp_path):
    environment = {**os.environ, "JOULEKEEPER_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "app", "certificate"]
    for said in ("wrote", "kept"):
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=90, check=True
        )
        assert done.stdout.startswith(f"{said} {tmp_path}/edge/cert.pem")
    assert (tmp_path / "edge" / "key.pem").stat().st_mode & 0o777 == 0o600
