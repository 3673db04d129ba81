"""The shell scripts where they decide something: which Python, when to install, which variables."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ["scripts/up", "scripts/down", "scripts/test", "scripts/check", ".ci/run"]


def bash(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `code` with the helpers sourced, in a small environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
    command = ["bash", "-c", f"set -euo pipefail; source {ROOT}/scripts/_lib.sh; {code}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_run_and_bash_can_parse_them(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / name], check=False).returncode == 0


@pytest.fixture
def old_python(tmp_path: Path) -> str:
    """An interpreter that says no to every question, as one that is too old does."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    return str(python)


def test_a_python_that_is_too_old_is_refused_by_name(old_python: str) -> None:
    answer = bash("find_python", PYTHON=old_python)
    assert answer.returncode == 1
    assert f"PYTHON={old_python} is not a Python >= 3.11" in answer.stderr


def test_without_any_recent_python_the_message_says_what_was_tried(old_python: str) -> None:
    answer = bash(f"PATH={Path(old_python).parent}; find_python")
    assert answer.returncode == 1
    assert "no Python >= 3.11 found (tried python3.11, python3.12, python3)" in answer.stderr


def test_a_python_without_ensurepip_leads_to_the_missing_package(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "ensurepip is not available"\nexit 1\n')
    python.chmod(0o755)
    answer = bash(f"VENV={tmp_path}/venv; ensure_venv", PYTHON=str(python))
    assert answer.returncode == 1
    assert "ensurepip is not available" in answer.stderr
    assert "install python3-venv" in answer.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"JOULEKEEPER_STATE_DIR": "/data/books"}, "/data/books"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/joulekeeper"),
        ({"HOME": "/home/ada"}, "/home/ada/.local/state/joulekeeper"),
    ],
)
def test_the_state_directory_is_the_one_the_package_uses(variables: dict[str, str], expected: str) -> None:
    assert bash("state_dir", **variables).stdout.strip() == expected


def test_the_state_directory_is_made_for_its_owner_only_and_left_alone_when_it_is_there(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    assert bash("make_state_dir", JOULEKEEPER_STATE_DIR=str(state)).returncode == 0
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "run").is_dir()
    state.chmod(0o750)
    assert bash("make_state_dir", JOULEKEEPER_STATE_DIR=str(state)).returncode == 0
    assert state.stat().st_mode & 0o777 == 0o750


@pytest.mark.skipif(not shutil.which("flock"), reason="flock (util-linux) is not installed")
@pytest.mark.parametrize(("wait_s", "told"), [("0", ""), ("1", "waiting for another scripts/up or scripts/down")])
def test_only_one_of_up_and_down_is_at_work(tmp_path: Path, wait_s: str, told: str) -> None:
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = bash(f"only_one_at_a_time {wait_s}", JOULEKEEPER_STATE_DIR=str(tmp_path))
    assert held.returncode == 1
    assert told in held.stdout
    assert f"another scripts/up or scripts/down is at work (lock {tmp_path}/run/lock)" in held.stderr
    assert bash(f"only_one_at_a_time {wait_s}", JOULEKEEPER_STATE_DIR=str(tmp_path)).returncode == 0


def test_where_nothing_was_ever_started_there_is_nothing_to_lock(tmp_path: Path) -> None:
    assert bash("only_one_at_a_time 1", JOULEKEEPER_STATE_DIR=str(tmp_path / "none")).returncode == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("written", "mode"), [(None, "disabled"), ("token\n", "token")])
def test_the_books_are_asked_in_the_mode_the_cluster_was_started_with(
    tmp_path: Path, written: str | None, mode: str
) -> None:
    command = tmp_path / "venv" / "bin" / "joulekeeper"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\necho "$* $RAY_ADDRESS $RAY_AUTH_MODE" >{tmp_path}/asked\n')
    command.chmod(0o755)
    (tmp_path / "run").mkdir()
    if written:
        (tmp_path / "run" / "auth_mode").write_text(written)
    answer = bash(f"VENV={tmp_path}/venv; ledger open", JOULEKEEPER_STATE_DIR=str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "asked").read_text() == f"ledger open 127.0.0.1:6379 {mode}\n"


def test_the_fast_mode_sets_what_serve_reads_at_start_and_keeps_what_is_set() -> None:
    answer = bash("fast_mode; env", RAY_SERVE_THROUGHPUT_OPTIMIZED="0")
    lines = set(answer.stdout.splitlines())
    assert "RAY_SERVE_THROUGHPUT_OPTIMIZED=0" in lines
    assert {"RAY_SERVE_ENABLE_HA_PROXY=1", "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=2"} <= lines
    assert "RAY_SERVE_HAPROXY_METRICS_ENABLED=0" in lines
    assert {"RAY_preload_python_modules=app.serving.prepared", "RAY_prestart_worker_first_driver=0"} <= lines


def test_a_change_of_the_pins_changes_the_digest_of_the_installation(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==2.13.0\n")
    before = bash(f"CONSTRAINTS={pins}; install_digest").stdout
    pins.write_text("torch==2.13.1\n")
    assert before
    assert bash(f"CONSTRAINTS={pins}; install_digest").stdout != before


def test_every_pin_is_exact_and_torch_leaves_its_build_to_the_index() -> None:
    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert "torch==2.13.0" in pins
