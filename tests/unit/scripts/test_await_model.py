"""When a model counts as ready, and what a waiting person is told of Serve's state."""

import io
import urllib.error
import urllib.request
from email.message import Message
from typing import Any

import pytest
from await_model import answers, failure, summary

URL = "http://127.0.0.1:8000/v2/models/digits/ready"

DEPLOYING = {
    "minilm": {
        "status": "DEPLOYING",
        "deployments": {"Model": {"status": "UPDATING", "replicas": [{"state": "STARTING"}, {"state": "RUNNING"}]}},
    }
}


def test_an_application_is_told_with_its_replicas_by_state() -> None:
    assert summary(DEPLOYING, "minilm") == "DEPLOYING; Model UPDATING, 1 RUNNING, 1 STARTING"


def test_an_application_at_zero_says_so() -> None:
    asleep = {"minilm": {"status": "RUNNING", "deployments": {"Model": {"status": "HEALTHY", "replicas": []}}}}
    assert summary(asleep, "minilm") == "RUNNING; Model HEALTHY, 0 replicas"


def test_an_application_that_serve_does_not_list_is_not_known_yet() -> None:
    assert summary({}, "minilm") == "not known to Serve yet"


def test_only_a_failed_deployment_is_a_failure_and_its_messages_are_told_once() -> None:
    assert failure(DEPLOYING, "minilm") == ""
    failed = {
        "minilm": {
            "status": "DEPLOY_FAILED",
            "message": "no such package",
            "deployments": {"Model": {"status": "UNHEALTHY", "message": "no such package"}},
        }
    }
    assert failure(failed, "minilm") == "no such package"


def answer_with(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes) -> list[Any]:
    """Every request is answered so; returns the requests."""
    asked: list[Any] = []

    def urlopen(request: Any, timeout: float) -> io.BytesIO:
        asked.append(request)
        if status != 200:
            raise urllib.error.HTTPError(URL, status, "no", Message(), io.BytesIO(body))
        return io.BytesIO(body)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_a_model_is_ready_when_it_says_so_whatever_its_inputs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(monkeypatch, 200, b'{"name": "digits", "ready": true}')
    assert answers(URL, 1.0) == ""
    (request,) = asked
    assert (request.full_url, request.get_method(), request.data) == (URL, "GET", None)
    assert request.headers == {}


def test_where_access_is_required_the_key_in_the_environment_goes_with_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWAIT_KEY", "jk_a_b")
    asked = answer_with(monkeypatch, 200, b'{"ready": true}')
    assert answers(URL, 1.0) == ""
    assert asked[0].headers == {"X-api-key": "jk_a_b"}


def test_a_model_that_is_not_routed_to_yet_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, 503, b'{"error": "not routed to yet"}')
    assert answers(URL, 1.0) == 'HTTP 503: {"error": "not routed to yet"}'


@pytest.mark.parametrize("body", [b'{"ready": false}', b"[]", b"<html>"])
def test_an_answer_that_does_not_say_ready_is_not_ready(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    answer_with(monkeypatch, 200, body)
    assert answers(URL, 1.0) != ""
