"""CPU time of processes: by this host's kernel for real, and by a /proc written by hand."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.slice import ProcessKey
from app.sensors.process_table import Liveness, ProcessTable, birth_monotonic_ns, cpu_time_ns, process_key
from app.units import NS_PER_S


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def write_proc(proc: Path, commands: dict[int, bytes], busy: str = "10 1 20 500 7 2 3") -> None:
    proc.mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {busy} 0 4 0\ncpu0 {busy} 0 4 0\n")
    for pid, command in commands.items():
        (proc / str(pid)).mkdir(exist_ok=True)
        (proc / str(pid) / "cmdline").write_bytes(command)


def test_cpu_time_grows_with_work():
    before = cpu_time_ns(os.getpid())
    sum(range(200_000))
    after = cpu_time_ns(os.getpid())
    assert before is not None
    assert after is not None
    assert after > before
    assert abs(after - time.process_time_ns()) < NS_PER_S


def test_a_process_is_known_by_pid_and_start(child: subprocess.Popen[bytes]):
    key = process_key(child.pid)
    assert key is not None
    assert key.pid == child.pid
    assert 0 <= time.monotonic_ns() - birth_monotonic_ns(key) < 60 * NS_PER_S


def test_a_name_with_spaces_and_brackets_does_not_confuse(tmp_path: Path):
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "stat").write_text("42 (a) b) (c) S " + " ".join(str(n) for n in range(4, 53)))
    assert process_key(42, tmp_path) == ProcessKey(42, 22)


def test_what_is_gone_has_no_time_and_no_key(child: subprocess.Popen[bytes]):
    child.kill()
    child.wait()
    assert cpu_time_ns(child.pid) is None
    assert process_key(child.pid) is None


def test_liveness_notices_an_end_and_a_reused_pid(child: subprocess.Popen[bytes]):
    key = process_key(child.pid)
    assert key is not None
    alive = Liveness(looks_per_check=1)
    assert alive(key)
    assert not alive(ProcessKey(child.pid, key.started_ticks + 1))
    child.kill()
    child.wait()
    assert not alive(key)


def test_busy_time_leaves_out_idle_waiting_and_stolen_time(tmp_path: Path):
    write_proc(tmp_path / "proc", {})
    snapshot = ProcessTable(tmp_path / "proc").snapshot([], 0)
    # user 10 + nice 1 + system 20 + irq 2 + softirq 3 jiffies
    assert snapshot.busy_ns == 36 * (NS_PER_S // os.sysconf("SC_CLK_TCK"))


def test_rays_processes_are_known_by_their_command_line(tmp_path: Path):
    mine, parent = os.getpid(), os.getppid()  # alive, so that they have a CPU clock
    write_proc(tmp_path / "proc", {mine: b"ray::ServeReplica:minilm\0", parent: b"/usr/bin/vim\0ray.txt\0"})
    snapshot = ProcessTable(tmp_path / "proc").snapshot([], 0)
    assert snapshot.ray_pids == {mine}
    assert set(snapshot.cpu_ns) == {mine}


@pytest.mark.parametrize(
    ("command", "is_ray"),
    [
        (b"/site-packages/ray/core/src/ray/raylet/raylet\0--x", True),
        (b"gcs_server\0", True),
        (b"/bin/haproxy\0-f\0x", True),
        (b"python\0-u\0/site-packages/ray/dashboard/dashboard.py", True),
        (b"python\0-m\0array", False),
        (b"", False),
    ],
)
def test_which_command_lines_are_rays(tmp_path: Path, command: bytes, is_ray: bool):
    write_proc(tmp_path / "proc", {os.getpid(): command})
    assert bool(ProcessTable(tmp_path / "proc").snapshot([], 0).ray_pids) is is_ray


def test_processes_that_were_asked_for_are_told_and_the_gone_left_out(child: subprocess.Popen[bytes]):
    child.kill()
    child.wait()
    snapshot = ProcessTable().snapshot([os.getpid(), child.pid], 0)
    assert os.getpid() in snapshot.cpu_ns
    assert child.pid not in snapshot.cpu_ns


def test_new_processes_are_looked_for_once_a_second(tmp_path: Path):
    write_proc(tmp_path / "proc", {})
    table = ProcessTable(tmp_path / "proc")
    table.snapshot([], 0)
    write_proc(tmp_path / "proc", {os.getpid(): b"ray::worker"})
    assert table.snapshot([], NS_PER_S - 1).ray_pids == frozenset()
    assert table.snapshot([], NS_PER_S).ray_pids == {os.getpid()}


def test_a_process_that_becomes_rays_shortly_after_its_birth_is_recognised(tmp_path: Path):
    write_proc(tmp_path / "proc", {os.getpid(): b"python\0"})
    table = ProcessTable(tmp_path / "proc")
    assert table.snapshot([], 0).ray_pids == frozenset()
    write_proc(tmp_path / "proc", {os.getpid(): b"ray::IDLE"})
    assert table.snapshot([], NS_PER_S).ray_pids == {os.getpid()}
    write_proc(tmp_path / "proc", {os.getpid(): b"something else"})
    assert table.snapshot([], 2 * NS_PER_S).ray_pids == {os.getpid()}


# Children of those that were asked for


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "sum(range(3_000_000)); print('done', flush=True); input()"],
                         stdin=subprocess.PIPE)
sys.stdin.readline()
child.kill(); child.wait()
print("gone", flush=True)
sys.stdin.readline()
"""


def test_what_a_child_used_is_its_parents_and_stays_it_when_it_is_gone():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"done\n"
        table = ProcessTable()
        own_ns = cpu_time_ns(parent.pid)
        snapshot = table.snapshot([parent.pid], 0)
        assert own_ns is not None
        assert list(snapshot.children.values()) == [parent.pid]
        assert not snapshot.children.keys() & (snapshot.cpu_ns.keys() | snapshot.ray_pids)
        (child,) = snapshot.children
        used_ns = cpu_time_ns(child)
        assert used_ns is not None
        assert used_ns > 1_000_000
        assert snapshot.cpu_ns[parent.pid] >= own_ns + used_ns - 1_000_000
        parent.stdin.write(b"\n")
        assert parent.stdout.readline() == b"gone\n"
        later = table.snapshot([parent.pid], NS_PER_S)
        assert later.children == {}
        assert later.cpu_ns[parent.pid] >= snapshot.cpu_ns[parent.pid]
        parent.kill()


def write_parents(proc: Path, parents: dict[int, int]) -> None:
    for pid, parent in parents.items():
        (proc / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} 0 0")


def test_a_forked_worker_is_its_parents_although_it_has_rays_title(tmp_path: Path):
    mine, parent = os.getpid(), os.getppid()
    write_proc(tmp_path, {mine: b"ray::Worker", parent: b"ray::Worker"})
    write_parents(tmp_path, {mine: parent, parent: 1})
    snapshot = ProcessTable(tmp_path).snapshot([parent], 0)
    assert snapshot.children == {mine: parent}
    assert snapshot.ray_pids == {parent}
    assert ProcessTable(tmp_path).snapshot([parent, mine], 0).children == {}  # it has said itself that it works


def test_rays_services_are_nobodys_children_whoever_started_them(tmp_path: Path):
    """A driver that begins a local cluster is the parent of its raylet, and that of its workers."""
    mine, parent = os.getpid(), os.getppid()
    write_proc(tmp_path, {mine: b"ray::Worker", parent: b"raylet", 77: b"python\0train.py"})
    write_parents(tmp_path, {mine: parent, parent: 77, 77: 1})
    snapshot = ProcessTable(tmp_path).snapshot([77], 0)
    assert snapshot.children == {}
    assert snapshot.ray_pids == {mine, parent}
