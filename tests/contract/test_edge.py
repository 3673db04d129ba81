"""The edge as clients meet it: a real HAProxy, with the doors of a Serve behind it that tell what reached them."""

import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from app.edge.config import EdgeConfig
from app.edge.supervisor import Supervisor
from app.errors import Unavailable
from app.protocol.generated import open_inference_pb2 as pb
from tests.fixtures.edge import free_port, write_pair
from tests.fixtures.fake_serve import FakeServe

SERVICE = "/inference.GRPCInferenceService/"
MEGABYTE = 1024 * 1024
ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

Open = Callable[..., "Door"]


class Door:
    """One running edge and how to reach it."""

    def __init__(self, supervisor: Supervisor, config: EdgeConfig, told: list[str], serve: FakeServe) -> None:
        self.supervisor, self.config, self.told, self.serve = supervisor, config, told, serve

    def http(self, cert: tuple[Path, Path] | None = None) -> httpx.Client:
        trust = ssl.create_default_context(cafile=str(self.config.cert))
        if cert:
            trust.load_cert_chain(*map(str, cert))
        return httpx.Client(base_url=f"https://localhost:{self.config.https_port}", verify=trust, timeout=30)

    def channel(self, cert: tuple[Path, Path] | None = None) -> grpc.Channel:
        pair = {"private_key": cert[1].read_bytes(), "certificate_chain": cert[0].read_bytes()} if cert else {}
        trust = grpc.ssl_channel_credentials(self.config.cert.read_bytes(), **pair)
        return grpc.secure_channel(f"localhost:{self.config.grpc_port}", trust, options=ANY_SIZE)


@pytest.fixture
def serve() -> Iterator[FakeServe]:
    with FakeServe() as fake:
        yield fake


@pytest.fixture
def open_edge(serve: FakeServe, tmp_path: Path) -> Iterator[Open]:
    """Starts edges; `look` of their supervisors is called by the tests, so that nothing happens by itself."""
    opened: list[Supervisor] = []

    def start(**changes: Any) -> Door:
        cert, key = write_pair(tmp_path)
        values = {
            "cert": cert, "key": key, "https_port": free_port(), "grpc_port": free_port(), "threads": 2,
            "serve_http": serve.http_door, "serve_grpc": serve.grpc_door, "dashboard": f"http://{serve.http_door}",
        }  # fmt: skip
        config = EdgeConfig.model_validate(values | changes)
        told: list[str] = []
        supervisor = Supervisor(lambda: config, tmp_path / "edge", told.append)
        supervisor.__enter__()
        opened.append(supervisor)
        return Door(supervisor, config, told, serve)

    yield start
    for supervisor in opened:
        supervisor.__exit__()


@pytest.fixture
def door(open_edge: Open) -> Door:
    return open_edge()


@pytest.fixture
def channel(door: Door) -> Iterator[grpc.Channel]:
    with door.channel() as channel:
        yield channel


@pytest.fixture
def client(door: Door) -> Iterator[httpx.Client]:
    with door.http() as client:
        yield client


def infer_request(model: str, version: str = "", payload: int = 0) -> bytes:
    raw = [b"x" * payload] if payload else []
    request = pb.ModelInferRequest(model_name=model, model_version=version, raw_input_contents=raw)
    return bytes(request.SerializeToString())


def call(channel: grpc.Channel, method: str, message: bytes, **options: Any) -> str:
    path = method if method.startswith("/") else SERVICE + method
    return bytes(channel.unary_unary(path)(message, timeout=60, **options)).decode()


def application(answer: str) -> str:
    return answer.partition("|")[0]


# ------------------------------------------------------------------------------------------------------ gRPC


@pytest.mark.parametrize(
    ("model", "version", "expected"),
    [
        ("minilm", "", "minilm"),
        ("minilm", "2", "minilm@2"),
        ("minilm", "1", "minilm"),
        ("minilm@2", "", "minilm@2"),
        ("digits", "", "digits"),
        ("unknown", "", "console"),
        ("", "", "console"),
        ("m" * 300, "", "console"),
        ("console\nx", "", "console"),
    ],
)
def test_a_call_reaches_the_application_of_its_model(channel, model, version, expected):
    assert application(call(channel, "ModelInfer", infer_request(model, version))) == expected


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_calls_about_a_model_reach_it_too(channel, method):
    message = pb.ModelReadyRequest(name="minilm", version="2").SerializeToString()
    assert application(call(channel, method, message)) == "minilm@2"


@pytest.mark.parametrize(
    "method",
    [
        *("ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex", "RepositoryModelLoad"),
        *("/grpc.health.v1.Health/Check", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
    ],
)
def test_calls_about_the_server_reach_the_console(channel, method):
    assert application(call(channel, method, b"\x12\x06minilm")) == "console"


def test_an_application_that_the_client_names_is_kept(channel):
    metadata = [("application", "digits")]
    assert application(call(channel, "ModelInfer", infer_request("minilm"), metadata=metadata)) == "digits"


def test_a_message_of_any_size_goes_through_whole(channel):
    message = infer_request("minilm", payload=64 * MEGABYTE)
    assert call(channel, "ModelInfer", message) == f"minilm|{len(message)}"


def test_fields_in_another_order_are_read_as_far_as_the_prefix_goes(channel):
    parameter = b"\x3a\x10" + b"y" * 16  # field 7, sixteen bytes, before the name
    assert application(call(channel, "ModelInfer", parameter + infer_request("minilm"))) == "minilm"
    version_first = b"\x12\x012" + infer_request("minilm")
    assert application(call(channel, "ModelInfer", version_first)) == "minilm@2"


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        (b"\x3a\x80\x80\x04" + b"y" * 65536 + infer_request("minilm"), "INVALID_ARGUMENT", "first 16384 bytes"),
        (b"\x0a\xff", "INVALID_ARGUMENT", "cannot be read"),
        (b"\x0a\x7fshort", "INVALID_ARGUMENT", "cannot be read"),
        (b"\x0b\x00", "INVALID_ARGUMENT", "cannot be read"),
        (b"\xff" * 400, "INVALID_ARGUMENT", "cannot be read"),
        (b"\x3a" + b"\xff" * 8 + b"\x7f", "INVALID_ARGUMENT", "cannot be read"),
    ],
    ids=["hidden", "cut", "longer than the message", "unknown wire type", "endless varint", "endless field"],
)
def test_a_message_without_a_readable_model_is_refused_at_once(channel, message, code, says):
    with pytest.raises(grpc.RpcError) as refusal:
        call(channel, "ModelInfer", message)
    assert refusal.value.code().name == code
    assert says in refusal.value.details()


@pytest.mark.parametrize("payload", [1000, 64 * MEGABYTE])
def test_a_compressed_message_is_refused_unless_its_application_is_named(channel, payload):
    message, gzip = infer_request("minilm", payload=payload), grpc.Compression.Gzip
    with pytest.raises(grpc.RpcError) as refusal:
        call(channel, "ModelInfer", message, compression=gzip)
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "name the application in the metadata application" in refusal.value.details()
    metadata = [("application", "minilm")]
    assert call(channel, "ModelInfer", message, compression=gzip, metadata=metadata) == f"minilm|{len(message)}"


def test_a_message_above_the_bound_is_refused_before_it_is_read(open_edge):
    with open_edge(max_body_bytes=MEGABYTE).channel() as channel:
        with pytest.raises(grpc.RpcError) as refusal:
            call(channel, "ModelInfer", infer_request("minilm", payload=2 * MEGABYTE))
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "at most 1048576 bytes" in refusal.value.details()


def test_a_stream_is_answered_message_by_message(channel):
    sent, seen = threading.Semaphore(0), []

    def messages() -> Iterator[bytes]:
        for payload in (0, 100, 200_000):
            sent.acquire(timeout=30)
            yield infer_request("minilm", payload=payload)

    answers = channel.stream_stream(SERVICE + "ModelStreamInfer")(messages(), timeout=60)
    for _ in range(3):
        sent.release()  # the next message is made when the last one was answered
        seen.append(next(answers).decode())
    assert [application(answer) for answer in seen] == ["minilm"] * 3
    assert list(answers) == []


def test_a_stream_that_ends_without_a_message_ends(channel):
    with pytest.raises(grpc.RpcError) as refusal:
        list(channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([]), timeout=20))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_that_says_nothing_holds_up_nobody(channel):
    silent = channel.stream_stream(SERVICE + "ModelStreamInfer")(iter(lambda: time.sleep(20), 1), timeout=3)
    assert application(call(channel, "ModelInfer", infer_request("minilm"))) == "minilm"
    silent.cancel()


def test_a_name_that_arrives_byte_by_byte_is_read_when_it_is_there(door):
    message = infer_request("minilm", "2")
    with HandMadeCall(door, "ModelStreamInfer") as hand_made:
        for byte in struct.pack(">BI", 0, len(message)) + message:
            hand_made.send(bytes([byte]))
            time.sleep(0.01)
        hand_made.end()
        assert b"minilm@2|" in hand_made.answer()


def test_forged_metadata_does_not_get_through(channel):
    metadata = [("x-joulekeeper-tenant", "other"), ("x-joulekeeper-settle", "true"), ("x-api-key", "k")]
    rpc = channel.unary_unary(SERVICE + "ModelInfer").with_call(infer_request("minilm"), metadata=metadata, timeout=30)
    seen = dict(rpc[1].trailing_metadata())["seen"].split(",")
    assert {"x-joulekeeper-settle", "x-api-key", "x-forwarded-for"} <= set(seen)
    assert "x-joulekeeper-tenant" not in seen


# ------------------------------------------------------------------------------------------------------ HTTP


def test_http_goes_by_path_with_its_body_whole_and_without_what_clients_could_forge(client):
    headers = {
        "x-joulekeeper-tenant": "other", "x-joulekeeper-settle": "true", "x-forwarded-for": "9.9.9.9",
        "forwarded": "for=9.9.9.9", "authorization": "Bearer k",
    }  # fmt: skip
    told = client.post("/v2/models/minilm/infer", content=b"x" * 40 * MEGABYTE, headers=headers).json()
    assert (told["path"], told["length"]) == ("/v2/models/minilm/infer", 40 * MEGABYTE)
    assert told["headers"]["x-joulekeeper-settle"] == "true"
    assert told["headers"]["authorization"] == "Bearer k"
    assert told["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert told["headers"]["x-forwarded-proto"] == "https"
    assert not {"x-joulekeeper-tenant", "forwarded"} & told["headers"].keys()


def test_chunked_bodies_go_through_whole(client):
    chunks = (b"0123456789" for _ in range(10_000))
    assert client.post("/v2/models/minilm/infer", content=chunks).json()["length"] == 100_000


@pytest.mark.parametrize(
    ("model", "path"),
    [("minilm", "/v2/models/minilm/v1/chat/completions"),
     ("minilm@2", "/v2/models/minilm/versions/2/v1/chat/completions"),
     ("minilm@int8", "/v2/models/minilm/versions/int8/v1/chat/completions")],
)  # fmt: skip
def test_openai_calls_go_to_the_model_of_their_body_wherever_it_stands_in_it(client, model, path):
    for body in ({"model": model, "pad": "x" * 100_000}, {"messages": [{"model": "no"}], "model": model}):
        told = client.post("/v1/chat/completions?stream=true", json=body).json()
        assert told["path"] == f"{path}?stream=true"
        assert told["headers"]["x-joulekeeper-routed"] == ("minilm@2" if model == "minilm@2" else "minilm")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        ({"model": 'no"such'}, {}, 404, "model_not_found"),
        ({"model": "nonesuch@2"}, {}, 404, "model_not_found"),
        ({"model": "minilm@2/../.."}, {}, 404, "model_not_found"),
        ({"model": "minilm"}, {"content-encoding": "gzip"}, 415, "unsupported_encoding"),
    ],
    ids=["unknown model", "version of an unknown model", "no version", "compressed"],
)
def test_openai_calls_that_cannot_be_routed_are_refused_in_its_shape(client, body, headers, status, code):
    answer = client.post("/v1/embeddings", content=json.dumps(body).encode(), headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, "model")
    assert error["message"]


@pytest.mark.parametrize("body", [{"messages": []}, {"pad": "x" * 100_000, "model": "minilm"}])
def test_openai_calls_without_a_model_in_their_beginning_go_to_the_console_which_reads_all_of_it(client, body):
    told = client.post("/v1/chat/completions", json=body).json()
    assert told["path"] == "/v1/chat/completions"
    assert "x-joulekeeper-routed" not in told["headers"]


def test_a_stream_of_events_is_passed_on_as_it_comes_and_not_compressed(client, serve):
    with client.stream("POST", "/v1/chat/completions", json={"model": "minilm", "events": 3}) as answer:
        lines = answer.iter_lines()
        for number in range(3):
            serve.next_event.release()  # the next event is made when this one was read
            assert next(line for line in lines if line) == f"data: {number}"
        assert "content-encoding" not in answer.headers
        assert list(lines) == [""]


def test_a_stream_that_rests_longer_than_a_client_may_goes_on(open_edge, serve):
    with (
        open_edge(client_idle_s=1).http() as client,
        client.stream("POST", "/v1/chat/completions", json={"model": "minilm", "events": 2}) as answer,
    ):
        lines = answer.iter_lines()
        for number in range(2):
            time.sleep(1.5)
            serve.next_event.release()
            assert next(line for line in lines if line) == f"data: {number}"


def test_limits_of_openai_calls_are_told_in_its_shape(open_edge):
    with open_edge(max_body_bytes=2048, max_requests_per_source=20).http() as client:
        large = client.post("/v1/embeddings", content=b"x" * 2049)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
        refused = [answer for answer in (client.get("/v1/models") for _ in range(60)) if answer.status_code == 429]
        assert refused[0].headers["retry-after"] == "1"
        assert refused[0].json()["error"]["type"] == "rate_limit_error"


def test_the_list_of_models_is_the_consoles(client):
    assert client.get("/v1/models").json()["path"] == "/v1/models"


def test_answers_are_compressed_for_those_who_take_it(client):
    plain = client.get("/v2", headers={"accept-encoding": "identity"})
    packed = client.get("/v2", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json()["path"] == plain.json()["path"] == "/v2"


def test_limits_are_told_with_their_status(open_edge):
    with open_edge(max_body_bytes=2048, max_requests_per_source=20).http() as client:
        assert client.post("/v2", content=b"x" * 2049).status_code == 413
        assert client.get("/v2", headers={"pad": "x" * 20_000}).status_code == 431
        assert client.get("/-/routes").status_code == 404
        statuses = Counter(client.get("/v2").status_code for _ in range(60))
        assert statuses[429] > 0
        assert statuses[200] + statuses[429] == 60


def test_connections_of_one_source_are_bounded(open_edge):
    door = open_edge(max_connections_per_source=3)
    with door.http() as client:
        assert client.get("/v2").status_code == 200
        held = [socket.create_connection(("127.0.0.1", door.config.https_port)) for _ in range(6)]
        closed = [connection for connection in held if _is_closed(connection)]
        assert len(closed) >= 3
        assert client.get("/v2").status_code == 200
        for connection in held:
            connection.close()


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(1)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_slow_senders_are_ended_here_and_reach_no_replica(open_edge):
    door = open_edge(headers_s=1, body_s=1)
    head = b"POST /v2/models/minilm/infer HTTP/1.1\r\nhost: x\r\n"
    trust = ssl.create_default_context(cafile=str(door.config.cert))
    for start in (head + b"content-length: 100\r\n\r\n" + b"x" * 10, head):
        with socket.create_connection(("localhost", door.config.https_port)) as plain:
            connection = trust.wrap_socket(plain, server_hostname="localhost")
            connection.settimeout(10)
            connection.sendall(start)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    with HandMadeCall(door, "ModelInfer") as slow:
        slow.send(b"\x00\x00\x00\x00\x20\x0a")
        assert slow.grpc_status() == 4
    assert door.serve.requests == 0


# --------------------------------------------------------------------------------- versions, models, certificates


def test_traffic_is_divided_as_declared_and_aliases_lead_to_versions(open_edge, serve):
    serve.declared = {
        "minilm": {"name": "minilm", "source": "x:y@1", "traffic": {"2": 0.25, "7": 0.25}, "aliases": {"prod": "2"}}
    }
    door = open_edge()
    with door.http() as client, door.channel() as channel:
        by_http = Counter(client.post("/v2/models/minilm/infer").json()["path"] for _ in range(400))
        by_grpc = Counter(application(call(channel, "ModelInfer", infer_request("minilm"))) for _ in range(400))
        # Version 7 is not deployed: its quarter goes to the others, so version 2 has a third.
        for share in (by_http["/v2/models/minilm/versions/2/infer"] / 400, by_grpc["minilm@2"] / 400):
            assert 0.22 < share < 0.45
        assert (
            client.post("/v2/models/minilm/versions/prod/infer").json()["path"] == "/v2/models/minilm/versions/2/infer"
        )
        assert client.get("/v2/models/minilm/versions/prod").json()["path"] == "/v2/models/minilm/versions/2"
        assert application(call(channel, "ModelInfer", infer_request("minilm", "prod"))) == "minilm@2"
        asked = {application(call(channel, "ModelReady", infer_request("minilm"))) for _ in range(30)}
        assert asked == {"minilm"}
        assert {client.get("/v2/models/minilm/ready").json()["path"] for _ in range(30)} == {"/v2/models/minilm/ready"}


def test_a_file_of_the_edge_stands_in_place_of_what_is_declared(open_edge, serve, tmp_path):
    serve.declared = {"minilm": {"source": "x:y@1", "traffic": {"2": 1.0}}}
    file = tmp_path / "traffic.yaml"
    file.write_text("minilm:\n  split: {digits: 1}\n")
    door = open_edge(traffic=file)
    with door.channel() as channel:
        assert application(call(channel, "ModelInfer", infer_request("minilm"))) == "digits"
        file.write_text("minilm: {split: {digits: lots}}\n")
        door.supervisor.look()
        assert "split.digits" in door.told[-1]
        assert application(call(channel, "ModelInfer", infer_request("minilm"))) == "digits"


def test_models_come_and_go_without_a_reload(door, serve):
    workers = door.supervisor.proxy.ask("show info")
    with door.channel() as channel:
        assert application(call(channel, "ModelInfer", infer_request("fresh"))) == "console"
        serve.routes = {"/": "console", "/v2/models/fresh": "fresh"}
        door.supervisor.look()
        assert application(call(channel, "ModelInfer", infer_request("fresh"))) == "fresh"
        assert application(call(channel, "ModelInfer", infer_request("minilm"))) == "console"
    pid = [line for line in workers.splitlines() if line.startswith("Pid:")]
    assert pid[0] in door.supervisor.proxy.ask("show info")


def test_a_thousand_models_are_taken_at_once(door, serve):
    serve.routes = {f"/v2/models/model-number-{n:04d}": f"model-number-{n:04d}" for n in range(1000)}
    door.supervisor.look()
    with door.channel() as channel:
        for n in (0, 500, 999):
            assert application(call(channel, "ModelInfer", infer_request(f"model-number-{n:04d}"))).endswith(f"{n:04d}")


def test_while_serve_is_silent_the_last_known_models_stay(door, serve):
    serve.routes = ["not", "routes"]  # type: ignore[assignment]
    door.supervisor.look()
    door.supervisor.look()
    assert [sentence.startswith("models: ") for sentence in door.told] == [True]
    with door.channel() as channel:
        assert application(call(channel, "ModelInfer", infer_request("minilm"))) == "minilm"


def test_a_new_certificate_goes_into_force_under_load_and_no_call_is_lost(door):
    stop, outcomes = threading.Event(), Counter()
    old = door.config.cert.read_bytes()

    def post() -> None:
        trust = ssl.create_default_context(cadata=old.decode())
        with httpx.Client(base_url=f"https://localhost:{door.config.https_port}", verify=trust, timeout=30) as client:
            while not stop.is_set():
                outcomes[client.post("/v2/models/minilm/infer", content=b"x" * 1000).status_code] += 1

    def infer() -> None:
        with door.channel() as channel:
            while not stop.is_set():
                outcomes[application(call(channel, "ModelInfer", infer_request("minilm", payload=1000)))] += 1

    # The file changes and the certificate in it does not, so clients trust it as before: what they see is the reload.
    with ThreadPoolExecutor(8) as clients:
        futures = [clients.submit(task) for task in (post, infer) * 4]
        for round_ in range(3):
            time.sleep(0.3)
            door.config.cert.write_bytes(old + f"# {round_}\n".encode())
            door.supervisor.look()
        time.sleep(0.3)
        stop.set()
        for future in futures:
            future.result()
    assert door.told == ["new configuration in force"] * 3
    assert set(outcomes) == {200, "minilm"}
    assert min(outcomes.values()) > 50


def test_another_certificate_is_shown_after_the_look_and_copies_of_the_old_one_are_gone(door, tmp_path):
    directory = tmp_path / "edge"
    before = {path.name for path in directory.glob("pair-*")}
    write_pair(tmp_path)  # over the files of the first
    door.supervisor.look()
    with door.http() as client:
        assert client.get("/v2").status_code == 200
    door.supervisor.look()
    after = {path.name for path in directory.glob("pair-*")}
    assert len(after) == 1
    assert not after & before
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.iterdir())


def test_a_certificate_that_does_not_fit_is_told_once_and_the_old_one_stays(door, tmp_path):
    good = door.config.cert.read_bytes()
    other, _ = write_pair(tmp_path, "other")
    with door.http() as client:
        door.config.cert.write_bytes(other.read_bytes())
        for _ in range(2):
            door.supervisor.look()
        assert len(door.told) == 1
        assert "HAProxy refuses" in door.told[0]
        assert client.get("/v2").status_code == 200
    door.config.cert.write_bytes(good)
    door.supervisor.look()
    assert door.told[1:] == ["configuration: right again"]


def test_both_doors_demand_certificates_when_an_authority_is_named(open_edge, tmp_path):
    trusted, stranger = write_pair(tmp_path, "client"), write_pair(tmp_path, "stranger")
    door = open_edge(client_ca=trusted[0])
    with door.http(trusted) as client, door.channel(trusted) as channel:
        assert client.get("/v2").status_code == 200
        assert application(call(channel, "ModelInfer", infer_request("minilm"))) == "minilm"
    for pair in (None, stranger):
        with door.http(pair) as client, pytest.raises(httpx.TransportError):
            client.get("/v2")
        with door.channel(pair) as channel, pytest.raises(grpc.RpcError) as refusal:
            call(channel, "ModelInfer", infer_request("minilm"))
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_serve_that_is_not_there_is_told_in_the_words_of_each_protocol(open_edge):
    nobody = f"127.0.0.1:{free_port()}"
    door = open_edge(serve_http=nobody, serve_grpc=nobody)
    with door.http() as client, door.channel() as channel:
        answer = client.get("/v2/models/minilm")
        assert (answer.status_code, answer.json()) == (503, {"error": "Serve does not answer; try again"})
        with pytest.raises(grpc.RpcError) as refusal:
            call(channel, "ServerLive", b"")
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refusal.value.details() == "Serve does not answer; try again"


def test_a_proxy_that_was_killed_is_started_again(door):
    import os
    import signal

    first = door.supervisor.proxy.pid
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while door.supervisor.proxy.pid in (first, None) and time.monotonic() < deadline:
        door.supervisor.look()
        time.sleep(0.1)
    with door.http() as client, door.channel() as channel:
        assert client.get("/v2").status_code == 200
        assert application(call(channel, "ModelInfer", infer_request("minilm"))) == "minilm"


def test_a_port_that_is_taken_is_named_and_so_is_a_second_edge(door, open_edge, tmp_path):
    with pytest.raises(Unavailable, match="runs already with this state directory"):
        open_edge()
    config = door.config
    other = Supervisor(lambda: config, tmp_path / "other", print)
    with pytest.raises(Unavailable, match=f"port {config.https_port}: Address already in use"):
        other.__enter__()


# --------------------------------------------------------------------------------------------------------------------


class HandMadeCall:
    """One gRPC call in hand-made HTTP/2 frames, for what no client library would send."""

    _SETTINGS, _DATA, _HEADERS, _ACK = 4, 0, 1, 1

    def __init__(self, door: Door, method: str) -> None:
        trust = ssl.create_default_context(cafile=str(door.config.cert))
        trust.set_alpn_protocols(["h2"])
        self._plain = socket.create_connection(("localhost", door.config.grpc_port))
        self._socket = trust.wrap_socket(self._plain, server_hostname="localhost")
        self._socket.settimeout(15)
        fields = {":method": "POST", ":scheme": "https", ":path": SERVICE + method, ":authority": "localhost",
                  "content-type": "application/grpc", "te": "trailers"}  # fmt: skip
        # HPACK: each a literal without indexing, name and value as they are.
        block = b"".join(
            b"\x00" + bytes([len(text[0])]) + text[0].encode() + bytes([len(text[1])]) + text[1].encode()
            for text in fields.items()
        )
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._frame(self._SETTINGS, 0, 0, b""))
        self._socket.sendall(self._frame(self._HEADERS, 4, 1, block))
        self._read = b""

    def __enter__(self) -> "HandMadeCall":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(self._frame(self._DATA, 0, 1, data))

    def end(self) -> None:
        self._socket.sendall(self._frame(self._DATA, 1, 1, b""))

    def answer(self) -> bytes:
        """The content of the first DATA frame of the call."""
        return next(content for kind, stream, content in self._frames() if kind == self._DATA and stream == 1)

    def grpc_status(self) -> int:
        """Of an answer without content; HAProxy writes such headers as literals or from its table of none of ours."""
        block = next(content for kind, stream, content in self._frames() if kind == self._HEADERS and stream == 1)
        at = block.index(b"grpc-status") + len(b"grpc-status")
        return int(block[at + 1 : at + 1 + block[at]])

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        for _ in itertools.count():
            head = self._exactly(9)
            length, kind, stream = int.from_bytes(head[:3], "big"), head[3], int.from_bytes(head[5:], "big")
            content = self._exactly(length)
            if kind == self._SETTINGS and not head[4] & self._ACK:
                self._socket.sendall(self._frame(self._SETTINGS, self._ACK, 0, b""))
            yield kind, stream, content

    def _exactly(self, count: int) -> bytes:
        while len(self._read) < count:
            more = self._socket.recv(65536)
            assert more, "the connection was closed"
            self._read += more
        taken, self._read = self._read[:count], self._read[count:]
        return taken

    @staticmethod
    def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
        return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content
