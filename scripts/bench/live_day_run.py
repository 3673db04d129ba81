"""One day of live_day.py: a cluster, a grid server, a job, and afterwards the same day on paper.

python live_day_run.py plain|dying HOUR_S CSV DIRECTORY FOUND.json
"""

import csv
import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.fixtures.grid_server import KEY, GridServer
from tests.fixtures.paper_grid import PaperGrid

NS = 1_000_000_000
CALIBRATION = "live-day-calibration"
FILE_OF_DAY = Path("carbon_forecasts_dacf_2021H2") / "CISO_actual_vs_dayahead.csv"
FIRST = "2021-10-13 20:00:00"
DAY_HOURS, WORK_HOURS, DIES_AT_HOUR = 24, 8.0, 12
BEFORE_HOURS, AFTER_HOURS = 48, 48
_NEWS_WITHIN_S = 4.0
"""Everybody has asked the server again."""
_STEP_S = 0.02


class DayServer(GridServer):
    """Knows nothing of what was long before the day: at a few seconds an hour ten days of it would fill megabytes."""

    def __init__(self, hours: "Hours", hour_s: float) -> None:
        self._hours, self._hour_s = hours, hour_s
        self.first_ns = 0
        super().__init__(
            lambda at_ns: self._of(hours.actual, at_ns),
            round(hour_s * NS),
            forecast=lambda at_ns: self._of(hours.forecast, at_ns),
            horizon=AFTER_HOURS,
        )
        self.begin(time.time())

    def begin(self, start_s: float) -> None:
        """The day begins then, at the edge of an hour; what was told before is told anew."""
        edge_s = start_s // self._hour_s * self._hour_s
        self.first_ns = round((edge_s - BEFORE_HOURS * self._hour_s) * NS)

    def _of(self, values: list[float], at_ns: int) -> float | None:
        number = round((at_ns - self.first_ns) / self.width_ns)
        return values[number] if 0 <= number < len(values) else None

    def _starts(self, start_ns: int, end_ns: int) -> range:
        return super()._starts(max(start_ns, self.first_ns), end_ns)


class Hours:
    """Actual and forecast intensity by hour of the day, from `BEFORE_HOURS` before it on."""

    def __init__(self, path: Path, day: str) -> None:
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        first = next(i for i, row in enumerate(rows) if row["time_utc"] == FIRST)
        rows = rows[first - BEFORE_HOURS : first + DAY_HOURS + AFTER_HOURS]
        self.actual = [float(row["actual_g_per_kwh"]) for row in rows]
        told = [float(row["dayahead_forecast_g_per_kwh"]) for row in rows]
        self.forecast = told if day == "plain" else list(self.actual)


def main() -> int:
    day, hour_s, path, directory, found = sys.argv[1], float(sys.argv[2]), *map(Path, sys.argv[3:6])
    hours = Hours(path, day)
    with DayServer(hours, hour_s) as server:
        os.environ.update(environment_of(server.url, directory))
        result = _live(day, hour_s, directory, server)
    start_s = result["start_s"]
    found.write_text(
        json.dumps({"day": day, "hour_s": hour_s, **result, **_on_paper(hours, hour_s, start_s, directory)})
    )
    return 0


def environment_of(url: str, directory: Path) -> dict[str, str]:
    """Of a cluster on this grid, whose books keep up with its hours."""
    return {
        "JOULEKEEPER_STATE_DIR": str(directory),
        "JOULEKEEPER_INTENSITY": "electricitymaps:US-CAL-CISO",
        "JOULEKEEPER_INTENSITY_ELECTRICITYMAPS_URL": url,
        "JOULEKEEPER_INTENSITY_ELECTRICITYMAPS_KEY": KEY,
        "JOULEKEEPER_INTENSITY_REFRESH_S": "0.5",
        "JOULEKEEPER_INTENSITY_REQUESTS_PER_HOUR": "1000000",
        "JOULEKEEPER_BUCKET_S": "1",
        "JOULEKEEPER_FLUSH_S": "0.25",
        "JOULEKEEPER_SETTLE_LAG_S": "0.5",
        "JOULEKEEPER_SAMPLE_HZ": "20",
        # Ray's workers give way to everything else on a machine: a start would take as many hours as the others like.
        "RAY_worker_niceness": "0",
        "RAY_preload_python_modules": "torch",
    }


def _job(epochs: int, start: dict[str, Any] | None = None) -> Any:
    from app.training.job import parse_job

    return parse_job(
        {
            "name": "live-day",
            "model": {
                "architecture": "module",
                "code": "tests.fixtures.paced_model:Paced",
                "arguments": {"step_s": _STEP_S},
                "shape": [64],
                "outputs": 10,
            },
            "data": {"source": "builtin:digits", "test_share": 0.25, "seed": 3},
            "loss": "cross_entropy",
            "epochs": epochs,
            "batch_size": 64,
            "checkpoint_epochs": 100_000,
            "resources": {"cpu": 0.5},
            **({"start": start} if start else {}),
        },
        "live_day.py",
    )


def _live(day: str, hour_s: float, directory: Path, server: DayServer) -> dict[str, Any]:
    import ray

    from app.training.decisions import decisions_of
    from app.training.pace_keeper import earlier_pace
    from app.training.run import run_job
    from app.training.run_files import RunFiles

    storage = str(directory / "jobs")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        run_job(_job(epochs=20), run=CALIBRATION)
        pace = earlier_pace(storage, "live-day")
        assert pace is not None, "the calibration left no pace"
        epochs = round(WORK_HOURS * hour_s / (pace.worlds[0].step_s * pace.epoch_steps))
        start_s = ((time.time() + _NEWS_WITHIN_S) // hour_s + 1) * hour_s
        server.begin(start_s)
        time.sleep(start_s - time.time())
        if day == "dying":
            threading.Timer(start_s + DIES_AT_HOUR * hour_s - time.time(), server.__exit__).start()
        deadline_s = start_s + DAY_HOURS * hour_s
        job = _job(epochs, {"deadline": datetime.fromtimestamp(deadline_s, UTC).isoformat()})
        result = run_job(job, run="live-day-1")
    finally:
        ray.shutdown()
    files = RunFiles.open(storage, "live-day-1")
    decisions = decisions_of(files)
    first, last = decisions[0], decisions[-1]
    assert last.realised is not None, "nobody metered the run"

    def hour(at_s: float) -> float:
        return (at_s - start_s) / hour_s

    turns = [each.at_s for each in decisions if each.action in ("start", "pause", "resume")] + [last.realised.finish_s]
    pace = earlier_pace(storage, "live-day")
    assert pace is not None
    return {
        "epochs": epochs,
        "start_s": start_s,
        "work_hours": epochs * pace.epoch_steps * pace.worlds[0].step_s / hour_s,
        "deadline_hour": hour(deadline_s),
        "report_g": result.energy.carbon_ugco2e / 1e6,
        "joules": result.energy.energy_uj / 1e6,
        "report_grade": result.energy.grade,
        "attempts": result.attempts,
        "ended_hour": hour(last.realised.finish_s),
        "hours": [[hour(one), hour(other)] for one, other in zip(turns[::2], turns[1::2], strict=True)],
        "at_once_g": last.realised.at_once_g,
        "at_once_joules": _steps_joules(pace, epochs),
        "grade": last.realised.grade,
        "planned_g": first.expected_g,
        "planned_joules": first.kwh * 3.6e6,
        "planned_ended_hour": hour(first.finish_s),
        "planned_hours": [[hour(each.start_s), hour(each.end_s)] for each in first.pieces],
        "setup_s": pace.setup_s,
        "setup_j": pace.setup_j,
        "closing_s": pace.closing_s,
        "power_w": pace.worlds[0].power_w,
        "decisions_made": len(decisions),
        "decisions": [
            {"hour": hour(each.at_s), "action": each.action, "grade": each.inputs.grade, "why": each.reasons}
            for each in decisions
        ],
        "submitted_s": start_s,
    }


def _steps_joules(pace: Any, epochs: int) -> float:
    world = pace.worlds[0]
    return (world.power_w or 0.0) * world.step_s * pace.epoch_steps * epochs + (pace.setup_j or 0.0)


def _on_paper(hours: Hours, hour_s: float, start_s: float, directory: Path) -> dict[str, Any]:
    """The same day by the same code: planned with what was known before, lived with what the run was seen to take."""
    from app.clock import ManualClock
    from app.training.conductor import Conductor
    from app.training.pace import PACE_FILE, Pace
    from app.training.pace_keeper import PaceKeeper, earlier_pace
    from app.training.planner import Planner
    from app.training.rehearsal import PaperBoard, PaperRun
    from app.training.run_files import RunFiles
    from app.training.start import TERMS_FILE, Terms

    storage = str(directory / "jobs")
    pace = earlier_pace(storage, "live-day")
    assert pace is not None
    terms = Terms.model_validate_json(RunFiles.open(storage, "live-day-1").read(TERMS_FILE))
    clock = ManualClock(wall_ns=round(terms.submitted_s * NS))
    grid = PaperGrid(start_s - BEFORE_HOURS * hour_s, hour_s, hours.actual, clock)
    grid.forecast = list(hours.forecast)
    report = json.loads(RunFiles.open(storage, "live-day-1").read("report.json"))
    job = _job(int(report["epochs"]), {"deadline": datetime.fromtimestamp(terms.deadline_s, UTC).isoformat()})
    assert job.start is not None
    files, board = RunFiles.open(str(directory / "paper"), "live-day-1"), PaperBoard()
    known = Pace.model_validate_json(RunFiles.open(storage, CALIBRATION).read(PACE_FILE))
    planner = Planner(job, job.start, PaceKeeper(files), grid, known)
    planner.terms = terms
    paper = PaperRun(job, files, pace, clock, board, look_s=0.1)
    conductor = Conductor(planner, "live-day-1", board, clock, lambda _: None, sleep=paper.sleep, in_background=False)
    conductor.conduct(lambda: paper.fit(conductor.watch_once))
    spans: list[list[float]] = []
    for each in paper.drawn:
        begin, end = (each.start_s - start_s) / hour_s, (each.end_s - start_s) / hour_s
        if spans and begin - spans[-1][1] < 1e-3:
            spans[-1][1] = end
        else:
            spans.append([begin, end])
    return {
        "simulated_g": paper.grams(grid.whole()),
        "simulated_joules": paper.joules,
        "simulated_ended_hour": (clock.wall_ns() / NS - start_s) / hour_s,
        "simulated_hours": spans,
    }


if __name__ == "__main__":
    sys.exit(main())
