"""Opens the gate of a process that answers requests, and keeps it in step with the accountant.

With access required a thread polls: every two seconds, sooner when a tenant has run dry. With access open it finds out
once whether Serve's doors, whose HAProxy hides who calls, are on loopback alone; if not, nobody is let in. The gate
itself is app/access/gate.py and knows nothing of this.

    gate = open_gate("minilm@1", tenant="default")
"""

import ipaddress
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from app.access.gate import Gate
from app.access.snapshot import Poll, PollAnswer
from app.clock import SystemClock
from app.config import Settings, settings
from app.errors import JoulekeeperError, Unavailable

_EVERY_S, _HURRIED_S, _RETRY_S = 2.0, 0.25, 0.5
_TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)
_feeds = itertools.count(1)

Ask = Callable[[Poll], PollAnswer]


def open_gate(who: str, tenant: str) -> Gate:
    """The gate of this process as the settings want it. `who` is it in the audit log, `tenant` its caller if open."""
    config = settings()
    if config.access == "required":
        feed = AccessFeed(_name(config, who), _Line().ask)
        feed.start()
        return feed.gate
    gate = Gate.open(tenant)
    if ray.is_initialized():
        threading.Thread(target=_judge_exposure, args=(gate, _serve_host), name="access", daemon=True).start()
    else:
        gate.unbar()
    return gate


class AccessFeed:
    """One gate and the thread that polls for it."""

    def __init__(self, name: str, ask: Ask) -> None:
        self._name, self._ask = name, ask
        self._hurry = threading.Event()
        self.gate = Gate.required(SystemClock(), self._hurry.set)

    def start(self) -> None:
        """Poll until the process ends."""
        threading.Thread(target=self._run, name="access", daemon=True).start()

    def step(self) -> float:
        """One poll; seconds until the next, if nothing hurries."""
        poll = self.gate.poll(self._name)
        try:
            answer = self._ask(poll)
        except JoulekeeperError as error:
            self.gate.keep(poll)
            _log.debug("the accountant did not answer the gate: %s", error)
            return _RETRY_S
        if answer.snapshot is None and not poll.version:
            return _RETRY_S  # it has only begun itself
        self.gate.renew(answer)
        return _EVERY_S

    def _run(self) -> None:
        while True:
            try:
                wait_s = self.step()
            except Exception:
                _log.exception("the rules of access could not be asked for; those that are known hold")
                wait_s = _EVERY_S
            if self._hurry.wait(wait_s):
                time.sleep(_HURRIED_S)
            self._hurry.clear()


class _Line:
    """The line to the accountant, made anew after a failure."""

    def __init__(self) -> None:
        self._books: Any = None

    def ask(self, poll: Poll) -> PollAnswer:
        """Raises Unavailable."""
        from app.metering.accountant import connect_books

        try:
            self._books = self._books or connect_books(create=True)
            answer: PollAnswer = self._books.access(poll, _TIMEOUT_S)
            return answer
        except ray.exceptions.RayError as error:
            self._books = None
            raise Unavailable(str(error)) from error
        except JoulekeeperError:
            self._books = None
            raise


def _judge_exposure(gate: Gate, serve_host: Callable[[], str]) -> None:
    """Open an open gate once it is certain that Serve's own doors are on loopback."""
    while True:
        try:
            host = serve_host()
            break
        except Exception as error:
            _log.warning("Serve does not say where it listens, nobody is let in before: %s", error)
            time.sleep(_RETRY_S)
    if is_loopback_host(host):
        gate.unbar()
        return
    reason = (
        f"access is open and Serve listens on {host}: anybody could call. Set JOULEKEEPER_ACCESS=required and make "
        "keys with `joulekeeper keys create`, or set http_options.host to 127.0.0.1; both before the cluster starts"
    )
    _log.error(reason)
    gate.bar(reason)


def _serve_host() -> str:
    """Where Serve's HTTP and gRPC doors and its replicas listen."""
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    return str(ray.get(controller.get_http_config.remote(), timeout=_TIMEOUT_S).host)


def is_loopback_host(host: str) -> bool:
    """Whether what listens on `host` is reached from this machine alone; not for a name or for all interfaces."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(config: Settings, who: str) -> str:
    return f"{who} on {config.node}, pid {os.getpid()}.{next(_feeds)}"
