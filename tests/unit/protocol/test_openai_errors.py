"""Refusals in OpenAI's shape: every class of the tree has a status, a type and a code; secrets stay inside."""

import json
import pickle

import pytest

from app import errors
from app.access.refusals import headers_of
from app.protocol.openai_errors import UnknownModel, WireFault, failure_event, refusal

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]


def told(error):
    answer = refusal(error)
    return answer.status, json.loads(answer.body)["error"]


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        (
            WireFault("no", "messages[0].role", "invalid_type"),
            400,
            "invalid_request_error",
            "messages[0].role",
            "invalid_type",
        ),
        (errors.InvalidInput("no"), 400, "invalid_request_error", None, None),
        (errors.TooLarge("no"), 413, "invalid_request_error", None, "request_too_large"),
        (errors.Unauthenticated("no"), 401, "invalid_request_error", None, "invalid_api_key"),
        (errors.Forbidden("no"), 403, "invalid_request_error", None, "insufficient_permissions"),
        (errors.NotFound("no"), 404, "invalid_request_error", None, None),
        (UnknownModel("no"), 404, "invalid_request_error", "model", "model_not_found"),
        (errors.OverQuota("no", 0.5), 429, "rate_limit_error", None, "rate_limit_exceeded"),
        (errors.OverQuota("no", 900.0, True), 429, "insufficient_quota", None, "insufficient_quota"),
        (errors.Busy("no", 2.0), 429, "server_error", None, "engine_overloaded"),
        (errors.Unavailable("no"), 503, "server_error", None, "service_unavailable"),
        (errors.BooksDamaged("no"), 500, "server_error", None, None),
    ],
)
def test_every_error_has_its_status_type_and_code(error, status, kind, param, code):
    assert told(error) == (status, {"message": "no", "type": kind, "param": param, "code": code})
    event = failure_event(error)
    assert event.startswith(b"data: ")
    assert event.endswith(b"}\n\n")
    assert json.loads(event[6:])["error"] == told(error)[1]


@pytest.mark.parametrize("error", CLASSES)
def test_no_class_of_the_tree_is_left_out(error):
    status, said = told(error("no"))
    assert status == error.http_status
    assert said["type"] in ("invalid_request_error", "rate_limit_error", "server_error")
    assert (said["type"] == "server_error") == (status >= 500 or error is errors.Busy)


def test_a_client_that_may_come_again_is_told_when_and_one_that_may_not_is_told_so():
    answers = {
        name: refusal(error, headers_of(error)).headers
        for name, error in (
            ("rate", errors.OverQuota("no", 1.2)),
            ("busy", errors.Busy("no", 3.0)),
            ("spent", errors.OverQuota("no", 900.0, True)),
            ("key", errors.Unauthenticated("no")),
        )
    }
    assert answers == {
        "rate": (("retry-after", "2"),),
        "busy": (("retry-after", "3"),),
        "spent": (("retry-after", "900"), ("x-should-retry", "false")),
        "key": (("www-authenticate", 'Bearer realm="joulekeeper"'),),
    }


def test_an_error_that_nobody_foresaw_tells_its_name_alone():
    status, said = told(ValueError("the password is xyzzy"))
    assert (status, said["type"], said["code"]) == (500, "server_error", None)
    assert "ValueError" in said["message"]
    assert "xyzzy" not in said["message"]


def test_a_message_that_is_no_text_is_still_told():
    assert told(errors.InvalidInput("lone \ud800 surrogate"))[1]["message"] == "lone ? surrogate"


def test_faults_survive_pickling():
    fault = pickle.loads(pickle.dumps(WireFault("no", "stop[1]", "invalid_value")))
    assert (str(fault), fault.param, fault.code) == ("no", "stop[1]", "invalid_value")
