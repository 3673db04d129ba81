"""The client of KubeRay against a local server that answers as the Kubernetes API does, its refusals included."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.errors import Forbidden, InvalidInput, JoulekeeperError, NotFound, Unauthenticated, Unavailable
from app.policy.worker_groups import Group, Wish
from app.training.kuberay import KubeRay

PATH = "/apis/ray.io/v1/namespaces/ml/rayclusters/ray"


class FakeApi:
    """One RayCluster. `refuse`: a status for every call; `others`: what somebody else does before each PATCH."""

    def __init__(self) -> None:
        self.groups: list[dict[str, Any]] = [
            {"groupName": "small", "replicas": 1, "minReplicas": 0, "maxReplicas": 2},
            {"groupName": "workers", "replicas": 3, "minReplicas": 1, "maxReplicas": 5},
        ]
        self.autoscaled = False
        self.refuse = 0
        self.others: list[Any] = []
        self.seen: list[tuple[str, str, str]] = []

    def answer(self, method: str, path: str, body: list[dict[str, Any]] | None) -> tuple[int, dict[str, Any]]:
        if self.refuse:
            return self.refuse, {"kind": "Status", "message": f"refused by the test with {self.refuse}"}
        if path != PATH:
            return 404, {"kind": "Status", "message": f"rayclusters.ray.io {path!r} not found"}
        if method == "PATCH":
            if self.others:
                self.others.pop(0)(self)
            for operation in body or ():
                place, field = operation["path"].split("/")[3:]
                if operation["op"] == "test" and self.groups[int(place)].get(field) != operation["value"]:
                    return 422, {"kind": "Status", "message": "the server rejected our request"}
            for operation in body or ():
                place, field = operation["path"].split("/")[3:]
                self.groups[int(place)][field] = operation["value"]
        return 200, {"spec": {"enableInTreeAutoscaling": self.autoscaled, "workerGroupSpecs": self.groups}}


@pytest.fixture
def api() -> Iterator[tuple[FakeApi, KubeRay]]:
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            content = self.headers.get("content-type", "")
            fake.seen.append((self.command, self.headers.get("authorization", ""), content))
            status, told = fake.answer(self.command, self.path, body)
            text = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with KubeRay(f"http://127.0.0.1:{server.server_address[1]}", "ml", lambda: "secret") as kuberay:
        yield fake, kuberay
    server.shutdown()
    server.server_close()


def test_a_group_is_sized_and_put_back(api: tuple[FakeApi, KubeRay]) -> None:
    fake, kuberay = api
    assert kuberay.groups("ray")["workers"] == Group("workers", 3, 1, 5, 1)
    before = kuberay.size("ray", {"workers": Wish.of_workers(2)})
    assert fake.groups[1] == {"groupName": "workers", "replicas": 2, "minReplicas": 0, "maxReplicas": 2}
    assert kuberay.size("ray", before) == {"workers": Wish(2, 0, 2)}
    assert fake.groups[1] == {"groupName": "workers", "replicas": 3, "minReplicas": 1, "maxReplicas": 5}
    assert {token for _, token, _ in fake.seen} == {"Bearer secret"}
    assert {kind for method, _, kind in fake.seen if method == "PATCH"} == {"application/json-patch+json"}


def test_what_is_as_wished_is_not_written(api: tuple[FakeApi, KubeRay]) -> None:
    fake, kuberay = api
    kuberay.size("ray", {"workers": Wish(3, 1, 5)})
    assert [method for method, *_ in fake.seen] == ["GET"]


def test_the_autoscaler_keeps_its_number_of_replicas(api: tuple[FakeApi, KubeRay]) -> None:
    fake, kuberay = api
    fake.autoscaled = True
    kuberay.size("ray", {"workers": Wish.of_workers(0)})
    assert fake.groups[1] == {"groupName": "workers", "replicas": 3, "minReplicas": 0, "maxReplicas": 0}


def test_groups_that_others_reorder_meanwhile_are_found_again_and_no_other_is_touched(
    api: tuple[FakeApi, KubeRay],
) -> None:
    fake, kuberay = api
    fake.others = [lambda each: each.groups.reverse()]
    kuberay.size("ray", {"workers": Wish.of_workers(2)})
    assert {each["groupName"]: each["replicas"] for each in fake.groups} == {"small": 1, "workers": 2}


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, Unauthenticated, "does not know the token"),
        (403, Forbidden, "verbs get and patch on rayclusters"),
        (404, NotFound, "no such RayCluster"),
        (409, Unavailable, "did not do it|changed by others"),
        (500, Unavailable, "refused by the test with 500"),
    ],
)
def test_refusals_are_our_errors_with_what_the_api_said(
    api: tuple[FakeApi, KubeRay], status: int, kind: type[JoulekeeperError], message: str
) -> None:
    fake, kuberay = api
    fake.refuse = status
    with pytest.raises(kind, match=message):
        kuberay.size("ray", {"workers": Wish.of_workers(2)})


def test_one_that_others_change_all_the_time_is_given_up(api: tuple[FakeApi, KubeRay]) -> None:
    fake, kuberay = api
    fake.others = [lambda each: each.groups.reverse()] * 5
    with pytest.raises(InvalidInput, match="3 times"):
        kuberay.size("ray", {"workers": Wish.of_workers(2)})


def test_an_api_that_is_not_there_is_unavailable() -> None:
    with (
        KubeRay("http://127.0.0.1:1", "ml", lambda: "") as kuberay,
        pytest.raises(Unavailable, match="does not answer"),
    ):
        kuberay.groups("ray")


def test_in_a_pod_it_is_what_kubernetes_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unavailable, match="no pod of Kubernetes"):
        KubeRay.in_cluster(secrets=tmp_path)
    (tmp_path / "namespace").write_text("ml\n")
    with pytest.raises(Unavailable, match="KUBERNETES_SERVICE_HOST"):
        KubeRay.in_cluster(secrets=tmp_path)
