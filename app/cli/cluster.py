"""The way from the command to a running cluster: Ray, and the books on it.

The only module of the command that imports Ray, and only when called: `--help` and `probe` stay quick. A dead
address is found out by a connection of our own, because Ray would try it for half a minute.
"""

import logging
import os
import socket
from typing import TYPE_CHECKING

from app.errors import Unavailable

if TYPE_CHECKING:
    from app.metering.accountant import BooksClient

_CONNECT_TIMEOUT_S = 3.0


def books() -> "BooksClient":
    """The books of the running cluster. Raises Unavailable when there is no cluster or no accountant."""
    connect()
    from app.metering.accountant import connect_books

    return connect_books()


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names, else the one of this machine. Raises Unavailable."""
    import ray

    if ray.is_initialized():
        return
    address = _address()
    _check_reachable(address)
    from app.metering.accountant import NAMESPACE
    from app.metering.auth_mode import take_over_auth_mode

    take_over_auth_mode()
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address="auto",
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise Unavailable(f"the Ray cluster at {address} refused this command: {error}") from error


def _address() -> str:
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return canonicalize_bootstrap_address("auto") or "auto"
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(os.environ.get("RAY_ADDRESS") or "this machine's address") from error


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address) from error


def _no_cluster(address: str) -> Unavailable:
    return Unavailable(f"no Ray cluster answers at {address}: start one with scripts/up or set RAY_ADDRESS")
