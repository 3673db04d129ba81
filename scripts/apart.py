"""Runs a command apart from all others: a network, a /tmp/ray and a table of processes of its own.

Two Ray clusters then take the same ports of one machine side by side. The network is loopback, with a second address
that stands for the machine's own; nothing outside it can be reached. What the command leaves running ends with it.
Standard library and util-linux only. Knows nothing of tests.

    python scripts/apart.py DIRECTORY ray start --head    # DIRECTORY is /tmp/ray to it; exit status: the command's
    python scripts/apart.py DIRECTORY true                # 0 where that can be done
"""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
_AS_USER = ["--user", "--map-current-user", "--keep-caps"]
_INSIDE = "--inside"
_OWN_ADDRESS = "192.0.2.1"
"""RFC 5737: of no machine."""
_RAY = Path("/tmp/ray")

# linux/sockios.h and linux/if.h
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP_RUNNING = 0x1 | 0x40


def main(arguments: list[str]) -> int:
    """Outside: into the namespaces. Inside: make them fit, then run and wait."""
    if arguments[0] != _INSIDE:
        flags = [] if os.geteuid() == 0 else _AS_USER
        return subprocess.run(
            [*_UNSHARE, *flags, sys.executable, __file__, _INSIDE, *arguments], check=False
        ).returncode
    _open_network()
    _RAY.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", arguments[1], str(_RAY)], check=True)
    return _run(arguments[2:])


def _open_network() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set(control, _SIOCSIFFLAGS, b"lo", struct.pack("h", _IFF_UP_RUNNING))
        for request, address in ((_SIOCSIFADDR, _OWN_ADDRESS), (_SIOCSIFNETMASK, "255.255.255.255")):
            _set(control, request, b"lo:1", struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(address)))


def _set(control: socket.socket, request: int, interface: bytes, value: bytes) -> None:
    fcntl.ioctl(control, request, struct.pack("16s24s", interface, value))


def _run(command: list[str]) -> int:
    """As the first of its processes: whoever loses its parent becomes ours to wait for."""
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
