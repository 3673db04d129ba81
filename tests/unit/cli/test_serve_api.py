"""Serve's REST API: validation with Serve's own schema, failures in our words. No server is called."""

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from ray.exceptions import AuthenticationError

from app.cli.serve_api import _translated, validate
from app.cli.serve_config import merge, read_config
from app.errors import InvalidInput, JoulekeeperError, Unavailable

DEPLOYMENTS = Path(__file__).parents[3] / "deployments"


@pytest.mark.parametrize("path", sorted(DEPLOYMENTS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_that_is_shipped_can_be_deployed(path: Path) -> None:
    validate(merge({"applications": {}}, [read_config(path)]).config)


def test_faults_name_the_application_and_all_are_named() -> None:
    config = {"applications": [{"name": "digits", "import_path": "no colon anywhere"}, {"name": "seed"}]}
    with pytest.raises(InvalidInput) as raised:
        validate(config)
    assert "application 'digits'.import_path" in str(raised.value)
    assert "application 'seed'.import_path: Field required" in str(raised.value)


def _raising(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "ours", "says"),
    [
        (ConnectionError("x"), Unavailable, "scripts/up"),
        (requests.ConnectionError("x"), Unavailable, "scripts/up"),
        (requests.Timeout("x"), Unavailable, "scripts/up"),
        (AuthenticationError("x"), Unavailable, "RAY_AUTH_MODE=token"),
        (RuntimeError("Request failed with status code 400: bad"), InvalidInput, "bad"),
        (RuntimeError("Request failed with status code 503: busy"), Unavailable, "busy"),
        (ValueError("Got an unexpected address"), InvalidInput, "unexpected address"),
    ],
)
def test_failures_are_translated(error: Exception, ours: type[JoulekeeperError], says: str) -> None:
    with pytest.raises(ours, match=says) as raised:
        _translated("http://127.0.0.1:8265", _raising(error))
    assert raised.value.__cause__ is error
