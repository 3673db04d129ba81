"""Keeps one edge in step: with its files, with the models that Serve serves, and alive.

Decides nothing about the configuration's text (rendering.py) or the map (routes.py). What is wrong after the start is
told and the last good state kept: a certificate that does not fit its key, a Serve that does not answer.

    with Supervisor(read, directory, tell) as edge:
        edge.run(stop)
"""

import fcntl
import hashlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from app.edge import haproxy, serve
from app.edge.config import EdgeConfig
from app.edge.haproxy import HAProxy
from app.edge.rendering import Certificates, fault_files, render
from app.edge.routes import Traffic, build_entries, read_traffic
from app.errors import InvalidInput, JoulekeeperError, Unavailable
from app.serving.traffic import declared

_CANDIDATE = "candidate.cfg"
_LOOK_S = 1.0
_DECLARED_S = 5.0  # the controller works for every answer
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 30.0


class Serve(Protocol):
    """The part of serve.py that is needed; tests put another in its place."""

    def applications(self, door: str) -> Mapping[str, str]:
        """Prefix to application. Raises Unavailable."""

    def arguments(self, dashboard: str) -> Mapping[str, Mapping[str, Any]]:
        """Application to its arguments. Raises Unavailable."""


class Supervisor:
    """Holds the lock of its directory while it lives."""

    def __init__(
        self,
        read: Callable[[], EdgeConfig],
        directory: Path,
        tell: Callable[[str], None],
        ask: Serve = serve,
    ) -> None:
        self._read = read
        self._directory = directory
        self._tell = tell
        self._ask = ask
        self.proxy = HAProxy(haproxy.binary(), directory)
        self._complaints: dict[str, str] = {}
        self._text = ""
        self._entries: dict[str, str] = {}
        self._applications: Mapping[str, str] = {}
        self._declared = Traffic({})
        self._declared_at_s = -math.inf
        self._rest_s = _FIRST_REST_S
        self._revive_at_s = 0.0
        self._lock = -1

    def __enter__(self) -> Self:
        """Start the proxy. Raises InvalidInput or Unavailable with what stands in the way."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self._directory / "lock")
        try:
            self._config = self._read()
            for port in (self._config.https_port, self._config.grpc_port):
                check_free(self._config.host, port)
            for name, content in fault_files().items():
                self._write(name, content.encode())
            self._write(haproxy.MAP, b"")
            self._install(self._config)
            self._follow_all()
            self.proxy.start()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop(self._config.stop_s)
        os.close(self._lock)

    @property
    def summary(self) -> str:
        """Where it listens and what it stands in front of, in a line."""
        config = self._config
        host = f"[{config.host}]" if ":" in config.host else config.host
        clients = "clients with a certificate" if config.client_ca else "any client"
        return (
            f"https://{host}:{config.https_port} and gRPC with TLS at {host}:{config.grpc_port} for {clients}, "
            f"in front of {config.serve_http} and {config.serve_grpc}"
        )

    def run(self, stop: threading.Event) -> None:
        """Look after the edge until `stop` is set."""
        while not stop.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        """One round: revive, take new files, follow the models."""
        if self.proxy.alive:
            self._rest_s = _FIRST_REST_S
            self._try("configuration", self._follow_files)
            self._follow_all()
        elif time.monotonic() >= self._revive_at_s:
            self._tell("HAProxy has ended; starting it again")
            self._revive_at_s = time.monotonic() + self._rest_s
            self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
            self._try("HAProxy", self.proxy.start)

    def _follow_files(self) -> None:
        config, before = self._read(), self._text
        if self._install(config):
            try:
                self.proxy.reload()
            except Unavailable:
                self._write(haproxy.CONFIG, before.encode())  # what a restart would read
                raise
            self._tell("new configuration in force")
        self._sweep()
        self._config = config

    def _install(self, config: EdgeConfig) -> bool:
        """Write the configuration of `config` where HAProxy reads it, if it is new and HAProxy accepts it."""
        text = render(config, self._gather(config))
        if text == self._text:
            return False
        self._write(_CANDIDATE, text.encode())
        self.proxy.check(_CANDIDATE)
        os.replace(self._directory / _CANDIDATE, self._directory / haproxy.CONFIG)
        self._text = text
        return True

    def _gather(self, config: EdgeConfig) -> Certificates:
        """What the text names, copied under names that tell the content: where a content changes, the text does."""
        pair = self._keep("pair", _contents(config.cert) + b"\n" + _contents(config.key))
        client_ca = self._keep("client-ca", _contents(config.client_ca)) if config.client_ca else None
        return Certificates(pair, client_ca)

    def _keep(self, kind: str, content: bytes) -> str:
        name = f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}.pem"
        if not (self._directory / name).exists():
            self._write(name, content)
        return name

    def _sweep(self) -> None:
        """Remove copies of certificates and keys that are out of force."""
        for path in self._directory.glob("*.pem"):
            if path.name not in self._text:
                path.unlink()

    def _follow_all(self) -> None:
        self._try("models", self._follow_models)
        self._try("traffic", self._follow_traffic)
        self._try("map", self._follow_map)

    def _follow_models(self) -> None:
        found = self._ask.applications(self._config.serve_http)
        if found != self._applications:
            self._applications, self._declared_at_s = found, -math.inf

    def _follow_traffic(self) -> None:
        """What applications declare, and in its place, model by model, what the file says."""
        if self._config.dashboard and time.monotonic() - self._declared_at_s >= _DECLARED_S:
            self._declared_at_s = time.monotonic()
            arguments = self._ask.arguments(self._config.dashboard)
            self._declared = Traffic.model_validate(declared(arguments))

    def _follow_map(self) -> None:
        traffic = self._declared.root
        if self._config.traffic:
            traffic = {**traffic, **read_traffic(self._config.traffic).root}
        entries = build_entries(self._applications, Traffic(traffic))
        if entries == self._entries:
            return
        lines = "".join(f"{key} {value}\n" for key, value in entries.items())
        self._write(haproxy.MAP, lines.encode())
        if self.proxy.alive:
            self.proxy.replace_map(entries)
        self._entries = entries

    def _try(self, what: str, step: Callable[[], None]) -> None:
        """Do `step`; a fault of ours is told once, and what was right before stays."""
        try:
            step()
        except JoulekeeperError as error:
            if self._complaints.get(what) != str(error):
                self._tell(f"{what}: {error}; the edge stays as it is")
            self._complaints[what] = str(error)
        else:
            if self._complaints.pop(what, None):
                self._tell(f"{what}: right again")

    def _write(self, name: str, content: bytes) -> None:
        """Readable by the owner only, whole or not at all."""
        path = self._directory / f"{name}.new"
        with open(path, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content)
        os.replace(path, self._directory / name)


def check_free(host: str, port: int) -> None:
    """Raises Unavailable when nobody could listen on `host`:`port`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(
                f"the edge cannot listen on {host} port {port}: {error.strerror}; end what holds it (ss -ltnp shows "
                "it) or choose another port"
            ) from error


def _lock(path: Path) -> int:
    """Held until it is closed or the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Unavailable(f"an edge runs already with this state directory (lock {path}); end it first") from error
    return descriptor


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}; give the path of a PEM file") from error
