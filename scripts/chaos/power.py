"""What the scripted GPUs draw: busy while clients ask and a replica lives on the node, else quiet.

So power means work, as on a real machine: where everybody was killed nobody draws 250 W. A script is only ever changed
in its future, so that the counter stays one function of time. Knows nothing of the books.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubScript

BUSY_MW, QUIET_MW = 250_000, 60_000
TICK_MS = 20
_AHEAD_NS = 200_000_000
_LOOK_S = 0.5


@dataclass
class ScriptedGpu:
    """The GPU of one node and the script that it follows."""

    uuid: str
    stub: NvmlStub
    phases: list[tuple[int, int]] = field(default_factory=lambda: [(0, QUIET_MW)])

    @classmethod
    def create(cls, library: NvmlStub, path: Path, uuid: str) -> "ScriptedGpu":
        """A quiet GPU whose script lies at `path`."""
        gpu = cls(uuid, library.with_script(path))
        gpu.stub.write(gpu.script)
        return gpu

    @property
    def script(self) -> StubScript:
        """What the library answers from."""
        return StubScript(devices=(StubDevice(uuid=self.uuid, phases=tuple(self.phases)),), tick_ms=TICK_MS)

    def draw(self, power_mw: int, now_ns: int) -> None:
        """Draw `power_mw` from a moment after `now_ns` (monotonic) on."""
        if power_mw != self.phases[-1][1]:
            self.phases.append((now_ns + _AHEAD_NS, power_mw))
            self.stub.write(self.script)


class PowerWatch:
    """Sets the power of each node's GPU a few times a second. `working` tells which nodes have somebody at work."""

    def __init__(self, gpus: Mapping[str, ScriptedGpu], working: Callable[[], frozenset[str]]) -> None:
        self._gpus, self._working = gpus, working
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            working = self._working()
            for node, gpu in self._gpus.items():
                gpu.draw(BUSY_MW if node in working else QUIET_MW, time.monotonic_ns())
