"""The process table, read from a /proc laid out by hand."""

import os
from pathlib import Path

import process_table
import pytest
from process_table import Listener, Process, ancestors, descendants, read_listeners, read_processes

MARK = "OUR_MARK"
TCP_HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def process(pid: int, ppid: int = 1, argv: tuple[str, ...] = ("x",), mark: str = "") -> Process:
    return Process(pid, ppid, start_ticks=100 + pid, argv=argv, mark=mark, open_paths=frozenset())


def lay_out(
    proc: Path, pid: int, *, name: str = "python", state: str = "S", environ: bytes = b"", links: tuple[str, ...] = ()
) -> None:
    home = proc / str(pid)
    (home / "fd").mkdir(parents=True)
    after_name = [state, "1", *["0"] * 17, "4711", *["0"] * 5]  # field 22 of stat(5) is the start time
    (home / "stat").write_text(f"{pid} ({name}) {' '.join(after_name)}")
    (home / "cmdline").write_bytes(b"python\0-m\0thing\0")
    (home / "environ").write_bytes(environ)
    for number, link in enumerate(links):
        (home / "fd" / str(number)).symlink_to(link)


def test_a_process_is_read_with_its_start_its_mark_and_its_open_files(tmp_path: Path) -> None:
    lay_out(tmp_path, 7, environ=b"A=1\0OUR_MARK=/src\0", links=("/var/log/some.log",))
    found = read_processes(MARK, tmp_path)[7]
    assert (found.ppid, found.start_ticks, found.mark, found.command) == (1, 4711, "/src", "python -m thing")
    assert found.open_paths == {"/var/log/some.log"}


def test_a_name_with_brackets_and_blanks_does_not_shift_the_fields(tmp_path: Path) -> None:
    lay_out(tmp_path, 7, name="odd) S 9 (name")
    assert read_processes(MARK, tmp_path)[7].start_ticks == 4711


def test_a_zombie_is_nobody(tmp_path: Path) -> None:
    lay_out(tmp_path, 7, state="Z")
    assert read_processes(MARK, tmp_path) == {}
    assert process_table.start_ticks(7, tmp_path) is None


def test_a_process_that_ended_while_it_was_read_is_left_out(tmp_path: Path) -> None:
    lay_out(tmp_path, 7)
    (tmp_path / "7" / "cmdline").unlink()
    assert read_processes(MARK, tmp_path) == {}


def test_listeners_are_found_over_ipv4_and_ipv6_with_their_owner_where_it_can_be_seen(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    # Port 8000 is 0x1F40, 9000 is 0x2328; state 0A listens, 01 is a connection.
    row = (
        "   0: {address}:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
    )
    (tmp_path / "net" / "tcp").write_text(
        TCP_HEADER
        + row.format(address="0100007F", port="1F40", state="0A", inode=11)
        + row.format(address="0100007F", port="1F41", state="01", inode=12)
    )
    (tmp_path / "net" / "tcp6").write_text(TCP_HEADER + row.format(address="0" * 32, port="2328", state="0A", inode=13))
    lay_out(tmp_path, 7, links=("socket:[11]", "socket:[12]"))
    assert read_listeners(tmp_path) == [Listener(8000, 7), Listener(9000, None)]


def test_descendants_and_ancestors_follow_parents_and_stop_at_the_table() -> None:
    table = {pid: process(pid, ppid) for pid, ppid in ((10, 1), (11, 10), (12, 11), (20, 1), (21, 20))}
    assert descendants(table, {10}) == {10, 11, 12}
    assert ancestors(table, 12) == {12, 11, 10}
    assert descendants(table, set()) == set()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
def test_this_very_process_is_in_the_real_table() -> None:
    assert read_processes(MARK)[os.getpid()].start_ticks == process_table.start_ticks(os.getpid())
