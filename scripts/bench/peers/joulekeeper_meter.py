"""Joulekeeper's meter without Ray: the real books of a node over the real NVML sensor, sampled as the meter actor does.

    python joulekeeper_meter.py DIRECTORY NAME [read | show]

Samples every 100 ms and commits every second (every five while nobody works, as the meter does) until `stop` appears;
then takes the closing reading. The settings come from JOULEKEEPER_* in the environment. With `read` it only reads every
device at the same rate and keeps no books; with `show` it also writes the board from which receipts are estimated.
"""

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[3])]

from schedule import Room  # noqa: E402

from app.config import Settings, settings  # noqa: E402
from app.ledger.board import BoardWriter  # noqa: E402
from app.metering.meter import find_sensors, open_books, show_present  # noqa: E402
from app.metering.place import board_path  # noqa: E402

_IDLE_FLUSHES = 5


def read_only(room: Room, config: Settings) -> None:
    """The sensor alone: counters by polling."""
    sensors = find_sensors(config)
    room.ready()
    stop, due = room.directory / "stop.json", time.monotonic()
    while not stop.exists():
        for sensor in sensors:
            for device in sensor.devices:
                sensor.read(device.uuid)
        due += 1 / config.sample_hz
        time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    room, config = Room(Path(sys.argv[1]), sys.argv[2]), settings()
    if "read" in sys.argv[3:]:
        read_only(room, config)
        return
    books = open_books(config)
    books.tick()
    board = BoardWriter(board_path(config)) if "show" in sys.argv[3:] else None
    room.ready()
    stop, committed, ticks = room.directory / "stop.json", 0.0, 0
    while not stop.exists():
        begun = time.monotonic()
        books.tick()
        ticks += 1
        if board:
            show_present(board, books, 0.0)
        flush_s = config.flush_s if books.rings.rings else config.flush_s * _IDLE_FLUSHES
        if begun - committed >= flush_s:
            committed = begun
            books.commit()
        time.sleep(max(0.0, begun + 1 / config.sample_hz - time.monotonic()))
    books.tick()
    books.commit(final=True)
    books.journal.close()
    room.answer({"ticks": ticks, "failures": dict(books.failures)})


if __name__ == "__main__":
    main()
