"""Joulekeeper's end of the work: slices opened and closed at the plan's times, receipts read when the meter has left.

    python joulekeeper_work.py DIRECTORY work-0 UUID,UUID,...   [COUNT]   # every device, by its place in the plan

The real client and rings, without Ray. A ring for each process of the plan that this one stands for. Energy in uJ.
With COUNT: the wall cost of so many slices, nothing else.
"""

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[3])]

from schedule import Room, measure  # noqa: E402

from app.domain.account import request_account, warm_account  # noqa: E402
from app.metering.client import OpenSlice, WorkClient  # noqa: E402


def settled(slices: dict[str, OpenSlice], records: dict) -> dict:
    """The records with the energy of each slice's receipt; a receipt still provisional is a fault."""
    for window, piece in slices.items():
        energy = piece.energy()
        if energy is None or energy.provisional:
            records[window]["fault"] = "the receipt is not settled"
        else:
            records[window] |= {"energy": energy.energy_uj, "grade": energy.grade}
    return records


def wall(room: Room, uuid: str, count: int) -> None:
    """Wall and CPU cost of one slice, receipt id included."""
    client = WorkClient.open(warm_account("wall", "1"), devices=[uuid])
    account = request_account("bench", "wall", "1")
    seconds, cpu = [], time.process_time()
    for _ in range(count):
        begun = time.perf_counter()
        piece = client.begin(account)
        piece.end()
        assert piece.receipt_id
        seconds.append(time.perf_counter() - begun)
    cpu_s = (time.process_time() - cpu) / count
    client.close()
    room.answer({"wall_s": seconds, "cpu_s": cpu_s})


def main() -> None:
    if len(sys.argv) > 4:
        wall(Room(Path(sys.argv[1]), sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return
    room, uuids = Room(Path(sys.argv[1]), sys.argv[2]), sys.argv[3].split(",")
    processes = room.wait(f"{room.name}.processes")
    clients = {name: WorkClient.open(warm_account(name, "1"), devices=[uuids[n]]) for name, n in processes.items()}
    accounts = {name: request_account("bench", name, "1") for name in processes}
    slices: dict[str, OpenSlice] = {}
    room.ready()
    plan = room.plan()

    def open_lane(lane: dict) -> tuple:
        client, account, weights = clients[lane["process"]], accounts[lane["process"]], lane["weights"]

        def begin(window: str) -> None:
            slices[window] = client.begin(account, weights[window])

        def end(window: str, _: object) -> None:
            slices[window].end()

        return begin, end

    own = [lane for lane in plan["lanes"] if lane["process"] in processes]
    records = measure(own, open_lane)
    room.wait("booked")
    room.answer(settled(slices, records))
    for client in clients.values():
        client.close()


if __name__ == "__main__":
    main()
