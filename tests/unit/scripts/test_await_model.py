"""What a waiting person is told of Serve's state."""

from await_model import failure, summary

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
