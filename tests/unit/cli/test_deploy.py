"""deploy: submit, wait, conclude."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.cli import deploy as command
from app.cli.deploy import AppState, PlainWatcher, app_states, wait_for
from app.clock import ManualClock
from app.errors import Unavailable

Call = Callable[..., Any]


def _application(status: str, running: int = 0, target: int = 0, message: str = "") -> dict[str, Any]:
    deployment = {
        "replicas": [{"state": "RUNNING"}] * running + [{"state": "STARTING"}] * (target - running),
        "target_num_replicas": target,
        "message": message,
    }
    return {"status": status, "message": "", "deployments": {"Model": deployment}, "deployed_app_config": {}}


class FakeServe:
    """Serve whose `digits` goes through scripted states, one a look after the submission."""

    def __init__(self, *after: Mapping[str, Any] | Exception) -> None:
        self.after = list(after)
        self.submitted: list[Mapping[str, Any]] = []

    def details(self) -> Mapping[str, Any]:
        if not self.submitted:
            return {"applications": {}}
        look = self.after.pop(0) if len(self.after) > 1 else self.after[0]
        if isinstance(look, Exception):
            raise look
        return {"applications": {"digits": look}}

    def submit(self, config: Mapping[str, Any]) -> None:
        self.submitted.append(config)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "digits.yaml"
    path.write_text("applications:\n- {name: digits, route_prefix: /v2/models/digits, import_path: a:b}\n")
    return path


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeServe]:
    def run(*after: Mapping[str, Any] | Exception) -> FakeServe:
        fake = FakeServe(*after)
        clock = ManualClock()
        monkeypatch.setattr(command, "connect", lambda address: fake)
        monkeypatch.setattr(command, "SystemClock", lambda: clock)
        monkeypatch.setattr(command, "pause", lambda: clock.advance(500_000_000))
        return fake

    return run


def test_a_deployment_is_followed_until_it_runs(serve: Callable[..., FakeServe], config: Path, call: Call) -> None:
    fake = serve(_application("DEPLOYING"), _application("DEPLOYING", 0, 1), _application("RUNNING", 1, 1))
    result = call("deploy", config)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "submitted digits; kept nothing else",
        "digits: DEPLOYING",
        "digits: DEPLOYING (0/1 replicas)",
        "digits: RUNNING (1/1 replicas)",
    ]
    assert fake.submitted[0]["applications"][0]["name"] == "digits"


def test_a_model_asleep_is_a_model_that_runs(serve: Callable[..., FakeServe], config: Path, call: Call) -> None:
    serve(_application("RUNNING"))
    assert "RUNNING (asleep, wakes when asked)" in call("deploy", config).stdout


def test_a_failed_deployment_says_why_and_ends_with_one(
    serve: Callable[..., FakeServe], config: Path, call: Call
) -> None:
    serve(_application("DEPLOY_FAILED", message="\x1b[36mNo module named 'a'\x1b[39m"))
    result = call("deploy", config)
    assert result.exit_code == 1
    assert result.stderr == "error: application 'digits' failed to deploy: No module named 'a'\n"


def test_waiting_ends(serve: Callable[..., FakeServe], config: Path, call: Call) -> None:
    serve(_application("DEPLOYING", 0, 1, message="waiting for resources"))
    result = call("deploy", config, "--timeout", "3")
    assert result.exit_code == 1
    assert "DEPLOYING (0/1 replicas) after 3 s: waiting for resources" in result.stderr


def test_without_waiting_nothing_is_looked_at(serve: Callable[..., FakeServe], config: Path, call: Call) -> None:
    fake = serve(AssertionError("looked"))
    assert call("deploy", config, "--no-wait").exit_code == 0
    assert len(fake.submitted) == 1


def test_a_file_that_is_wrong_is_not_submitted(serve: Callable[..., FakeServe], tmp_path: Path, call: Call) -> None:
    fake = serve()
    result = call("deploy", tmp_path / "none.yaml")
    assert (result.exit_code, fake.submitted) == (1, [])
    assert "none.yaml cannot be read" in result.stderr


def test_a_serve_that_does_not_answer_for_a_moment_is_asked_again() -> None:
    fake = FakeServe(Unavailable("busy"), _application("RUNNING", 1, 1))
    fake.submit({})
    clock = ManualClock()
    states = wait_for(fake, ["digits"], 10.0, PlainWatcher(), clock, lambda: clock.advance(500_000_000))
    assert states == (AppState("digits", "RUNNING", "", 1, 1),)
    assert clock.monotonic_ns() == 500_000_000


def test_the_states_are_those_of_the_named_applications() -> None:
    details = {"applications": {"a": _application("RUNNING", 1, 2), "b": _application("RUNNING")}}
    states: Sequence[AppState] = app_states(details, ["a", "missing"])
    assert [(state.name, state.status, state.running, state.target) for state in states] == [
        ("a", "RUNNING", 1, 2),
        ("missing", "NOT_STARTED", 0, 0),
    ]
