"""What an edge is told: every fault at once, by name; and the text that HAProxy accepts."""

import dataclasses
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.edge import haproxy
from app.edge.certificates import make_pair, valid_until
from app.edge.config import EdgeConfig, build_config, read_mapping
from app.edge.rendering import Certificates, fault_files, render
from app.errors import InvalidInput

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PLAIN = {"cert": "c.pem", "key": "k.pem"}
FILES = Certificates("pair.pem", None)


def test_an_edge_listens_on_loopback_until_somebody_decides_otherwise():
    assert build_config(PLAIN).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, ["cert: Field required", "key: Field required"]),
        (PLAIN | {"https_port": 0, "gzipp": True}, ["https_port: ", "got 0", "gzipp: "]),
        (PLAIN | {"host": "localhost"}, ["host: must be an IP address such as 127.0.0.1", "got 'localhost'"]),
        (PLAIN | {"serve_http": "127.0.0.1"}, ["serve_http: must be host:port such as 127.0.0.1:8000"]),
        (PLAIN | {"serve_grpc": "x\n  evil:1"}, ["serve_grpc: must be host:port"]),
        (PLAIN | {"dashboard": "127.0.0.1:8265"}, ["dashboard: must be http://host:port"]),
        (PLAIN | {"grpc_port": 8443}, ["https_port and grpc_port are both 8443: give each its own"]),
    ],
)
def test_every_fault_is_named(values, says):
    with pytest.raises(InvalidInput) as refusal:
        build_config(values)
    assert [part for part in says if part not in str(refusal.value)] == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("a: [", "is not YAML"),
        ("- a\n", "must hold names with values, got list"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, says):
    path = tmp_path / "edge.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInput, match=says) as refusal:
        read_mapping(path)
    assert str(path) in str(refusal.value)


def test_an_empty_file_says_nothing(tmp_path):
    (tmp_path / "edge.yaml").write_text("")
    assert read_mapping(tmp_path / "edge.yaml") == {}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"client_ca": "ca.pem", "access_log": True, "gzip": False},
        {"host": "::", "threads": 1, "max_body_bytes": 2**31, "max_header_bytes": 32768},
    ],
    ids=["defaults", "mutual", "all interfaces"],
)
def test_haproxy_accepts_what_is_rendered_without_a_warning(tmp_path, changes):
    config = build_config(PLAIN | changes)
    cert, key = make_pair(["localhost"], NOW, 30)
    (tmp_path / "pair.pem").write_bytes(cert + key)
    (tmp_path / "ca.pem").write_bytes(cert)
    (tmp_path / haproxy.MAP).write_text("")
    for name, content in fault_files().items():
        (tmp_path / name).write_bytes(content.encode())
    files = Certificates("pair.pem", "ca.pem" if config.client_ca else None)
    (tmp_path / haproxy.CONFIG).write_text(render(config, files))
    command = [haproxy.binary(), "-c", "-f", haproxy.CONFIG]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_every_setting_has_its_place_in_the_text():
    before = render(build_config(PLAIN), FILES)
    other = {
        "host": "0.0.0.0", "https_port": 1, "grpc_port": 2, "serve_http": "a:1", "serve_grpc": "a:2",
        "max_body_bytes": 4096, "max_header_bytes": 4096, "max_connections": 7, "max_connections_per_source": 7,
        "max_requests_per_source": 7, "max_streams_per_connection": 7, "headers_s": 7, "body_s": 7, "client_idle_s": 7,
        "answer_s": 7, "stream_idle_s": 7, "drain_s": 7, "gzip": False, "access_log": True, "threads": 9,
    }  # fmt: skip
    elsewhere = {"cert", "key", "client_ca", "traffic", "dashboard", "stop_s"}
    assert set(other) | elsewhere == set(EdgeConfig.model_fields)
    for name, value in other.items():
        assert render(build_config(PLAIN | {name: value}), FILES) != before, name
    assert "verify required" in render(build_config(PLAIN), dataclasses.replace(FILES, client_ca="ca.pem"))


def test_a_pair_is_for_its_names_and_ends_when_it_was_told_to():
    cert, key = make_pair(["edge.example", "10.0.0.1"], NOW, 30)
    assert valid_until(cert) == NOW + timedelta(days=30)
    assert b"PRIVATE KEY" in key
    with pytest.raises(InvalidInput, match="neither a host name nor an address"):
        make_pair(["späth"], NOW, 30)
    with pytest.raises(InvalidInput, match="not a certificate in PEM"):
        valid_until(b"nonsense")


def test_a_missing_binary_is_unavailable_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(Path(tmp_path) / "none"))
    with pytest.raises(Exception, match="none"):
        haproxy.binary()
