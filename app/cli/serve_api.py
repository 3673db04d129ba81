"""Serve's REST API as Ray's own client speaks it, its failures as ours.

Imports Ray when it connects, not before. Ray's client sends the cluster's token when RAY_AUTH_MODE=token; where
the mode is not set and a dashboard on this host demands a token, the one in the user's home is tried once.
"""

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import typer

from app.errors import InvalidInput, Unavailable

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
AddressOption = Annotated[str, typer.Option(envvar="RAY_DASHBOARD_ADDRESS", help="Ray's dashboard.", show_envvar=True)]
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Answer = TypeVar("Answer")


class ServeApi(Protocol):
    """The two calls that deploying needs."""

    def details(self) -> Mapping[str, Any]:
        """GET /api/serve/applications/. Raises Unavailable."""

    def submit(self, config: Mapping[str, Any]) -> None:
        """PUT /api/serve/applications/: what `config` does not name is removed.

        Raises InvalidInput, Unavailable.
        """


class RestServeApi:
    """`ServeApi` at a dashboard's address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = _translated(address, lambda: _client(address))

    def details(self) -> Mapping[str, Any]:
        return _translated(self._address, self._client.get_serve_details)

    def submit(self, config: Mapping[str, Any]) -> None:
        validate(config)
        _translated(self._address, lambda: self._client.deploy_applications(dict(config)))


def validate(config: Mapping[str, Any]) -> None:
    """Hold `config` against Serve's own schema. Raises InvalidInput naming every fault."""
    from pydantic import ValidationError
    from ray.serve.schema import ServeDeploySchema

    try:
        ServeDeploySchema.model_validate(dict(config))
    except ValidationError as error:
        faults = (
            f"{_place(config, fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors()
        )
        raise InvalidInput(f"not a Serve config: {'; '.join(faults)}") from error


def _place(config: Mapping[str, Any], loc: tuple[int | str, ...]) -> str:
    """Where a fault is, with an application's name in place of its number."""
    if len(loc) > 1 and loc[0] == "applications" and isinstance(loc[1], int):
        name = config["applications"][loc[1]].get("name", loc[1])
        return f"application {'.'.join((repr(name), *map(str, loc[2:])))}"
    return ".".join(map(str, loc))


def _client(address: str) -> Any:
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
    from ray.exceptions import AuthenticationError

    try:
        return ServeSubmissionClient(address)
    except AuthenticationError:
        if "RAY_AUTH_MODE" in os.environ or urlsplit(address).hostname not in _LOOPBACK:
            raise
        from ray._private.authentication.authentication_token_setup import (
            maybe_enable_token_auth_if_token_available,
        )

        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        return ServeSubmissionClient(address)


def _translated(address: str, call: Callable[[], Answer]) -> Answer:
    import requests
    from ray.exceptions import AuthenticationError

    try:
        return call()
    except AuthenticationError as error:
        raise Unavailable(
            f"the cluster at {address} demands a token: set RAY_AUTH_MODE=token and have its token in "
            f"~/.ray/auth_token ({error})"
        ) from error
    except (ConnectionError, requests.RequestException) as error:
        raise Unavailable(
            f"no Ray dashboard answers at {address}: start a cluster with scripts/up or set RAY_DASHBOARD_ADDRESS"
        ) from error
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    except RuntimeError as error:
        kind = InvalidInput if "status code 400" in str(error) else Unavailable
        raise kind(f"Serve at {address} refused: {error}") from error
