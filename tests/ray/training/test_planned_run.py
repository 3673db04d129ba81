"""On a real cluster a run pauses when the coming hour turns out dear, and resumes when it turns out clean after all."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.config import settings
from app.training.board import progress_of
from app.training.decisions import decisions_of
from app.training.pace_keeper import earlier_pace
from app.training.run import run_job
from app.training.run_files import RunFiles
from tests.fixtures.small_training import job

pytestmark = pytest.mark.ray

SLOT_S, SLOTS = 60.0, 120
CLEAN, DEAR = 10.0, 900.0
STEP_S, EPOCHS = 0.04, 20
"""20 epochs of 22 steps take 17.6 s."""
PACED = {
    "architecture": "module",
    "code": "tests.fixtures.paced_model:Paced",
    "arguments": {"step_s": STEP_S},
    "shape": [64],
    "outputs": 10,
}
PATIENCE_S = 150.0


class GridFile:
    """What is expected of the grid, in a file that the driver looks at twice a second."""

    def __init__(self, path: Path) -> None:
        self.path, self._start_s = path, time.time() // SLOT_S * SLOT_S

    def expect(self, dear_slots: int) -> None:
        """So many dear slots from now on, clean ones after them."""
        rows = ["start,end,g_per_kwh,grade"]
        for number in range(SLOTS):
            begin, end = (datetime.fromtimestamp(self._start_s + (number + n) * SLOT_S, UTC) for n in (0, 1))
            dear = begin.timestamp() < time.time() + (dear_slots - 1) * SLOT_S
            rows.append(f"{begin.isoformat()},{end.isoformat()},{DEAR if dear else CLEAN},forecast")
        written = self.path.with_suffix(".new")
        written.write_text("\n".join(rows))
        written.replace(self.path)


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GridFile]:
    file = GridFile(tmp_path / "grid.csv")
    file.expect(dear_slots=0)
    monkeypatch.setenv("JOULEKEEPER_INTENSITY", f"file:{file.path}")
    monkeypatch.setenv("JOULEKEEPER_INTENSITY_REFRESH_S", "0.25")
    settings.cache_clear()
    yield file
    monkeypatch.undo()
    settings.cache_clear()


def once(condition: Callable[[], bool], act: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not condition():
        time.sleep(0.1)
    act()


def test_it_pauses_for_a_dear_hour_and_resumes_in_a_clean_one(state: Path, grid: GridFile) -> None:
    files = RunFiles.open(str(state / "jobs"), "planned-1")
    start = {"slack_hours": 1.5, "hours": EPOCHS * 22 * STEP_S / 3600}
    said: list[str] = []

    def steps() -> int:
        seen = json.loads(progress_of("planned-1") or "{}")
        return int(seen.get("epoch", 0)) * 22 + int(seen.get("step", 0))

    def turns() -> list[str]:
        return [each.action for each in decisions_of(files) if each.action != "replan"]

    def events() -> None:
        once(lambda: steps() > 40, lambda: grid.expect(dear_slots=30))
        once(lambda: "pause" in turns(), lambda: grid.expect(dear_slots=0))

    events_come = threading.Thread(target=events, daemon=True)
    events_come.start()
    result = run_job(job(name="planned", model=PACED, epochs=EPOCHS, start=start), run="planned-1", tell=said.append)
    events_come.join(timeout=10)

    assert turns() == ["start", "pause", "resume", "ended"], said
    paused = next(each for each in decisions_of(files) if each.action == "pause")
    assert paused.expected_g < paused.now_g / 2
    assert {option.name for option in paused.options} == {"start now", "pause and resume"}
    assert (result.attempts, result.restarts.lost_steps) == (2, 0)
    assert result.report is not None
    assert result.report.finished
    assert result.report.seconds < 3600
    pace = earlier_pace(str(state / "jobs"), "planned")
    assert pace is not None
    assert pace.worlds[0].step_s >= STEP_S * 0.9
    assert pace.setup_s > 0
