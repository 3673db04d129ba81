"""A day of the grid in two minutes: a job with a deadline pauses and resumes on a real cluster, beside its simulation.

    python scripts/bench/live_day.py [--quick] [--hour-s S] [--days plain dying] [--data DIR] [--json FILE]

A local server speaks Electricity Maps v3 with hours of five seconds: noon in California on 13 October 2021 to noon the
next day, actual intensity and the real day-ahead forecast (DACF: github.com/carbonfirst/DACF, Apache-2.0; DIR is
../shared/data by default). A job of eight such hours is submitted with the day's end for a deadline. The simulation is
the same planner and conductor on a clock moved by hand, with workers that are nothing but the pace which this very run
was seen to have (seconds of a step and of a start, watts, joules of a start): so timing and prices are compared, and
the energy of a step is not. Both are priced by the true hours; the report by the accountant, from the ledger.

Days: `plain` with the real forecast; `dying`: the forecast is right, and at midnight the server goes away for good.

Bars: the report's carbon is within 3 % of the simulation's; the run pauses and resumes, within an hour of when the
simulation does; it is over before its deadline; saves against running at once; and with the provider dead at midnight
ends in the same hours, with the grade `forecast`. It pauses where starting workers takes less than two such hours.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path("../shared/data")
FILE = Path("carbon_forecasts_dacf_2021H2") / "CISO_actual_vs_dayahead.csv"
ORIGINAL = "github.com/carbonfirst/DACF, data/CISO"
HOUR_S, QUICK_HOUR_S = 5.0, 3.0
CARBON_BAR, TURN_BAR_HOURS = 0.03, 1.0
_PATIENCE_S = 420


def main() -> int:
    arguments = _arguments()
    data = arguments.data / FILE
    if not data.exists():
        print(f"skipped: {data} is not there; the originals are at {ORIGINAL}")
        print(json.dumps({"skipped": str(data)}))
        return 0
    hour_s = arguments.hour_s or (QUICK_HOUR_S if arguments.quick else HOUR_S)
    days = arguments.days or (["plain"] if arguments.quick else ["plain", "dying"])
    rows = []
    with tempfile.TemporaryDirectory(prefix="joulekeeper-live-day-") as directory:
        for day in days:
            rows.append(_judged(_lived(day, hour_s, data, Path(directory))))
            _print(rows[-1])
    figures = {"days": rows, "hour_s": hour_s, **_place()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    print(json.dumps({**figures, "days": [{key: row[key] for key in row if key != "decisions"} for row in rows]}))
    return 0 if all(row["met"] for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"hours of {QUICK_HOUR_S:g} s, the plain day alone")
    parser.add_argument("--hour-s", type=float, help="seconds of an hour, where a start takes longer than one of five")
    parser.add_argument("--days", nargs="+", choices=("plain", "dying"), help="these alone")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser.parse_args()


def _lived(day: str, hour_s: float, data: Path, directory: Path) -> dict[str, Any]:
    """What live_day_run.py found, in a process and a cluster of its own."""
    found = directory / f"{day}.json"
    script = str(Path(__file__).with_name("live_day_run.py"))
    asked = [sys.executable, script, day, str(hour_s), str(data.resolve()), str(directory / day), str(found)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    subprocess.run(asked, check=True, env=environment, timeout=_PATIENCE_S)
    return json.loads(found.read_text())


def _judged(row: dict[str, Any]) -> dict[str, Any]:
    apart = row["report_g"] / row["simulated_g"] - 1
    turns = list(zip(row["hours"], row["simulated_hours"], strict=False))
    off = max((abs(one - other) for live, paper in turns for one, other in zip(live, paper, strict=True)), default=0.0)
    faults = []
    if abs(apart) > CARBON_BAR:
        faults.append(f"the report is {apart:+.1%} from the simulation")
    if len(row["hours"]) < 2:
        faults.append(f"it never paused: a start took {row['setup_s'] / row['hour_s']:.1f} of its hours")
    if len(row["hours"]) != len(row["simulated_hours"]) or off > TURN_BAR_HOURS:
        faults.append("its hours are not those of the simulation")
    if row["ended_hour"] > row["deadline_hour"]:
        faults.append("it was late")
    if row["report_g"] >= row["at_once_g"]:
        faults.append("it saved nothing")
    if row["grade"] != ("forecast" if row["day"] == "dying" else "actual"):
        faults.append(f"its grade is {row['grade']}")
    return row | {"apart": apart, "turns_off_hours": off, "faults": faults, "met": not faults}


def _print(row: dict[str, Any]) -> None:
    print(f"{row['day']}: {row['work_hours']:.1f} h of work, deadline after {row['deadline_hour']:.0f} h")
    print(f"{'':14}{'carbon':>12}{'energy':>10}{'over at':>9}  hours with workers")
    for name, grams, joules, ended, hours in (
        ("report", row["report_g"], row["joules"], row["ended_hour"], row["hours"]),
        (
            "simulation",
            row["simulated_g"],
            row["simulated_joules"],
            row["simulated_ended_hour"],
            row["simulated_hours"],
        ),
        ("planned first", row["planned_g"], row["planned_joules"], row["planned_ended_hour"], row["planned_hours"]),
        ("at once", row["at_once_g"], row["at_once_joules"], row["work_hours"], [[0, row["work_hours"]]]),
    ):
        shown = ", ".join(f"{begin:.1f}-{end:.1f}" for begin, end in hours)
        print(f"{name:14}{grams * 1e6:9.1f} ug{joules:8.1f} J{ended:9.1f}  {shown}")
    print(
        f"report {row['apart']:+.2%} from the simulation, {row['report_g'] / row['at_once_g'] - 1:+.1%} from at once; "
        f"{row['attempts']} starts of {row['setup_s']:.1f} s and {row['setup_j']:.1f} J, {row['power_w']:.2f} W; "
        f"grade {row['grade']}; {row['decisions_made']} decisions"
    )
    print("met" if row["met"] else f"MISSED: {'; '.join(row['faults'])}", flush=True)


def _place() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("ray", "torch", "numpy")}
    return {
        "versions": versions,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "date": time.strftime("%F"),
    }


if __name__ == "__main__":
    sys.exit(main())
