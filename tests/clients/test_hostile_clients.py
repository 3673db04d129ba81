"""Clients that send too slowly, too finely, too little or too much: bounded memory, the right status, service after."""

import json
import socket
import ssl
import time
from contextlib import contextmanager

import httpx
import psutil
import pytest

pytestmark = [pytest.mark.clients, pytest.mark.ray, pytest.mark.timeout(400)]

PATH = "/v2/models/everything/infer"
HELLO = {"inputs": [{"name": "fp32", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}


@contextmanager
def connection(doors):
    host, port = doors.http.split(":")
    plain = socket.create_connection((host, int(port)), timeout=60)
    with (
        plain
        if not doors.ca
        else ssl.create_default_context(cafile=doors.ca).wrap_socket(plain, server_hostname=host) as line
    ):
        yield line


def head(path, **headers):
    lines = [f"POST {path} HTTP/1.1", "host: joulekeeper", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status_of(line):
    answer = line.recv(65536)
    return int(answer.split(b" ", 2)[1]) if answer else 0


def memory_of(cluster, application):
    """Bytes that each running replica of `application` holds, by pid."""
    pids = [replica["pid"] for replica in cluster.replicas(application) if replica["state"] == "RUNNING"]
    return {pid: psutil.Process(pid).memory_info().rss for pid in pids}


@pytest.fixture(autouse=True)
def serves_afterwards(doors):
    yield
    verify = ssl.create_default_context(cafile=doors.ca) if doors.ca else True
    answer = httpx.post(f"{doors.base_url}/v2/models/numbers/infer", json=HELLO, verify=verify, timeout=60)
    assert answer.status_code == 200


def test_ten_thousand_tiny_chunks_are_one_body(doors):
    body = json.dumps({"inputs": []}).encode().ljust(10_000)
    with connection(doors) as line:
        line.sendall(head(PATH, transfer_encoding="chunked"))
        for start in range(0, len(body), 100):
            line.sendall(b"".join(b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(start, start + 100)))
        line.sendall(b"0\r\n\r\n")
        assert status_of(line) == 400  # it was read whole: its inputs are missing


def test_a_body_without_end_is_refused_and_not_kept(doors, served_cluster):
    before = memory_of(served_cluster, "everything")
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with connection(doors) as line:
        line.sendall(head(PATH, transfer_encoding="chunked"))
        sent = 0
        try:
            while sent < 400:
                line.sendall(piece)
                sent += 1
        except OSError:
            pass  # it was cut off, which is as good
        assert sent < 400 or status_of(line) == 413
    after = memory_of(served_cluster, "everything")
    assert after.keys() == before.keys()
    assert max(after[pid] - before[pid] for pid in after) < 60_000_000


def test_slow_senders_take_no_ones_place(doors):
    with connection(doors) as one, connection(doors) as other:
        for line in (one, other):
            line.sendall(head(PATH, content_length=1000) + b'{"inputs"')
        started = time.monotonic()
        verify = ssl.create_default_context(cafile=doors.ca) if doors.ca else True
        answer = httpx.post(f"{doors.base_url}/v2/models/numbers/infer", json=HELLO, verify=verify, timeout=60)
        assert answer.status_code == 200
        assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("json_bytes", "cut", "status"), [(None, 3, 400), (10**15, 0, 400), (-1, 0, 400), (0, 0, 400), (7, 0, 400)]
)
def test_binary_bodies_that_do_not_add_up_are_refused(doors, json_bytes, cut, status):
    tensor = {"name": "fp32", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
    told = json.dumps({"inputs": [tensor]}).encode()
    length = len(told) if json_bytes is None else json_bytes
    body = (told + bytes(16))[: len(told) + 16 - cut]
    with connection(doors) as line:
        line.sendall(
            head("/v2/models/everything/infer", content_length=len(body), inference_header_content_length=length) + body
        )
        assert status_of(line) == status
