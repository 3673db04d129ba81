"""Runs all tests in parts, two side by side, and tells of each when it has ended; arguments go to pytest.

A part is a directory of tests, or a module that lies directly in tests/ray, in a process of its own (Serve reads its
mode once, when first imported), and apart from the others (apart.py): it meets no port and no process of theirs.
Where the system does not allow that, parts run one after the other. A few failed tests are run once more when nothing
else runs: what passes then shows only on a crowded machine; it is told, and does not fail the whole. What failed leaves
its files, and says where.
Standard library only. Knows nothing of what tests need but the environments of outside clients, which are made first:
apart from others there is no network to make them.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANES = 2
_TOGETHER = ("unit", "learning", "properties", "contract", "architecture")
_LONG_FIRST = (
    "ray/training",
    "contract",
    "ray/serving",
    "ray/ledger",
    "ray/guarded",
    "ray/test_books.py",
    "clients",
    "properties",
    "learning",
    "unit",
)
"""So that no lane is left with a long one at the end."""
_WITH_CLIENTS = ("clients", "ray/guarded")
"""Parts that wait for the environments of outside clients."""
_CLIENTS = "environments of outside clients"
_NO_TESTS = 5
"""pytest's exit status when it collected nothing."""
_MOST_AGAIN = 5
"""Failed tests of a part that are run once more; where more fail it is no accident."""


@dataclass(frozen=True)
class Part:
    """One process."""

    name: str
    command: tuple[str, ...]
    is_apart: bool = True

    @property
    def stem(self) -> str:
        """What its files are called."""
        return self.name.replace("/", "-").removesuffix(".py")

    @property
    def name_again(self) -> str:
        """Of its second run."""
        return f"{self.name}-again"

    def again(self, work: Path) -> "Part":
        """Its failed tests alone."""
        cache = f"cache_dir={work / self.stem}.cache"
        command = [cache if each.startswith("cache_dir=") else each for each in self.command]
        return Part(self.name_again, (*command, "--last-failed", "--last-failed-no-failures=none"), self.is_apart)


@dataclass(frozen=True)
class Ended:
    """What came of a part."""

    part: Part
    status: int
    seconds: float
    output: str

    @property
    def is_good(self) -> bool:
        return self.status in (0, _NO_TESTS)

    @property
    def failures(self) -> list[str]:
        """pytest's short summary: a test and its first complaint in a line each."""
        return [line for line in self.output.splitlines() if line.startswith(("FAILED ", "ERROR "))]

    @property
    def closing_line(self) -> str:
        """pytest's last word."""
        lines = self.output.strip().splitlines()
        return lines[-1].strip("= ") if lines else f"no output, exit status {self.status}"


def names_of_parts(tests: Path) -> list[str]:
    """Of all that there are, those that take long first."""
    on_ray = [each for each in sorted((tests / "ray").iterdir()) if any(each.glob("test_*.py")) or _is_module(each)]
    found = [name for name in (*_TOGETHER, "clients", "gpu") if (tests / name).is_dir()]
    found += [str(each.relative_to(tests)) for each in on_ray]
    return sorted(found, key=lambda name: _LONG_FIRST.index(name) if name in _LONG_FIRST else len(_LONG_FIRST))


def _is_module(path: Path) -> bool:
    return path.name.startswith("test_") and path.suffix == ".py"


class Lanes:
    """Workers that take parts until there are none left."""

    def __init__(self, parts: Sequence[Part], work: Path, is_apart: bool, lanes: int = LANES) -> None:
        self._waiting, self._work, self._is_apart = list(parts), work, is_apart
        self._lanes = lanes if is_apart else 1
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._change = threading.Condition()
        self._began_s = time.monotonic()
        self.ended: list[Ended] = []

    def run(self) -> None:
        """Until all have ended. On an interrupt ends what runs."""
        workers = [threading.Thread(target=self._work_off) for _ in range(self._lanes)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except BaseException:
            with self._change:
                self._waiting.clear()
                for process in self._running.values():
                    os.killpg(process.pid, signal.SIGKILL)  # and with unshare all that is apart
            raise

    def _work_off(self) -> None:
        while part := self._next():
            ended = self._run(part)
            with self._change:
                del self._running[part.name]
                self.ended.append(ended)
                self._tell(ended)
                self._change.notify_all()

    def _next(self) -> Part | None:
        with self._change:
            while self._waiting:
                for part in self._waiting:
                    if part.name not in _WITH_CLIENTS or _CLIENTS in [each.part.name for each in self.ended]:
                        self._waiting.remove(part)
                        self._start(part)
                        return part
                self._change.wait()
        return None

    def _start(self, part: Part) -> None:
        command = [each.replace("{stem}", str(self._work / part.stem)) for each in part.command]
        if part.is_apart and self._is_apart:
            command = apart(self._work / f"{part.stem}.ray", command)
        with self._log(part).open("wb") as log:
            self._running[part.name] = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _run(self, part: Part) -> Ended:
        began_s = time.monotonic()
        status = self._running[part.name].wait()
        return Ended(part, status, time.monotonic() - began_s, self._log(part).read_text(errors="replace"))

    def _log(self, part: Part) -> Path:
        return self._work / f"{part.name.replace('/', '-')}.log"

    def _tell(self, ended: Ended) -> None:
        print(
            f"[{time.monotonic() - self._began_s:3.0f}s] {ended.part.name}, {ended.seconds:.0f} s\n{ended.output}",
            flush=True,
        )


def apart(ray_directory: Path, command: Sequence[str]) -> list[str]:
    """`command`, apart from others."""
    ray_directory.mkdir()
    return [sys.executable, str(ROOT / "scripts" / "apart.py"), str(ray_directory), *command]


def look_again(failed: Sequence[Ended], work: Path, is_apart: bool) -> list[Ended]:
    """What comes of a few failed tests when nothing else runs."""
    parts = [ended.part.again(work) for ended in failed if 0 < len(ended.failures) <= _MOST_AGAIN]
    lanes = Lanes(parts, work, is_apart, lanes=1)
    lanes.run()
    return lanes.ended


def main(arguments: list[str]) -> int:
    """Exit status 1 when a part failed."""
    work = Path(tempfile.mkdtemp(prefix="jk-tests-"))
    is_apart = subprocess.run(apart(work / "try", ["true"]), capture_output=True, check=False).returncode == 0
    if not is_apart:
        print("no namespaces here: parts run one after the other", flush=True)
    pytest = (sys.executable, "-m", "pytest", "--basetemp={stem}", "-o", "cache_dir={stem}.cache", "--durations=10")
    parts = [Part(_CLIENTS, (sys.executable, "-m", "tests.fixtures.client_environments"), is_apart=False)]
    parts += [Part(name, (*pytest, f"tests/{name}", *arguments)) for name in names_of_parts(ROOT / "tests")]
    lanes = Lanes(parts, work, is_apart)
    lanes.run()
    failed = [ended for ended in lanes.ended if not ended.is_good]
    again = look_again(failed, work, is_apart)
    print("pytest's closing lines:")
    for ended in (*lanes.ended, *again):
        print("\n    ".join((f"  {ended.part.name}: {ended.closing_line}", *ended.failures)))
    passed = {ended.part.name for ended in again if ended.status == 0}
    flaky = [ended for ended in failed if ended.part.name_again in passed]
    if flaky:
        print(
            "\n  ".join(("FLAKY, failed beside others and passed alone:", *chain(*(each.failures for each in flaky))))
        )
    still = [ended.part.name for ended in failed if ended not in flaky]
    if still:
        print(f"failed: {', '.join(still)}; what they left is in {work}")
        return 1
    shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
