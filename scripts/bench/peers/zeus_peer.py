"""Zeus measures the windows of the plan: a ZeusMonitor per device, in an environment of its own.

    venv/bin/python zeus_peer.py DIRECTORY zeus|zeus_approx windows|wall|sample|loop DEVICES [COUNT|HZ]

`zeus_approx` turns approx_instant_energy on. There is no framework to synchronise with: none runs on the device. Energy
in uJ.
"""

import logging
import os
import sys
import time
import warnings
from pathlib import Path

from schedule import Room, measure
from zeus.monitor import PowerMonitor, ZeusMonitor

UJ_PER_J = 1_000_000


def monitor(device: int, approximate: bool) -> ZeusMonitor:
    return ZeusMonitor(gpu_indices=[device], cpu_indices=[], approx_instant_energy=approximate)


def windows(room: Room, devices: int) -> None:
    """Measure the plan's windows and, over all of it, every device once."""
    approximate = room.name == "zeus_approx"
    monitors = [monitor(device, approximate) for device in range(devices)]
    room.ready()

    def open_lane(lane: dict) -> tuple:
        own = monitors[lane["device"]]

        def begin(window: str) -> None:
            own.begin_window(window, sync_execution=False)

        def end(window: str, _: object) -> float:
            return own.end_window(window, sync_execution=False).total_energy * UJ_PER_J

        return begin, end

    plan = room.plan()
    room.answer(measure(plan["lanes"] + plan["totals"], open_lane))


def wall(room: Room, devices: int, count: int) -> None:
    """Wall and CPU cost of one window over one device."""
    own = monitor(0, False)
    seconds = []
    cpu = time.process_time()
    for number in range(count):
        begun = time.perf_counter()
        own.begin_window(str(number), sync_execution=False)
        own.end_window(str(number), sync_execution=False)
        seconds.append(time.perf_counter() - begun)
    room.answer({"wall_s": seconds, "cpu_s": (time.process_time() - cpu) / count})


def sample(room: Room, devices: int, hz: float) -> None:
    """Sample every device at `hz` until told to stop: PowerMonitor, Zeus's own sampler, in a process that it starts.

    One power domain, the cheapest setting; by default it polls up to three.
    """
    gpus = list(range(devices))
    sampler = PowerMonitor(gpu_indices=gpus, update_period=1 / hz, power_domains=["device_instant"])
    room.ready()
    room.wait("stop")
    sampler.stop()


def window_loop(room: Room, devices: int, hz: float) -> None:
    """A window over every device, ended and begun anew at `hz` until told to stop: counters by polling."""
    own = ZeusMonitor(gpu_indices=list(range(devices)), cpu_indices=[])
    own.begin_window("loop", sync_execution=False)
    room.ready()
    stop, due = room.directory / "stop.json", time.monotonic()
    while not stop.exists():
        own.end_window("loop", sync_execution=False)
        own.begin_window("loop", sync_execution=False)
        due += 1 / hz
        time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    room, mode = Room(Path(sys.argv[1]), sys.argv[2]), sys.argv[3]
    devices = int(sys.argv[4])
    if mode == "windows":
        windows(room, devices)
    elif mode == "wall":
        wall(room, devices, int(sys.argv[5]))
    elif mode == "loop":
        window_loop(room, devices, float(sys.argv[5]))
    else:
        sample(room, devices, float(sys.argv[5]))
    os._exit(0)  # its helper processes and threads have nothing more to say


if __name__ == "__main__":
    main()
