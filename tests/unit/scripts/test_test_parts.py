"""The tests' own runner: what the parts are, what waits for what, what is told of those that fail."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import test_parts
from test_parts import Lanes, Part

APART = Path(__file__).resolve().parents[3] / "scripts" / "apart.py"


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-S", "-c", code


def ran(parts, work, capsys):
    lanes = Lanes(parts, work, is_apart=False)
    lanes.run()
    return lanes.ended, capsys.readouterr().out


def test_every_directory_and_every_module_that_lies_directly_in_ray_is_a_part_and_long_ones_come_first() -> None:
    names = test_parts.names_of_parts(test_parts.ROOT / "tests")
    assert set(test_parts._LONG_FIRST) <= set(names)
    assert names[: len(test_parts._LONG_FIRST)] == list(test_parts._LONG_FIRST)
    paths = [test_parts.ROOT / "tests" / name for name in names]
    files = {each for path in paths for each in ([path] if path.is_file() else path.rglob("test_*.py"))}
    assert files == set((test_parts.ROOT / "tests").rglob("test_*.py"))


def test_parts_that_need_clients_wait_for_their_environments(tmp_path, capsys) -> None:
    names = ("clients", "unit", test_parts._CLIENTS)
    ended, _ = ran([Part(name, python("pass")) for name in names], tmp_path, capsys)
    assert [each.part.name for each in ended] == ["unit", test_parts._CLIENTS, "clients"]


@pytest.mark.parametrize(("status", "is_good"), [(0, True), (5, True), (1, False), (137, False)])
def test_a_part_is_good_when_its_tests_passed_or_there_were_none(tmp_path, capsys, status, is_good) -> None:
    part = Part("unit", python(f"print('== 3 passed =='); raise SystemExit({status})"))
    (ended,), told = ran([part], tmp_path, capsys)
    assert (ended.status, ended.is_good) == (status, is_good)
    assert ended.closing_line == "3 passed"
    assert "== 3 passed ==" in told


FLAKY = """
from pathlib import Path
def test_passes(): pass
def test_fails_once():
    mark = Path(__file__).with_name("was-here")
    was, _ = mark.exists(), mark.touch()
    assert was
def test_fails(): assert {passes}
"""


@pytest.mark.parametrize(("passes", "status", "summary"), [(True, 0, "1 passed"), (False, 1, "1 failed, 1 passed")])
def test_a_few_failed_tests_are_run_again_alone(tmp_path, capsys, monkeypatch, passes, status, summary) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "test_some.py").write_text(FLAKY.format(passes=passes))
    command = (sys.executable, "-m", "pytest", "-o", "cache_dir={stem}.cache", str(tmp_path / "test_some.py"))
    first, _ = ran([Part("ray/some", command)], tmp_path, capsys)
    (again,) = test_parts.look_again(first, tmp_path, is_apart=False)
    assert first[0].status == 1
    assert (again.part.name, again.status) == ("ray/some-again", status)
    assert again.closing_line.startswith(summary)


def test_where_all_fails_nobody_looks_again(tmp_path, capsys) -> None:
    lines = "".join(f"FAILED test_{number}\\n" for number in range(9))
    for output in ("died early", lines):
        ended, _ = ran([Part("unit", python(f"print('{output}'); raise SystemExit(1)"))], tmp_path, capsys)
        assert test_parts.look_again(ended, tmp_path, is_apart=False) == []


@pytest.fixture(scope="module")
def can_be_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    command = [sys.executable, APART, tmp_path_factory.mktemp("ray"), "true"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")


@pytest.mark.usefixtures("can_be_apart")
def test_what_runs_apart_sees_no_process_no_file_of_ray_and_no_network_but_its_own(tmp_path) -> None:
    code = """
import os, pathlib, socket
print(len([each for each in os.listdir('/proc') if each.isdigit()]))
pathlib.Path('/tmp/ray/mine').touch()
own = socket.create_server(('0.0.0.0', 8000))
print(socket.socket().connect_ex(('192.0.2.1', 8000)), len(socket.if_nameindex()))
raise SystemExit(7)
"""
    command = [sys.executable, "-S", str(APART), str(tmp_path), *python(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    processes, reached = done.stdout.splitlines()
    assert int(processes) == 2
    assert reached == "0 1"
    assert (tmp_path / "mine").exists()


@pytest.mark.usefixtures("can_be_apart")
def test_what_it_leaves_running_ends_with_it(tmp_path) -> None:
    left = "import subprocess; subprocess.Popen(['sleep', '271.828'], start_new_session=True)"
    subprocess.run([sys.executable, "-S", str(APART), str(tmp_path), *python(left)], check=True)
    assert not [each for each in psutil.process_iter(["cmdline"]) if "271.828" in (each.info["cmdline"] or [])]
