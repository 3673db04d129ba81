"""The processes and listening sockets of this user on this machine, read from /proc. Linux, standard library only.

Knows nothing of Ray or Joulekeeper. A process that ends while it is read is left out; what may not be read
(another user's descriptors) is empty.

    table = read_processes("MY_MARK")
    for listener in read_listeners(): print(listener.port, listener.pid)
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True)
class Process:
    """One process. `start_ticks` tells it from a later one with the same pid."""

    pid: int
    ppid: int
    start_ticks: int
    argv: tuple[str, ...]
    mark: str
    """Value of the marking environment variable; empty when it has none or hides it."""
    open_paths: frozenset[str]
    """Files it holds open."""

    @property
    def command(self) -> str:
        """The command line in one string, as `ps` shows it."""
        return " ".join(self.argv).strip()


@dataclass(frozen=True)
class Listener:
    """A TCP port somebody listens on. pid None: a process of another user, or none to be seen."""

    port: int
    pid: int | None


def read_processes(mark_variable: str, proc: Path = _PROC) -> dict[int, Process]:
    """Every process of this user, by pid; zombies, which hold nothing, are left out."""
    found = (_read_process(entry, mark_variable) for entry in _entries(proc) if _is_mine(entry))
    return {process.pid: process for process in found if process is not None}


def start_ticks(pid: int, proc: Path = _PROC) -> int | None:
    """When a process started, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        state, _, started = _stat(proc / str(pid))
    except OSError:
        return None
    return None if state == "Z" else started


def read_listeners(proc: Path = _PROC) -> list[Listener]:
    """Every listening TCP port (IPv4 and IPv6) in this network namespace, one row per port and process."""
    inodes = {inode: port for name in ("tcp", "tcp6") for port, inode in _listening(proc / "net" / name)}
    owners = _socket_owners(proc, inodes)
    return sorted({Listener(port, owners.get(inode)) for inode, port in inodes.items()}, key=lambda row: row.port)


def descendants(table: Mapping[int, Process], roots: set[int]) -> set[int]:
    """`roots` and all below them."""
    found = set(roots)
    grew = True
    while grew:
        young = {process.pid for process in table.values() if process.ppid in found} - found
        found |= young
        grew = bool(young)
    return found


def ancestors(table: Mapping[int, Process], pid: int) -> set[int]:
    """`pid` and all above it, as far as the table goes."""
    found: set[int] = set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid].ppid
    return found


def _entries(proc: Path) -> Iterator[Path]:
    return (proc / name for name in os.listdir(proc) if name.isdigit())


def _is_mine(entry: Path) -> bool:
    try:
        return entry.stat().st_uid == os.getuid()
    except OSError:
        return False


def _read_process(entry: Path, mark_variable: str) -> Process | None:
    try:
        state, ppid, started = _stat(entry)
        argv = tuple(os.fsdecode((entry / "cmdline").read_bytes()).split("\0"))
    except OSError:
        return None
    if state == "Z":
        return None
    mark = _environment(entry, mark_variable)
    return Process(int(entry.name), ppid, started, argv, mark, frozenset(_links(entry)))


def _stat(entry: Path) -> tuple[str, int, int]:
    # The name, in brackets, may itself contain blanks and brackets: count from its last bracket.
    fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def _environment(entry: Path, variable: str) -> str:
    prefix = f"{variable}="
    try:
        entries = os.fsdecode((entry / "environ").read_bytes()).split("\0")
    except OSError:
        return ""
    return next((item.removeprefix(prefix) for item in entries if item.startswith(prefix)), "")


def _links(entry: Path) -> Iterator[str]:
    try:
        names = os.listdir(entry / "fd")
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(entry / "fd" / name)
        except OSError:
            continue


def _listening(table: Path) -> Iterator[tuple[int, str]]:
    if not table.exists():  # no IPv6 on this machine
        return
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN:
            yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _socket_owners(proc: Path, inodes: Mapping[str, int]) -> dict[str, int]:
    owners: dict[str, int] = {}
    for entry in _entries(proc):
        for link in _links(entry):
            match = _SOCKET.fullmatch(link)
            if match and match[1] in inodes:
                owners[match[1]] = int(entry.name)
    return owners
