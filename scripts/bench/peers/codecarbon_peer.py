"""CodeCarbon measures the windows of the plan: a task per window, a tracker per lane, in an environment of its own.

    venv/bin/python codecarbon_peer.py DIRECTORY codecarbon|codecarbon_default windows|wall|sample DEVICES [COUNT|HZ]

OfflineEmissionsTracker with start_task/stop_task, as documented; GPU energy only (CPU and memory are set to constants,
the cheapest it offers). The total of a device is a tracker of its own with start/stop: one measuring every second, one
with the default of 15 s. Needs an nvidia-smi on the path that answers. Energy in uJ.
"""

import os
import sys
import time
from pathlib import Path

from codecarbon import OfflineEmissionsTracker
from schedule import Room, measure

UJ_PER_KWH = 3_600_000_000_000
BEST_S, DEFAULT_S = 1, 15
LANES = 4
"""Windows of one device that may be open at once."""


def tracker(gpus: list[int], every_s: float = BEST_S) -> OfflineEmissionsTracker:
    return OfflineEmissionsTracker(
        country_iso_code="USA",
        save_to_file=False,
        log_level="critical",
        tracking_mode="machine",
        gpu_ids=gpus,
        allow_multiple_runs=True,
        force_cpu_power=1,
        force_ram_power=1,
        measure_power_secs=every_s,
    )


def warmed(gpus: list[int]) -> OfflineEmissionsTracker:
    """A tracker that has looked for its hardware already."""
    own = tracker(gpus)
    own.start_task("warm-up")
    own.stop_task()
    return own


def task_calls(own: OfflineEmissionsTracker) -> tuple:
    def begin(window: str) -> None:
        own.start_task(window)

    def end(window: str, _: object) -> float:
        return own.stop_task(window).gpu_energy * UJ_PER_KWH

    return begin, end


def whole_calls(own: OfflineEmissionsTracker) -> tuple:
    def begin(_: str) -> None:
        own.start()

    def end(window: str, _: object) -> float:
        own.stop()
        return own.final_emissions_data.gpu_energy * UJ_PER_KWH

    return begin, end


def windows(room: Room, devices: int) -> None:
    """Tasks for windows; `codecarbon_default` only measures the totals, every 15 s."""
    only_totals = room.name == "codecarbon_default"
    lanes_each = 1 if only_totals else LANES
    pool = {device: [warmed([device]) for _ in range(lanes_each)] for device in range(devices)}
    totals = {device: tracker([device], DEFAULT_S if only_totals else BEST_S) for device in range(devices)}
    room.ready()
    plan = room.plan()

    def open_lane(lane: dict) -> tuple:
        if lane["windows"][0][0].startswith("total"):
            return whole_calls(totals[lane["device"]])
        return task_calls(pool[lane["device"]].pop())

    lanes = plan["totals"] if only_totals else plan["lanes"] + plan["totals"]
    room.answer(measure(lanes, open_lane))


def wall(room: Room, count: int) -> None:
    """Wall and CPU cost of one task over one device."""
    own = warmed([0])
    seconds = []
    cpu = time.process_time()
    for number in range(count):
        begun = time.perf_counter()
        own.start_task(str(number))
        own.stop_task()
        seconds.append(time.perf_counter() - begun)
    room.answer({"wall_s": seconds, "cpu_s": (time.process_time() - cpu) / count})


def sample(room: Room, devices: int, hz: float) -> None:
    """Measure every device at `hz` until told to stop."""
    own = tracker(list(range(devices)), 1 / hz)
    own.start()
    room.ready()
    room.wait("stop")
    own.stop()


def main() -> None:
    room, mode, devices = Room(Path(sys.argv[1]), sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if mode == "windows":
        windows(room, devices)
    elif mode == "wall":
        wall(room, int(sys.argv[5]))
    else:
        sample(room, devices, float(sys.argv[5]))
    os._exit(0)  # its timers never end


if __name__ == "__main__":
    main()
